"""What a terminal shows is what somebody who comes later is painted, whatever the program writes."""

from __future__ import annotations

from typing import Any

import pyte
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopsy.core import screen
from loopsy.core.screen import Screen
from tests.strategies import cut

WORDS = st.sampled_from(
    [
        "a",
        "hello world",
        "x" * 23,
        "tab\tbed",
        "ž",
        "漢字",
        "e\u0301",
        "👩\u200d💻",
        "✔\ufe0f!",
        " ",
        "\r\n",
        "\n",
        "\r",
        "\b",
    ]
)
NUMBER = st.integers(0, 13)


@st.composite
def sequences(draw: st.DrawFn) -> str:
    """One that programs use, or nonsense."""
    kind = draw(st.integers(0, 4))
    if kind == 0:
        numbers = ";".join(str(draw(NUMBER)) for _ in range(draw(st.integers(0, 2))))
        return f"\x1b[{numbers}{draw(st.sampled_from('@ABCDEFGHIJKLMPSTXZ`adefgrsu'))}"
    if kind == 1:
        mode = draw(st.sampled_from([1, 3, 5, 6, 7, 12, 25, 47, 1000, 1006, 1047, 1048, 1049, 2004]))
        return f"\x1b[?{mode}{draw(st.sampled_from('hl'))}"
    if kind == 2:
        return "\x1b" + draw(
            st.sampled_from(
                ["7", "8", "D", "E", "M", "H", "=", ">", "(0", "(B", ")0", "#8", "[4h", "[4l", "[!p", "[5 q"]
            )
        )
    if kind == 3:
        codes = st.sampled_from(["0", "1", "3", "4", "7", "9", "22", "31", "42", "95", "105", "38;5;9", "48;5;200",
                                 "38;2;1;2;3", "38:2::9:8:7", "4:3", "58;2;1;4;7", ""])  # fmt: skip
        return f"\x1b[{';'.join(draw(st.lists(codes, max_size=3)))}m"
    return draw(
        st.sampled_from(
            [
                "\x1b]0;a title\x07",
                "\x1bP+q436f\x1b\\",
                "\x1b[>4;2m",
                "\x1b[?1$p",
                "\x1b[c",
                "\x1b_G\x1b\\",
                "\x0e",
                "\x0f",
                "\x9b3D",
                "\x1b[2J",
                "\x1b[3J",
                "\x1bc",
                "\x1b[9999;9999H",
                "\x1b[K",
            ]
        )
    )


OUTPUT = st.lists(st.one_of(WORDS, sequences()), max_size=40).map(lambda parts: "".join(parts).encode())


def shown(of: Screen) -> dict[str, Any]:
    """All that can be seen, now or by what comes."""
    grids = [of._main, *([of._other] if of._other else [])]
    return {
        "cells": [_cells(grid) for grid in grids],
        "cursors": [(grid.cursor.x, grid.cursor.y, grid.cursor.attrs[1:]) for grid in grids],
        "margins": [grid.margins for grid in grids],
        "saved": [[(s.cursor.y, s.cursor.attrs[1:], s.origin) for s in grid.savepoints] for grid in grids],
        "modes": of.grid.mode,
        "tabs": {stop for stop in of.grid.tabstops if stop < of.columns},
        "charset": (of.grid.charset, of.grid.g0_charset, of.grid.g1_charset),
        "private": of._modes,
        "others": (of._keypad, of._shape),
        "past": list(of._past),
    }


def _cells(grid: Any) -> dict[tuple[int, int], Any]:
    """Without what looks like nothing."""
    return {
        (x, y): cell
        for y, line in grid.buffer.items()
        for x, cell in line.items()
        if cell.data != " " or cell.bg != "default" or cell.reverse or cell.underscore or cell.strikethrough
    }


def read(data: bytes, columns: int = 20, lines: int = 6) -> Screen:
    """A screen that was fed this."""
    found = Screen(columns, lines)
    feed(found, data)
    return found


