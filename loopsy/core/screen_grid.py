"""One screen of a terminal: pyte's, mended where real terminals do otherwise, and bounded where a program could make it
grow."""

from __future__ import annotations

import copy
import unicodedata
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import pyte
from pyte import charsets, modes
from pyte.screens import Char, Savepoint
from wcwidth import wcwidth

MARKS = 8
"""Combining characters on one cell: more are art, or an attack."""
BLANK = Char(" ")
PALETTE = "palette "
"""Before the number of a colour."""
Line = dict[int, Char]


class _Cells(dict[str, Char]):
    """The cells of one style, made once each: a screen full of text shares them."""

    def __init__(self, style: Char) -> None:
        self._style = style

    def __missing__(self, char: str) -> Char:
        cell = self[char] = self._style._replace(data=char)
        return cell


_cells = lru_cache(64)(_Cells)
width_of = lru_cache(4096)(wcwidth)


class Grid(pyte.Screen):
    """``leave`` gets the lines that scroll out at the top."""

    def __init__(self, columns: int, lines: int, leave: Callable[[Line], None] | None = None) -> None:
        self._leave = leave
        self.drawn = ""
        """The character that REP repeats: the last one, if nothing came between."""
        super().__init__(columns, lines)

    @property
    def default_char(self) -> Char:
        """An empty cell. (Reverse video of the whole screen is left to whoever shows it.)"""
        return BLANK

    def reset(self) -> None:
        """RIS. Both character sets are ASCII, as in xterm."""
        super().reset()
        self.g1_charset = charsets.LAT1_MAP
        self.savepoints = []

    # -- text -----------------------------------------------------------------------------------------------------
    def draw(self, data: str) -> None:
        """Text without control characters."""
        charset = self.g1_charset if self.charset else self.g0_charset
        if charset is not charsets.LAT1_MAP:
            data = data.translate(charset)
        if data:
            if data.isascii() and modes.IRM not in self.mode:
                self._draw_narrow(data)
            else:
                for char in data:
                    self._draw_one(char)
            self.drawn = data[-1]

    def _draw_narrow(self, data: str) -> None:
        cells = _cells(self.cursor.attrs)
        at = 0
        while at < len(data):
            self._make_room(1)
            x = self.cursor.x
            piece = data[at : at + self.columns - x]
            line, end = self.buffer[self.cursor.y], x + len(piece)
            self._mend(line, x, end)
            line.update(zip(range(x, end), map(cells.__getitem__, piece), strict=True))
            self.cursor.x = end
            at += len(piece)

    def _draw_one(self, char: str) -> None:
        width = width_of(char)
        if width <= 0:
            if unicodedata.combining(char) or char in "\u200d\ufe0e\ufe0f":
                self._combine(char)
            return
        width = min(width, self.columns)
        self._make_room(width)
        if modes.IRM in self.mode:
            self.insert_characters(width)
        x, line, cells = self.cursor.x, self.buffer[self.cursor.y], _cells(self.cursor.attrs)
        self._mend(line, x, x + width)
        line[x] = cells[char]
        if width == 2:
            line[x + 1] = cells[""]
        self.cursor.x = x + width

    def _make_room(self, width: int) -> None:
        """Wrap, or stay in the last columns."""
        if self.cursor.x + width > self.columns:
            if modes.DECAWM in self.mode:
                self.carriage_return()
                self.index()
            else:
                self.cursor.x = self.columns - width

    @staticmethod
    def _mend(line: Any, x: int, end: int) -> None:
        """Of a wide character that is half overwritten the other half becomes empty."""
        if x > 0 and x in line and not line[x].data:
            line[x - 1] = line[x - 1]._replace(data=" ")
        if end in line and not line[end].data:
            line[end] = line[end]._replace(data=" ")

    def _combine(self, mark: str) -> None:
        if not self.cursor.x:
            return
        line, x = self.buffer[self.cursor.y], min(self.cursor.x, self.columns) - 1
        if not line[x].data and x:
            x -= 1
        text = unicodedata.normalize("NFC", line[x].data + mark)
        if len(text) <= MARKS:
            line[x] = line[x]._replace(data=text)

    def select_graphic_rendition(self, *attrs: int) -> None:
        """SGR. Of the palette of 256 the number is kept: what colour it is each terminal knows for itself."""
        at = begin = 0
        while at < len(attrs):
            length = {5: 3, 2: 5}.get(attrs[at + 1], 1) if attrs[at] in (38, 48) and at + 2 < len(attrs) else 1
            if length == 3:
                if begin < at:
                    super().select_graphic_rendition(*attrs[begin:at])
                name = f"{PALETTE}{attrs[at + 2]}"
                style = self.cursor.attrs
                self.cursor.attrs = style._replace(fg=name) if attrs[at] == 38 else style._replace(bg=name)
                begin = at + 3
            at += length
        if begin < len(attrs):
            super().select_graphic_rendition(*attrs[begin:])

    def repeat(self, count: int = 1) -> None:
        """REP: the last character again."""
        self.draw(self.drawn * min(count or 1, self.columns * self.lines))

    # -- lines ----------------------------------------------------------------------------------------------------
    @property
    def region(self) -> tuple[int, int]:
        """The lines that scroll: the first and the last."""
        return (self.margins.top, self.margins.bottom) if self.margins is not None else (0, self.lines - 1)

    def index(self) -> None:
        """One line down; at the bottom of the region the top line leaves."""
        top, bottom = self.region
        if self.cursor.y == bottom:
            self._scroll(top, bottom)
        else:
            self.cursor.y = min(self.cursor.y + 1, self.lines - 1)

    def _scroll(self, top: int, bottom: int) -> None:
        if self._leave is not None and top == 0:
            self._leave(self.buffer[0])
        self._move_up(top, bottom)

    def _move_up(self, top: int, bottom: int) -> None:
        buffer = self.buffer
        for y in range(top, bottom):
            if y + 1 in buffer:
                buffer[y] = buffer[y + 1]
            else:
                buffer.pop(y, None)
        buffer.pop(bottom, None)

    def _move_down(self, top: int, bottom: int) -> None:
        buffer = self.buffer
        for y in range(bottom, top, -1):
            if y - 1 in buffer:
                buffer[y] = buffer[y - 1]
            else:
                buffer.pop(y, None)
        buffer.pop(top, None)

    def reverse_index(self) -> None:
        """One line up; at the top of the region the bottom line is lost."""
        top, bottom = self.region
        if self.cursor.y == top:
            self._move_down(top, bottom)
        else:
            self.cursor.y = max(self.cursor.y - 1, 0)

    def insert_lines(self, count: int | None = None) -> None:
        """IL: at the cursor; the last lines of the region are lost."""
        self._shift_lines(self._move_down, count or 1)

    def delete_lines(self, count: int | None = None) -> None:
        """DL: at the cursor; the rest of the region moves up."""
        self._shift_lines(self._move_up, count or 1)

    def _shift_lines(self, move: Callable[[int, int], None], count: int) -> None:
        top, bottom = self.region
        if top <= self.cursor.y <= bottom:
            for _ in range(min(count, bottom - self.cursor.y + 1)):
                move(self.cursor.y, bottom)
            self.carriage_return()

    def next_line(self) -> None:
        """NEL."""
        self.carriage_return()
        self.index()

    def scroll_up(self, count: int = 1) -> None:
        """SU: the region's content moves up."""
        top, bottom = self.region
        for _ in range(min(count or 1, bottom - top + 1)):
            self._scroll(top, bottom)

    def scroll_down(self, count: int = 1) -> None:
        """SD: it moves down."""
        top, bottom = self.region
        for _ in range(min(count or 1, bottom - top + 1)):
            self._move_down(top, bottom)

    def set_margins(self, top: int | None = None, bottom: int | None = None) -> None:
        """DECSTBM: the lines that scroll; the cursor goes home."""
        first = max(top or 1, 1) - 1
        last = min(bottom or self.lines, self.lines) - 1
        if first < last:
            self.margins = None
            if (first, last) != (0, self.lines - 1):
                self.margins = pyte.screens.Margins(first, last)
            self.cursor_position()

    # -- the cursor -----------------------------------------------------------------------------------------------
    def cursor_up(self, count: int | None = None) -> None:
        """Up; not out of the region."""
        top = self.region[0] if self.cursor.y >= self.region[0] else 0
        self.cursor.x = min(self.cursor.x, self.columns - 1)
        self.cursor.y = max(self.cursor.y - (count or 1), top)

    def cursor_down(self, count: int | None = None) -> None:
        """Down; not out of the region."""
        bottom = self.region[1] if self.cursor.y <= self.region[1] else self.lines - 1
        self.cursor.x = min(self.cursor.x, self.columns - 1)
        self.cursor.y = min(self.cursor.y + (count or 1), bottom)

    def cursor_to_line(self, line: int | None = None) -> None:
        """VPA: to a line, in the same column."""
        x = min(self.cursor.x, self.columns - 1)
        self.cursor_position(line, x + 1)

    def cursor_position(self, line: int | None = None, column: int | None = None) -> None:
        """CUP: in origin mode from the region's top, and not out of it."""
        top, bottom = self.region if modes.DECOM in self.mode else (0, self.lines - 1)
        self.cursor.y = min(top + (line or 1) - 1, bottom)
        self.cursor.x = min((column or 1) - 1, self.columns - 1)

    def tab(self) -> None:
        """To the next stop; who waits at the line's end stays."""
        if self.cursor.x < self.columns:
            right = [stop for stop in self.tabstops if self.cursor.x < stop < self.columns]
            self.cursor.x = min(right, default=self.columns - 1)

    def forward_tab(self, count: int = 1) -> None:
        """CHT."""
        for _ in range(min(count or 1, self.columns)):
            self.tab()

    def back_tab(self, count: int = 1) -> None:
        """CBT."""
        for _ in range(min(count or 1, self.columns)):
            self.cursor.x = max((stop for stop in self.tabstops if stop < self.cursor.x), default=0)

    def save_cursor(self) -> None:
        """DECSC. Only the last one counts."""
        saved = Savepoint(
            copy.copy(self.cursor),
            self.g0_charset,
            self.g1_charset,
            self.charset,
            modes.DECOM in self.mode,
            False,  # wrapping is not among what is saved
        )
        self.savepoints = [saved]

    def restore_cursor(self) -> None:
        """DECRC. It can be had more than once."""
        saved = list(self.savepoints)
        self.mode.discard(modes.DECOM)
        if saved:
            super().restore_cursor()
            self.cursor = copy.copy(saved[0].cursor)
            self.cursor.x = min(self.cursor.x, self.columns - 1)
            self.cursor.y = min(self.cursor.y, self.lines - 1)
            self.savepoints = saved
        else:
            self.cursor_position()

    # -- erasing: with the background's colour only ----------------------------------------------------------------
    @property
    def _empty(self) -> Char:
        return BLANK if self.cursor.attrs.bg == "default" else BLANK._replace(bg=self.cursor.attrs.bg)

    def _clear(self, y: int, begin: int, end: int) -> None:
        if begin >= end:
            return
        line, empty = self.buffer[y], self._empty
        self._mend(line, begin, end)
        if empty is BLANK:
            for x in range(begin, end) if end - begin < len(line) else [x for x in line if begin <= x < end]:
                line.pop(x, None)
        else:
            line.update(dict.fromkeys(range(begin, end), empty))

    def erase_characters(self, count: int | None = None) -> None:
        """ECH."""
        x = min(self.cursor.x, self.columns - 1)
        self._clear(self.cursor.y, x, min(x + (count or 1), self.columns))

    def erase_in_line(self, how: int = 0, private: bool = False) -> None:
        """EL: 0 to the end, 1 from the begin, 2 all."""
        x = min(self.cursor.x, self.columns - 1)
        begin, end = {0: (x, self.columns), 1: (0, x + 1), 2: (0, self.columns)}.get(how, (0, 0))
        self._clear(self.cursor.y, begin, end)

    def erase_in_display(self, how: int = 0, *_: Any, **__: Any) -> None:
        """ED: 0 below, 1 above, 2 all."""
        y = self.cursor.y
        begin, end = {0: (y + 1, self.lines), 1: (0, y), 2: (0, self.lines)}.get(how, (0, 0))
        for line in range(begin, end):
            self._clear(line, 0, self.columns)
        if how < 2:
            self.erase_in_line(how)

    def insert_characters(self, count: int | None = None) -> None:
        """ICH."""
        x, line = min(self.cursor.x, self.columns - 1), self.buffer[self.cursor.y]
        self._mend(line, x, x)
        kept = {at: cell for at, cell in line.items() if at < x}
        moved = {at + (count or 1): cell for at, cell in line.items() if at >= x}
        line.clear()
        line.update(kept | {at: cell for at, cell in moved.items() if at < self.columns})
        self._clear(self.cursor.y, x, min(x + (count or 1), self.columns))

    def delete_characters(self, count: int | None = None) -> None:
        """DCH."""
        x, line = min(self.cursor.x, self.columns - 1), self.buffer[self.cursor.y]
        end = min(x + (count or 1), self.columns)
        self._mend(line, x, end)
        kept = {at: cell for at, cell in line.items() if at < x}
        moved = {at - (end - x): cell for at, cell in line.items() if end <= at < self.columns}
        line.clear()
        line.update(kept | moved)
        self._clear(self.cursor.y, self.columns - (end - x), self.columns)

    # -- the window -----------------------------------------------------------------------------------------------
    def resize(self, lines: int | None = None, columns: int | None = None) -> None:
        """Another size. What is below the cursor goes first; then lines leave at the top."""
        lines, columns = lines or self.lines, columns or self.columns
        self.margins = None
        for _ in range(max(0, self.cursor.y - lines + 1)):
            self._scroll(0, self.lines - 1)
            self.cursor.y -= 1
        for y in [y for y in self.buffer if y >= lines]:
            del self.buffer[y]
        if columns < self.columns:
            for line in self.buffer.values():
                self._mend(line, columns, columns)
                for x in [x for x in line if x >= columns]:
                    del line[x]
        else:
            self.tabstops.update(range(-(-self.columns // 8) * 8, columns, 8))
        self.lines, self.columns = lines, columns
        self.cursor.x = min(self.cursor.x, columns - 1)
        self.cursor.y = min(self.cursor.y, lines - 1)

    def take_over(self, other: Grid) -> None:
        """What belongs to the terminal rather than to one of its screens."""
        self.mode = set(other.mode)
        self.charset, self.g0_charset, self.g1_charset = other.charset, other.g0_charset, other.g1_charset
        self.tabstops = set(other.tabstops)

    def soft_reset(self) -> None:
        """DECSTR."""
        self.margins = None
        self.mode = {modes.DECAWM, modes.DECTCEM} | ({modes.LNM} & self.mode)
        self.cursor.attrs = BLANK
        self.charset, self.g0_charset, self.g1_charset = 0, charsets.LAT1_MAP, charsets.LAT1_MAP
        self.savepoints = []
