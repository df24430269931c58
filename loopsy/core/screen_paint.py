"""A screen as the output that paints it on an empty terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import groupby
from operator import itemgetter
from typing import Any

from pyte import charsets, modes
from pyte.screens import Char

from loopsy.core.screen_grid import PALETTE, Grid, width_of

COLOURS: Mapping[str, int] = {
    "black": 0, "red": 1, "green": 2, "brown": 3, "blue": 4, "magenta": 5, "cyan": 6, "white": 7,
}  # fmt: skip
_DATA, _STYLE = itemgetter(0), itemgetter(slice(1, None))
_PLAIN = _STYLE(Char(" "))
FLAGS = (("bold", 1), ("italics", 3), ("underscore", 4), ("blink", 5), ("reverse", 7), ("strikethrough", 9))
CHARSETS = {charsets.MAPS[code]: code for code in "0UV"}


def painted(grid: Grid, is_shown: bool) -> Iterator[str]:
    """Its content, then what is not seen: the saved cursor, the region that scrolls, the cursor; of the screen that is
    shown also what both have in common: tab stops, character sets, modes."""
    for number in range(grid.lines):
        text = text_of(grid.buffer[number], grid.columns) if number in grid.buffer else ""
        if text:
            yield f"\x1b[{number + 1};1H{text}"
    for saved in grid.savepoints[-1:]:
        x, y = min(saved.cursor.x, grid.columns - 1), min(saved.cursor.y, grid.lines - 1)
        origin = ("\x1b[?6h", "\x1b[?6l") if saved.origin else ("", "")
        yield f"{origin[0]}\x1b[{y + 1};{x + 1}H{style(saved.cursor.attrs)}"
        yield f"{_charset(saved)}\x1b7\x0f\x1b(B\x1b)B{origin[1]}"
    if is_shown:
        yield from _tab_stops(grid)
    if grid.margins is not None:
        yield f"\x1b[{grid.margins.top + 1};{grid.margins.bottom + 1}r"
    yield from _cursor(grid, is_shown and modes.DECOM in grid.mode)
    if is_shown:
        yield _charset(grid)
        yield "".join(f"\x1b[{mode}h" for mode in (modes.IRM, modes.LNM) if mode in grid.mode)


def _tab_stops(grid: Grid) -> Iterator[str]:
    stops = sorted(stop for stop in grid.tabstops if stop < grid.columns)
    if stops != list(range(8, grid.columns, 8)):
        yield "\x1b[3g"
        for stop in stops:
            yield f"\x1b[1;{stop + 1}H\x1bH"


def _charset(of: Any) -> str:
    """Which characters the two sets hold, and which of them is used."""
    sets = ((of.g0_charset, "("), (of.g1_charset, ")"))
    named = "".join(f"\x1b{which}{CHARSETS[found]}" for found, which in sets if found in CHARSETS)
    return named + ("\x0e" if of.charset else "")


def _cursor(grid: Grid, is_relative: bool) -> Iterator[str]:
    """Where it is. At the end of a full line it waits for what wraps: that is had by writing the last cell again."""
    x, y = grid.cursor.x, grid.cursor.y
    if is_relative:
        yield "\x1b[?6h"
        y -= grid.region[0]
    if x < grid.columns:
        yield f"\x1b[0m\x1b[{y + 1};{x + 1}H"
    else:
        line = grid.buffer[grid.cursor.y]
        last = grid.columns - (1 if line[grid.columns - 1].data or grid.columns == 1 else 2)
        yield f"\x1b[{y + 1};{last + 1}H{style(line[last])}{line[last].data or ' '}"
    yield style(grid.cursor.attrs)


def text_of(line: Mapping[int, Char], columns: int) -> str:
    """A line with its colours, without what is blank at its end."""
    end = min(max(line, default=-1) + 1, columns)
    while end and _is_blank(line[end - 1]):
        end -= 1
    cells = [line[at] for at in range(end)]
    text = "".join(map(_DATA, cells))
    if not text.isascii() or len(text) != len(cells):
        cells = _whole(cells, line, columns)
    parts: list[str] = []
    found: Any = _PLAIN
    for found, same in groupby(cells, _STYLE):
        if parts or found != _PLAIN:
            parts.append(style(Char("", *found)))
        parts.append("".join(map(_DATA, same)))
    return "".join(parts) + ("\x1b[0m" if found != _PLAIN else "")


def _whole(cells: list[Char], line: Mapping[int, Char], columns: int) -> list[Char]:
    """Where half of a wide character was written over, the other half is shown as nothing."""
    found: list[Char] = []
    at = 0
    while at < len(cells):
        cell = cells[at]
        is_wide = len(cell.data) > 0 and width_of(cell.data[0]) == 2
        if (is_wide and (at + 1 >= columns or line[at + 1].data)) or not cell.data:
            cell, is_wide = cell._replace(data=" "), False
        found.append(cell)
        at += 1 + is_wide
    return found


def _is_blank(cell: Char) -> bool:
    return cell.data == " " and cell.bg == "default" and not (cell.reverse or cell.underscore or cell.strikethrough)


def style(cell: Char) -> str:
    """The escape that sets a cell's colours, whatever they were."""
    codes = [str(code) for name, code in FLAGS if getattr(cell, name)]
    codes += _colour(cell.fg, 30) + _colour(cell.bg, 40)
    return f"\x1b[{';'.join(['0', *codes])}m"


def _colour(name: str, base: int) -> list[str]:
    """pyte's names (``red``, ``brightred``), ours for a number of the palette, or six hex digits."""
    if name == "default":
        return []
    bright = name.startswith(("bright", "bfight"))  # pyte 0.8 misspells one of them
    plain = name[6:] if bright else name
    if plain in COLOURS:
        return [str(base + COLOURS[plain] + (60 if bright else 0))]
    if name.startswith(PALETTE):
        return [f"{base + 8};5;{name.removeprefix(PALETTE)}"]
    try:
        red, green, blue = bytes.fromhex(name)
    except ValueError:
        return []
    return [f"{base + 8};2;{red};{green};{blue}"]
