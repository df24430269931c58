"""What a terminal shows, so that somebody who comes later sees it too: an emulator that is fed a little at a time.

A program may write a hundred times what the emulator reads. So output waits here and is read in ``step``s while there
is time; of a flood only the end is read, since nobody can have seen the rest, but the modes that it set are kept. pyte
has one screen and no scrollback worth its time, so the alternate screen and the lines that left are kept here.
"""

from __future__ import annotations

import codecs
import copy
import re
from collections import deque
from collections.abc import Callable, Iterator, Sequence

from pyte import charsets

from loopsy.core.screen_grid import Grid, Line
from loopsy.core.screen_paint import painted, text_of
from loopsy.core.screen_parser import Parser, colours, numbers

HISTORY = 2000
"""Lines of scrollback: what common terminals keep."""
HISTORY_CHARS = 2_000_000
"""In all of them: long lines, each cell in a colour of its own, would else be some hundred MB."""
WAITING = 256 * 1024
"""Bytes that wait for the emulator; beyond that all but the last KEPT are passed over."""
KEPT = 128 * 1024
"""More than HISTORY lines of usual length."""
STEP = 8 * 1024
"""Bytes read at a time: some milliseconds, in which nobody else is served."""
ALTERNATE = frozenset((47, 1047, 1049))
KEEPS_CURSOR = 1049
STATEFUL = re.compile(
    rb"\x1b(?:c|\[\?[\d;]{1,60}[hl]|\[4[hl]|\[!p|\[[\d;]{0,20}r|[()][0-9A-Z]|[=>78]|\[[0-9;:]{0,60}m|\[\d? q)"
)
"""What changes more than the screen's content: of output that is passed over these still count."""
STATES = 1000
"""Of them at most so many, each once: a flood may consist of nothing else."""
REMEMBERED = frozenset((1, 5, 9, 12, 25, 1000, 1002, 1003, 1004, 1005, 1006, 1007, 1015, 1016, 2004, 2026, 2031))
"""Private modes that a viewer's own terminal must be told of."""
ORIGIN, WRAP, SAVE_CURSOR = 6, 7, 1048
CONTROLS = {
    "\b": "backspace", "\t": "tab", "\n": "linefeed", "\v": "linefeed", "\f": "linefeed", "\r": "carriage_return",
    "\x0e": "shift_out", "\x0f": "shift_in",
}  # fmt: skip
ESCAPES = {"D": "index", "E": "next_line", "M": "reverse_index", "H": "set_tab_stop", "7": "save_cursor",
           "8": "restore_cursor"}  # fmt: skip
SEQUENCES = {
    "@": ("insert_characters", 1), "A": ("cursor_up", 1), "B": ("cursor_down", 1), "C": ("cursor_forward", 1),
    "D": ("cursor_back", 1), "E": ("cursor_down1", 1), "F": ("cursor_up1", 1), "G": ("cursor_to_column", 1),
    "H": ("cursor_position", 2), "I": ("forward_tab", 1), "K": ("erase_in_line", 1), "L": ("insert_lines", 1),
    "M": ("delete_lines", 1), "P": ("delete_characters", 1), "S": ("scroll_up", 1), "T": ("scroll_down", 1),
    "X": ("erase_characters", 1), "Z": ("back_tab", 1), "`": ("cursor_to_column", 1), "a": ("cursor_forward", 1),
    "b": ("repeat", 1), "d": ("cursor_to_line", 1), "e": ("cursor_down", 1), "f": ("cursor_position", 2),
    "g": ("clear_tab_stop", 1), "r": ("set_margins", 2),
}  # fmt: skip
"""What is asked of a Grid, and with how many numbers."""


