"""What a terminal shows, so that somebody who comes later sees it too: an emulator that is fed a little at a time.

pyte reads about 1 MB/s, a program may write a hundred times that. So output waits here and is read in ``step``s while
there is time; of a flood only the end is read, since nobody can have seen the rest, but the modes that it set are kept.
pyte has one screen and no scrollback worth its time, so the alternate screen and the lines that left are kept here.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

import pyte
from pyte.screens import Char

HISTORY = 2000
"""Lines of scrollback: what common terminals keep."""
WAITING = 256 * 1024
"""Bytes that wait for the emulator; beyond that all but the last KEPT are passed over."""
KEPT = 128 * 1024
"""More than HISTORY lines of usual length."""
STEP = 8 * 1024
"""Bytes read at a time: some milliseconds, in which nobody else is served."""
ALTERNATE = frozenset(("47", "1047", "1049"))
PRIVATE = re.compile(rb"\x1b\[\?([\d;]{1,60})([hl])")
STATEFUL = re.compile(
    rb"\x1bc|\x1b\[\?[\d;]{1,60}[hl]|\x1b\[[\d;]{0,20}r|\x1b[()][0-9A-Z]|\x1b[=>78]|\x1b\[[0-9;:]{0,60}m"
)
"""What changes more than the screen's content: of output that is passed over these still count."""
REMEMBERED = ("1", "7", "9", "12", "25", "1000", "1002", "1003", "1004", "1005", "1006", "1007", "1015", "2004")
"""Private modes that a viewer's own terminal must be told of."""
UNFINISHED = re.compile(rb"\x1b(?:\[[\d;?]{0,60})?$")
COLOURS: Mapping[str, int] = {
    "black": 0, "red": 1, "green": 2, "brown": 3, "blue": 4, "magenta": 5, "cyan": 6, "white": 7,
}  # fmt: skip
FLAGS = (("bold", 1), ("italics", 3), ("underscore", 4), ("blink", 5), ("reverse", 7), ("strikethrough", 9))


class _Grid(pyte.Screen):
    """One screen; lines that leave at its top go to ``past``."""

    def __init__(self, columns: int, lines: int, past: deque[Any] | None) -> None:
        self.past = past
        super().__init__(columns, lines)

    def index(self) -> None:
        """One line down; at the bottom the top line leaves."""
        if self.past is not None and self.margins is None and self.cursor.y == self.lines - 1:
            self.past.append(self.buffer[0])
        super().index()