def feed(to: Screen, data: bytes) -> None:
    """All of it."""
    to.feed(data)
    while to.step():
        pass


@given(st.data(), OUTPUT)
def test_it_does_not_matter_in_what_pieces_output_comes(data: st.DataObject, output: bytes) -> None:
    pieces = Screen(20, 6)
    for piece in data.draw(cut(output)):
        feed(pieces, piece)
    assert shown(pieces) == shown(read(output))


@given(OUTPUT, OUTPUT, st.integers(0, 500))
def test_who_is_painted_sees_the_same_and_goes_on_seeing_the_same(before: bytes, after: bytes, at: int) -> None:
    """Also in mid-sequence and mid-character."""
    output = before + after
    at %= len(output) + 1
    first = read(output[:at])
    late = read(first.repaint())
    assert shown(late) == shown(first)
    for one in (first, late):
        feed(one, output[at:])
    assert shown(late) == shown(first)


@given(OUTPUT, st.integers(1, 40), st.integers(1, 12), OUTPUT)
def test_so_it_is_after_another_size(before: bytes, columns: int, lines: int, after: bytes) -> None:
    first = read(before)
    first.resize(columns, lines)
    late = read(first.repaint(), columns, lines)
    assert _cells(late._main) == _cells(first._main)
    assert (late.grid.cursor.x, late.grid.cursor.y) == (first.grid.cursor.x, first.grid.cursor.y)
    for one in (first, late):
        feed(one, after)
    assert _cells(late.grid) == _cells(first.grid)


@given(st.binary(max_size=400))
def test_any_bytes_at_all(output: bytes) -> None:
    first = read(output)
    assert shown(read(first.repaint())) == shown(first)


PLAIN = st.one_of(
    st.sampled_from(["a", "hello", "\r\n", "\n", "\r", "\b"]),
    st.sampled_from(["\x1b[H", "\x1b[3;4H", "\x1b[2C", "\x1b[K", "\x1b[1K", "\x1b[J", "\x1b[2J", "\x1b[P", "\x1b[2@",
                     "\x1b[31m", "\x1b[m", "\x1b[L", "\x1bM"]),
)  # fmt: skip


@given(st.lists(PLAIN, max_size=40).map("".join))
def test_what_pyte_does_right_is_done_as_pyte_does(output: str) -> None:
    """A full line apart: there xterm's cursor stands on the last cell, pyte's behind it."""
    plain = pyte.Screen(400, 6)
    pyte.Stream(plain).feed(output)
    found = read(output.encode(), 400)
    assert found._main.display == plain.display


# -- single things ----------------------------------------------------------------------------------------------------
def lines_of(of: Screen) -> list[str]:
    """What stands on it, without what is empty."""
    return [line.rstrip() for line in of.grid.display if line.strip()]


def test_the_alternate_screen_leaves_the_main_one_alone() -> None:
    found = read(b"$ vi\r\n\x1b[?1049h\x1b[Hin vi")
    assert lines_of(found) == ["in vi"]
    feed(found, b"\x1b[?1049lback")
    assert lines_of(found) == ["$ vi", "back"]


@pytest.mark.parametrize("whole", [b"\x1b[1;6r", b"\x1b[r", b"", b"\x1b[1;5r"])
def test_lines_that_leave_are_kept(whole: bytes) -> None:
    found = read(whole + b"".join(b"%d\r\n" % number for number in range(10)))
    assert list(found._past)[:4] == ["0", "1", "2", "3"]


def test_lines_that_leave_the_alternate_screen_are_not() -> None:
    found = read(b"\x1b[?1049h" + b"line\r\n" * 50)
    assert not found._past


def test_scrollback_is_bounded_in_lines_and_in_characters() -> None:
    found = read(b"line\r\n" * 5000)
    assert len(found._past) == screen.HISTORY
    wide = Screen(1000, 5)
    coloured = b"".join(b"\x1b[38;2;%d;%d;7mx" % (n % 256, n % 255) for n in range(1000))
    for _ in range(150):
        feed(wide, coloured)
    assert sum(map(len, wide._past)) <= screen.HISTORY_CHARS