class Screen:
    """The state of one terminal."""

    def __init__(self, columns: int, lines: int) -> None:
        self.columns, self.lines = columns, lines
        self._past: deque[str] = deque()
        self._past_chars = 0
        self._main = Grid(columns, lines, self._left)
        self._other: Grid | None = None
        self._waiting = bytearray()
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._parser = Parser(self)
        self._modes: dict[int, bool] = {}
        self._keypad = self._shape = ""

    @property
    def grid(self) -> Grid:
        """The screen that is shown: the main one, or the alternate one."""
        return self._other or self._main

    def _left(self, line: Line) -> None:
        text = text_of(line, self.columns)
        self._past.append(text)
        self._past_chars += len(text)
        while len(self._past) > HISTORY or self._past_chars > HISTORY_CHARS:
            self._past_chars -= len(self._past.popleft())

    # -- what comes ---------------------------------------------------------------------------------------------------
    def feed(self, data: bytes) -> None:
        """Some output; it is read in ``step``."""
        self._waiting += data
        if len(self._waiting) > WAITING:
            self._pass_over(len(self._waiting) - KEPT)

    def _pass_over(self, count: int) -> None:
        cut = self._waiting.rfind(b"\n", 0, count) + 1 or count
        passed, self._waiting = bytes(self._waiting[:cut]), self._waiting[cut:]
        self._decoder.reset()
        self._parser.forget()
        last_first = dict.fromkeys(reversed(STATEFUL.findall(passed)))
        for sequence in reversed(list(last_first)[:STATES]):
            self._read(sequence)

    @property
    def is_behind(self) -> bool:
        """Whether something waits to be read."""
        return bool(self._waiting)

    def step(self) -> bool:
        """Read a little; whether more waits."""
        piece = bytes(self._waiting[:STEP])
        del self._waiting[:STEP]
        self._read(piece)
        return bool(self._waiting)

    def _read(self, data: bytes) -> None:
        self._parser.feed(self._decoder.decode(data))

    # -- what it means (the parser's Display) ---------------------------------------------------------------------
    def draw(self, text: str) -> None:
        """Characters to show."""
        self.grid.draw(text)

    def control(self, char: str) -> None:
        """A control character."""
        name = CONTROLS.get(char)
        self.grid.drawn = ""
        if name is not None:
            getattr(self.grid, name)()

    def escape(self, between: str, final: str) -> None:
        """``ESC between final``."""
        self.grid.drawn = ""
        if between in ("(", ")"):
            self.grid.define_charset(final if final in charsets.MAPS else "B", between)
        elif between == "#" and final == "8":
            self.grid.alignment_display()
        elif between:
            return
        elif final in ESCAPES:
            getattr(self.grid, ESCAPES[final])()
        elif final in "=>":
            self._keypad = final
        elif final == "c":
            self._reset()

    def csi(self, prefix: str, parameters: Sequence[str], between: str, final: str) -> None:
        """``CSI prefix parameters between final``."""
        if prefix or between:
            self._rare(prefix, parameters, between, final)
        elif final == "m":
            self.grid.select_graphic_rendition(*colours(parameters))
        elif final == "J":
            self._erase(numbers(parameters, 1)[0])
        elif final in "hl":
            found = {number for number in numbers(parameters, 16) if number in (4, 20)}
            self.grid.mode = self.grid.mode | found if final == "h" else self.grid.mode - found
        elif final in "su":
            if parameters == [""]:
                getattr(self.grid, "save_cursor" if final == "s" else "restore_cursor")()
        elif final in SEQUENCES:
            name, count = SEQUENCES[final]
            getattr(self.grid, name)(*numbers(parameters, count))
        self.grid.drawn = ""

    def _rare(self, prefix: str, parameters: Sequence[str], between: str, final: str) -> None:
        if prefix == "?" and not between and final in "hl":
            for number in numbers(parameters, 16):
                self._private_mode(number, final == "h")
        elif prefix == "?" and not between and final == "J":
            self._erase(numbers(parameters, 1)[0])
        elif prefix == "?" and not between and final == "K":
            self.grid.erase_in_line(numbers(parameters, 1)[0])
        elif between == " " and final == "q":
            self._shape = f"\x1b[{numbers(parameters, 1)[0]} q"
        elif between == "!" and final == "p":
            self.grid.soft_reset()
            self._keypad = ""
            self._modes = {number: on for number, on in self._modes.items() if number not in (1, 25)}

    def _erase(self, how: int) -> None:
        if how == 3:
            self._past.clear()
            self._past_chars = 0
        else:
            self.grid.erase_in_display(how)

    def _private_mode(self, number: int, on: bool) -> None:
        if number in ALTERNATE:
            self._switch(on, number)
        elif number == SAVE_CURSOR:
            getattr(self.grid, "save_cursor" if on else "restore_cursor")()
        elif number in (ORIGIN, WRAP):
            change: Callable[..., None] = self.grid.set_mode if on else self.grid.reset_mode
            change(number, private=True)
        elif number in REMEMBERED:
            self._modes[number] = on

    def _switch(self, to_other: bool, number: int) -> None:
        if to_other and self._other is None:
            self._other = Grid(self.columns, self.lines)
            self._other.take_over(self._main)
            self._other.cursor = copy.copy(self._main.cursor)
        elif not to_other and self._other is not None:
            self._main.take_over(self._other)
            if number != KEEPS_CURSOR:
                self._main.cursor = copy.copy(self._other.cursor)
            self._other = None

    def _reset(self) -> None:
        self._other = None
        self._modes.clear()
        self._keypad = self._shape = ""
        self._main.reset()
        self._erase(3)

    def resize(self, columns: int, lines: int) -> None:
        """The viewers' windows changed."""
        self.columns, self.lines = columns, lines
        self._main.resize(lines, columns)
        if self._other is not None:
            self._other.resize(lines, columns)

    # -- what is shown --------------------------------------------------------------------------------------------
    def repaint(self) -> bytes:
        """What makes an empty terminal of this size show the same: scrollback, screen, cursor, modes, and what it
        takes so that the rest of a sequence whose begin has been read is understood."""
        parts = ["\x1bc", *self._scrollback(), *painted(self._main, self._other is None)]
        if self._other is not None:
            parts += ["\x1b[?1049h\x1b[0m\x1b[r\x1b[2J", *painted(self._other, True)]
        if not self.grid.mode & {WRAP << 5}:
            parts.append("\x1b[?7l")
        parts += [f"\x1b[?{mode}{'h' if on else 'l'}" for mode, on in sorted(self._modes.items())]
        parts += [f"\x1b{self._keypad}" if self._keypad else "", self._shape, self._parser.unfinished]
        return "".join(parts).encode("utf-8", "replace") + self._decoder.getstate()[0]

    def _scrollback(self) -> Iterator[str]:
        for line in self._past:
            yield line + "\r\n"
        if self._past:  # push what is still on the first screen up into the scrollback
            yield "\n" * (self.lines - 1) + "\x1b[H"
