"""Events of peers: a bad one can neither push out those of others nor break anything."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
from twisted.internet.task import Clock

from loopsy.core.events import Wish
from loopsy.services.events import Events
from loopsy.services.relay import A_SECOND, BYTES_A_SECOND, SILENT_S, Listening, Wire


class Way:
    """A transport that notes what it is told."""

    def __init__(self) -> None:
        self.is_paused = self.is_cut = False

    def pauseProducing(self) -> None:
        self.is_paused = True

    def resumeProducing(self) -> None:
        self.is_paused = False

    def abortConnection(self) -> None:
        self.is_cut = True


def listening(heard: list[tuple[str, str | None]]) -> tuple[Listening, Way, Clock]:
    clock, way = Clock(), Way()
    made = Listening(clock, lambda text, last_id: heard.append((text, last_id)), lambda: None)
    made.transport = cast("Any", way)
    made.connectionMade()
    return made, way, clock


def flood(count: int, size: int = 1) -> bytes:
    return b"".join(b"id: 1.%d\ndata: %s\n\n" % (at, b"x" * size) for at in range(count))


@pytest.mark.parametrize(("count", "size"), [(5000, 1), (60, 65536)])
def test_who_tells_too_much_is_read_slowly_and_nothing_of_it_is_lost(count: int, size: int) -> None:
    """Though it all came in one piece, and more behind it."""
    heard: list[tuple[str, str | None]] = []
    made, way, clock = listening(heard)
    data = flood(count, size)
    made.dataReceived(data[: len(data) // 2])
    made.dataReceived(data[len(data) // 2 :])
    most = max(1, min(A_SECOND, BYTES_A_SECOND // size))
    assert 0 < len(heard) <= most + 1
    assert way.is_paused
    seconds = 0
    while way.is_paused:
        before = len(heard)
        clock.advance(1)
        made.dataReceived(b": still there\n\n")
        assert len(heard) - before <= most + 1
        seconds += 1
    assert [last_id for _, last_id in heard] == [f"1.{at}" for at in range(count)]
    assert seconds >= count // (most + 1) - 2
    assert not way.is_cut
    made.connectionLost()
    assert not clock.getDelayedCalls()


def test_who_tells_as_much_as_others_is_never_held_up() -> None:
    heard: list[tuple[str, str | None]] = []
    made, way, clock = listening(heard)
    for _ in range(20):
        made.dataReceived(flood(A_SECOND // 2, 100))
        assert not way.is_paused
        clock.advance(1)
    assert len(heard) == 10 * A_SECOND


def test_one_that_is_silent_is_given_up() -> None:
    _, way, clock = listening([])
    clock.advance(SILENT_S + 1)
    assert way.is_cut


@pytest.mark.parametrize(
    "text",
    [
        '{"type": "job.ended", "data": ' + '{"a":' * 100_000 + "1" + "}" * 100_000 + "}",
        '{"type": "job.ended", "data": ' + '{"a":' * 600 + "1" + "}" * 600 + "}",
        '{"type": "job.ended", "data": {"n": NaN}}',
        '{"type": "job.ended", "data": {"n": ' + "1" * 10_000 + "}}",
        '{"type": "' + "a" * 100 + '", "data": {}}',
        '{"type": "job\\nended", "data": {}}',
        '{"type": "job.ended\\"", "data": {}}',
        '{"data": {}}',
        "[]",
        "{",
    ],
)
def test_what_is_no_event_is_passed_on_to_nobody(text: str) -> None:
    """A browser could not read it, or would take it for something else."""
    events = Events()
    wire = Wire(Clock(), cast("Any", None), events, cast("Any", SimpleNamespace(name="bad", label="bad")))
    wire._heard(text, "1.1")
    is_deep = text.count("{") == 601  # (which we can write, and browsers read)
    assert len(list(events.recent.after(0))) <= is_deep
    wire._heard('{"type": "job.ended", "data": {"x": 1}}', "1.2")
    *_, last = events.recent.after(0)
    assert (last.kind, last.machine, Wish().has(last)) == ("job.ended", "bad", False)
