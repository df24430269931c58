"""What people read."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopsy.cli.render import ago, clean, clean_text, count, facts, size, span, table


@given(st.text())
def test_law_nothing_a_terminal_obeys_gets_through(text: str) -> None:
    assert clean(text).isprintable()
    assert all(c.isprintable() or c in "\n\t" for c in clean_text(text))


def test_clean_shows_what_it_took_away() -> None:
    assert clean("a\x1b[2J\x07\x9b\u202eé\ud800") == "a\\x1b[2J\\x07\\x9b\\u202eé\\ud800"
    assert clean_text("a\n\tb\r") == "a\n\tb\\x0d"


def test_a_table() -> None:
    assert table(("a", "bb"), [("xyz", 1), ("\n", "")]) == "A     BB\nxyz   1\n\\x0a"


def test_facts() -> None:
    assert facts([("a", 1), ("long", "x")]) == "  a     1\n  long  x"


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (1 << 20, "1.0 MiB"), (1 << 50, "1024.0 TiB")]
)
def test_sizes(number: int, text: str) -> None:
    assert size(number) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0421, "42 ms"), (0.9999, "1 s"), (5.0, "5 s"), (59.9, "59.9 s"), (61, "1 min 1 s"), (3660, "1 h 1 min"),
     (3599.7, "1 h 0 min"), (119.6, "2 min 0 s"), (86399.9, "1 d 0 h"), (90_000, "1 d 1 h")],
)  # fmt: skip
def test_spans(seconds: float, text: str) -> None:
    assert span(seconds) == text


@pytest.mark.parametrize(
    ("then", "text"), [(0, "never"), (10**9, "now"), (10**9 - 5000, "5 s ago"), (10**9 - 7_200_000, "2 h ago")]
)
def test_how_long_ago(then: int, text: str) -> None:
    assert ago(then, 10**9) == text


def test_counts() -> None:
    assert (count(1, "entry", "entries"), count(2, "entry", "entries"), count(0, "line")) == (
        "1 entry",
        "2 entries",
        "0 lines",
    )