class Screen:
    """The state of one terminal."""

    def __init__(self, columns: int, lines: int) -> None:
        self.columns, self.lines = columns, lines
        self._past: deque[Any] = deque(maxlen=HISTORY)
        self._main = _Grid(columns, lines, self._past)
        self._other = _Grid(columns, lines, None)
        self._is_other = False
        self._stream = pyte.ByteStream(self._main)
        self._waiting = bytearray()
        self._modes: dict[str, bool] = {}

    # -- what comes ---------------------------------------------------------------------------------------------------
    def feed(self, data: bytes) -> None:
        """Some output; it is read in ``step``."""
        self._waiting += data
        if len(self._waiting) > WAITING:
            self._pass_over(len(self._waiting) - KEPT)

    def _pass_over(self, count: int) -> None:
        cut = self._waiting.rfind(b"\n", 0, count) + 1 or count
        passed, self._waiting = bytes(self._waiting[:cut]), self._waiting[cut:]
        for match in STATEFUL.finditer(passed):
            self._read(match[0])

    @property
    def is_behind(self) -> bool:
        """Whether something waits to be read."""
        return bool(self._waiting)

    def step(self) -> bool:
        """Read a little; whether more waits."""
        piece = bytes(self._waiting[:STEP])
        if len(self._waiting) > len(piece):
            unfinished = UNFINISHED.search(piece)
            if unfinished is not None and unfinished.start():
                piece = piece[: unfinished.start()]
        del self._waiting[: len(piece)]
        self._read(piece)
        return bool(self._waiting)

    def _read(self, data: bytes) -> None:
        """Switch screens where the program does; the rest is pyte's."""
        at = 0
        for match in PRIVATE.finditer(data):
            numbers, on = match[1].decode().split(";"), match[2] == b"h"
            self._modes.update({number: on for number in numbers if number in REMEMBERED})
            if ALTERNATE.intersection(numbers):
                self._stream.feed(data[at : match.start()])
                at = match.end()
                self._switch(on)
        self._stream.feed(data[at:])

    def _switch(self, to_other: bool) -> None:
        if to_other == self._is_other:
            return
        self._is_other = to_other
        if to_other:
            self._other = _Grid(self.columns, self.lines, None)
        self._stream.detach(self._main if to_other else self._other)
        self._stream.attach(self._other if to_other else self._main)

    def resize(self, columns: int, lines: int) -> None:
        """The viewers' windows changed."""
        self.columns, self.lines = columns, lines
        for grid in (self._main, self._other):
            grid.resize(lines, columns)

    # -- what is shown --------------------------------------------------------------------------------------------
    def repaint(self) -> bytes:
        """What makes an empty terminal of this size show the same: scrollback, screen, cursor and modes."""
        parts = ["\x1bc", *self._scrollback()]
        parts += _painted(self._main, self.columns)
        if self._is_other:
            parts += ["\x1b[?1049h", *_painted(self._other, self.columns)]
        parts += [f"\x1b[?{mode}{'h' if on else 'l'}" for mode, on in self._modes.items()]
        return "".join(parts).encode("utf-8", "replace")

    def _scrollback(self) -> Iterator[str]:
        for line in self._past:
            yield _text_of(line, self.columns) + "\r\n"
        if self._past:  # push what is still on the first screen up into the scrollback
            yield "\n" * (self.lines - 1) + "\x1b[H"


def _painted(grid: _Grid, columns: int) -> Iterator[str]:
    """The content of a screen, then its scroll region, its cursor and the cursor's colours."""
    yield "\x1b[2J"
    for number in range(grid.lines):
        text = _text_of(grid.buffer[number], columns)
        if text:
            yield f"\x1b[{number + 1};1H{text}"
    if grid.margins is not None:
        yield f"\x1b[{grid.margins.top + 1};{grid.margins.bottom + 1}r"
    yield f"\x1b[0m\x1b[{grid.cursor.y + 1};{min(grid.cursor.x, columns - 1) + 1}H{_style(grid.cursor.attrs)}"


def _text_of(line: Mapping[int, Char], columns: int) -> str:
    """A line with its colours, without what is blank at its end."""
    end = max((at for at, cell in line.items() if at < columns and not _is_blank(cell)), default=-1) + 1
    parts: list[str] = []
    before = ""
    for at in range(end):
        cell = line[at]
        style = _style(cell)
        if style != before:
            parts.append(style or "\x1b[0m")
            before = style
        parts.append(cell.data)
    return "".join(parts) + ("\x1b[0m" if before else "")


def _is_blank(cell: Char) -> bool:
    return cell.data == " " and cell.bg == "default" and not (cell.reverse or cell.underscore or cell.strikethrough)


def _style(cell: Char) -> str:
    """The escape that sets a cell's colours from none; empty for none."""
    codes = [str(code) for name, code in FLAGS if getattr(cell, name)]
    codes += _colour(cell.fg, 30) + _colour(cell.bg, 40)
    return f"\x1b[0;{';'.join(codes)}m" if codes else ""


def _colour(name: str, base: int) -> list[str]:
    """pyte's names: ``red``, ``brightred``, or six hex digits."""
    if name == "default":
        return []
    bright = name.startswith(("bright", "bfight"))  # pyte 0.8 misspells one of them
    plain = name[6:] if bright else name
    if plain in COLOURS:
        return [str(base + COLOURS[plain] + (60 if bright else 0))]
    try:
        red, green, blue = bytes.fromhex(name)
    except ValueError:
        return []
    return [f"{base + 8};2;{red};{green};{blue}"]
