"""What the keyboard's escape means, and what puts a window back."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopsy.cli import screen
from loopsy.cli.screen import Escape, Modes, status_of
from loopsy.errors import CommandFailedToStart, UsageError
from tests.strategies import cut

KEYS = st.lists(st.sampled_from([b"a", b"~", b"\r", b"\n", b"?", "é".encode()]), max_size=30).map(b"".join)


@given(st.data(), KEYS)
def test_it_does_not_matter_in_what_pieces_keys_come(data: st.DataObject, keys: bytes) -> None:
    whole, pieces = Escape(), Escape()
    assert b"".join(pieces.feed(piece) for piece in data.draw(cut(keys))) == whole.feed(keys)
    assert pieces.asks == whole.asks


@pytest.mark.parametrize(
    ("typed", "sent", "leaves"),
    [(b"~.", b"", True), (b"a~.", b"a~.", False), (b"a\r~.b", b"a\r", True), (b"~~.", b"~.", False),
     (b"~a", b"~a", False), (b"~\r~.", b"~\r", True), (b"\n~.", b"\n", True), (b"~", b"", False)],
)  # fmt: skip
def test_the_escape(typed: bytes, sent: bytes, leaves: bool) -> None:
    escape = Escape()
    assert (escape.feed(typed), escape.leaves) == (sent, leaves)


def test_help() -> None:
    escape = Escape()
    assert escape.feed(b"~?x") == b"x"
    assert escape.asks


@pytest.mark.parametrize(
    ("shown", "undone"),
    [(b"plain", b""), (b"\x1b[?1049h\x1b[?25l", b"\x1b[?1049l\x1b[?25h"), (b"\x1b[?1049h\x1b[?1049l", b""),
     (b"\x1b=\x1b[?1;2004h", b"\x1b[?1l\x1b[?2004l\x1b>"), (b"\x1b[?1000h\x1bc", b"")],
)  # fmt: skip
def test_what_was_turned_on_is_turned_off(shown: bytes, undone: bytes) -> None:
    for size in (1, 3, 100):
        modes = Modes()
        for at in range(0, len(shown), size):
            modes.shown(shown[at : at + size])
        assert modes.undone() == b"\x1b[0m" + undone


def test_the_exit_status() -> None:
    assert status_of({"exitCode": 3, "signal": None}) == 3
    assert status_of({"exitCode": None, "signal": "SIGKILL"}) == 137
    assert status_of({"exitCode": None, "signal": "SIGNONSENSE"}) == 128


def test_a_size_is_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(screen.os, "get_terminal_size", lambda _: (5000, 5000))
    columns, lines = screen.size()
    assert columns * lines <= screen.CELLS_MAX


def test_a_system_without_terminals_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    from loopsy import cli, services
    from loopsy.cli import shell
    from loopsy.services import terminals

    for package, name in ((cli, "screen"), (services, "ptys")):
        monkeypatch.delattr(package, name, raising=False)
        monkeypatch.setitem(sys.modules, f"{package.__name__}.{name}", None)
    with pytest.raises(UsageError, match="POSIX"):
        shell.own_screen()
    with pytest.raises(CommandFailedToStart, match="POSIX"):
        terminals._ptys()