def test_of_a_flood_the_modes_count_and_the_end_is_shown() -> None:
    found = Screen(80, 24)
    found.feed(b"\x1b[?25l" + b"y\r\n" * 100_000 + b"\x1b[?1049h\x1b[?2004h" + b"z\r\n" * 200_000 + b"the end")
    assert len(found._waiting) <= screen.WAITING
    while found.step():
        pass
    assert found._other is not None
    assert found._modes == {25: False, 2004: True}
    assert lines_of(found)[-2:] == ["z", "the end"]


def test_of_a_flood_of_modes_the_last_ones_count() -> None:
    found = Screen(80, 24)
    for _ in range(50):
        found.feed(b"\x1b[?1049h\x1b[?1000h\x1b[31m\x1b[?1000l\x1b[0m\x1b[?1049l" * 2000)
    found.feed(b"\x1b[?1000h")
    while found.step():
        pass
    assert found._other is None
    assert found._modes == {1000: True}


@pytest.mark.parametrize(
    "evil",
    [
        b"\x1b[" + b"9" * 5000 + b"H",
        b"\x1b]0;" + b"t" * 1_000_000,
        b"\x1b7" * 5000,
        b"a" + b"\xcc\x81" * 5000,
        b"\x1bP" + b"q" * 100_000,
        b"\x1b[?3h\x1b[9J\x1b[9K\x1b[?6h\x1b[5d\x1b[38;5;999m\x1b[38;5m\x1b[48;2;1mX",
        b"\x1b[9999b\x1b[9999L\x1b[9999S\x1b[9999@",
        bytes(range(256)) * 20,
    ],
    ids=[
        "digits",
        "endless title",
        "saved cursors",
        "marks",
        "endless dcs",
        "odd numbers",
        "large numbers",
        "all bytes",
    ],
)
def test_nothing_makes_it_grow_or_fail(evil: bytes) -> None:
    found = Screen(40, 10)
    for at in range(0, len(evil), 4096):
        feed(found, evil[at : at + 4096])
    found.resize(30, 8)
    assert len(found.repaint()) < 20_000
    assert all(len(grid.savepoints) <= 1 for grid in [found._main, *([found._other] if found._other else [])])
    assert len(found._parser.unfinished) <= screen.STEP
    assert found.grid.columns == 30
    feed(found, b"\x1b\\\x1bcalive")
    assert lines_of(found) == ["alive"]


def test_a_smaller_window_keeps_what_stands_at_the_cursor() -> None:
    found = read(b"$ prompt", 20, 6)
    found.resize(20, 3)
    assert lines_of(found) == ["$ prompt"]
    full = read(b"1\r\n2\r\n3\r\n4\r\n5\r\n6", 20, 6)
    full.resize(20, 3)
    assert lines_of(full) == ["4", "5", "6"]
    assert list(full._past) == ["1", "2", "3"]


def test_what_is_no_text_is_not_shown() -> None:
    found = read(b"\x1bP+q436f\x1b\\\x1b[>4;2m\x1b]8;;http://x\x1b\\a\x1b]8;;\x07\x1b[?1$p\x1b_Gi=1\x1b\\b", 40, 3)
    assert lines_of(found) == ["ab"]
    assert not found.grid.cursor.attrs.underscore


def test_a_character_repeated() -> None:
    assert lines_of(read(b"-\x1b[4b|\r\n\x1b[4bx")) == ["-----|", "x"]


def test_line_drawing() -> None:
    assert lines_of(read(b"\x1b(0lqk\x1b(B lqk")) == ["┌─┐ lqk"]


def test_the_begin_of_a_sequence_is_handed_on() -> None:
    first = read("é".encode()[:1])
    assert first.repaint().endswith(b"\xc3")
    first = read(b"\x1b]0;half of a ti")
    late = read(first.repaint())
    feed(late, b"tle\x07x")
    assert lines_of(late) == ["x"]
