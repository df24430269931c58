"""Several machines at once: how words are read, who is chosen, and how lines are kept whole."""

from __future__ import annotations

import argparse
import os
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopsy.cli import many
from loopsy.cli.exec import split
from loopsy.cli.exec_many import KEEP, LONGEST_LINE, Kept, Lines, Stage
from loopsy.errors import LoopsyError, PeerNotFound
from tests.waiting import PATIENCE_S


@pytest.mark.parametrize(
    ("words", "own", "command"),
    [
        ("--all uname -a", "--all", "uname -a"),
        ("--on a,b -- -x", "--on a,b", "-x"),
        ("--on=a,b --forks 3 uname --on", "--on=a,b --forks 3", "uname --on"),
        ("--label gpu --label x sh -c --all", "--label gpu --label x", "sh -c --all"),
        ("--timeout 5 --stop-on-error --all make", "--timeout 5 --stop-on-error --all", "make"),
        ("kai make --all", "kai", "make --all"),
        ("kai --timeout 5 make", "--timeout 5 kai", "make"),
        ("kai --all make", "--all kai", "make"),
    ],
)
def test_the_command_begins_where_no_peer_is_needed(words: str, own: str, command: str) -> None:
    assert split(words.split()) == (own.split(), command.split())


def peer(name: str | None, *labels: str, **more: Any) -> dict[str, Any]:
    """As the daemon lists it."""
    told = {"name": name, "hostname": name or "host", "nodeId": f"id-{name}", "trusted": True, "status": "online"}
    return {**told, "labels": list(labels), **more}


def test_only_trusted_peers_are_chosen_and_those_without_a_name_by_their_id() -> None:
    peers = [peer("kai", "gpu"), peer("eve", "gpu", trusted=False), peer(None), peer("leo", "gpu", status="offline")]
    assert many.fitting(peers, ()) == [
        many.Host("kai", "kai"), many.Host("host", "id-None"), many.Host("leo", "leo", is_away=True),
    ]  # fmt: skip
    assert [host.name for host in many.fitting(peers, ("gpu",))] == ["kai", "leo"]
    with pytest.raises(PeerNotFound):
        many.fitting(peers, ("gpu", "linux"))
    with pytest.raises(PeerNotFound):
        many.fitting([peer("eve", trusted=False)], ())


# -- lines ------------------------------------------------------------------------------------------------------------
class Written(Stage):
    """Keeps what is written."""

    def __init__(self, is_terminal: bool = False) -> None:
        self.is_terminal, self.is_coloured, self.encoding = is_terminal, False, "utf-8"
        self.pieces: list[bytes] = []

    def write(self, lines: bytes) -> None:
        self.pieces.append(lines)


@given(st.lists(st.binary(max_size=40).map(lambda data: data.replace(b"\r", b"\n")), max_size=20))
def test_however_output_is_cut_its_lines_are_the_same(pieces: list[bytes]) -> None:
    stage = Written()
    lines = Lines(stage, "kai", 5, 0)
    for piece in pieces:
        lines.feed(piece)
    lines.end()
    whole = b"".join(pieces)
    wanted = whole.split(b"\n")
    wanted = wanted if wanted[-1] else wanted[:-1]
    assert b"".join(stage.pieces) == b"".join(b"kai   | " + line + b"\n" for line in wanted)
    assert all(piece.endswith(b"\n") for piece in stage.pieces)


@given(st.binary(max_size=200), st.text(max_size=20))
def test_nothing_that_a_terminal_obeys_gets_through(data: bytes, name: str) -> None:
    stage = Written(is_terminal=True)
    lines = Lines(stage, name, 3, 0)
    lines.feed(data)
    lines.end()
    text = b"".join(stage.pieces).decode()
    assert all(character.isprintable() or character in "\n\t" for character in text)


def test_a_line_without_an_end_is_not_held_for_ever() -> None:
    stage = Written()
    lines = Lines(stage, "kai", 3, 0)
    for _ in range(100):
        lines.feed(b"x" * 10_000)
    assert sum(piece.count(b"x") for piece in stage.pieces) > 1_000_000 - LONGEST_LINE


def test_the_json_keeps_so_much() -> None:
    kept = Kept()
    for _ in range(3):
        kept.feed(b"x" * (KEEP // 2))
    assert (len(kept.text), kept.truncated) == (KEEP, True)


# -- the crew ---------------------------------------------------------------------------------------------------------
class Step(many.Job):
    """Notes when it runs."""

    def __init__(self, name: str, log: list[str], gives: int | Exception = 0, is_away: bool = False) -> None:
        super().__init__(many.Host(name, name, is_away), None)  # type: ignore[arg-type]
        self._log, self._gives = log, gives

    def run(self) -> int:
        self._log.append(self.host.name)
        if isinstance(self._gives, Exception):
            raise self._gives
        return self._gives

    def cancel(self) -> None:
        self._log.append(f"cancel {self.host.name}")


def options(forks: int = 1, stop: bool = False) -> argparse.Namespace:
    return argparse.Namespace(forks=forks, stop_on_error=stop, failed=255)


def test_they_begin_in_their_order_and_those_away_last() -> None:
    log: list[str] = []
    jobs = [Step("a", log, is_away=True), Step("b", log), Step("c", log, LoopsyError("no")), Step("d", log, 7)]
    assert many.Crew(jobs, options()).run() == 255
    assert log == ["b", "c", "d", "a"]
    assert [(job.state, job.status) for job in jobs] == [("ended", 0), ("ended", 0), ("failed", 255), ("ended", 7)]


def test_after_a_failure_none_begins() -> None:
    log: list[str] = []
    jobs = [Step("a", log), Step("b", log, 3), Step("c", log)]
    assert many.Crew(jobs, options(stop=True)).run() == 3
    assert log == ["a", "b"]
    assert jobs[2].state == "skipped"


def test_a_reader_that_left_cancels_the_others() -> None:
    log: list[str] = []
    gone = threading.Event()

    class Waiting(Step):
        def run(self) -> int:
            assert gone.wait(PATIENCE_S)
            return 0

        def cancel(self) -> None:
            super().cancel()
            gone.set()

    jobs = [Waiting("a", log), Step("b", log, BrokenPipeError()), Step("c", log)]
    with pytest.raises(BrokenPipeError):
        many.Crew(jobs, options(forks=2)).run()
    assert log == ["b", "cancel a"]


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


def test_a_pipe_is_no_terminal_and_has_no_colour(pipe: tuple[int, int]) -> None:
    stage = Stage(pipe[1])
    Lines(stage, "kai", 3, 2).feed(b"\x1b[1mbold\n")
    assert os.read(pipe[0], 100) == b"kai | \x1b[1mbold\n"


def test_lines_longer_than_a_pipe_takes_at_once_stay_whole(pipe: tuple[int, int]) -> None:
    """A write of more than 4 KiB to a pipe may be cut by another's: only one may be under way."""
    stage, line = Stage(pipe[1]), b"x" * 50_000

    def talk(name: str) -> None:
        lines = Lines(stage, name, 3, 0)
        for _ in range(40):
            lines.feed(line + b"\n")

    threads = [threading.Thread(target=talk, args=(name,)) for name in ("kai", "leo", "mia")]
    for thread in threads:
        thread.start()
    wanted, data = 3 * 40 * (len(line) + 7), b""
    while len(data) < wanted:
        data += os.read(pipe[0], 65536)
    for thread in threads:
        thread.join()
    assert {text for _, _, text in (one.partition(b" | ") for one in data.splitlines())} == {line}
