"""Events of peers: asked for while somebody here asks; what a peer says that means harm."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest
from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.web.http_headers import Headers

from loopsy.core.events import Event
from loopsy.core.peers import Record, manual
from loopsy.errors import PeerUnreachable
from loopsy.services.events import Events
from loopsy.services.relay import AGAIN_MOST_S, AGAIN_S, EVENT_BYTES, SILENT_S, Relay
from loopsy.wire import sse
from loopsy.wire.peers import EVENTS, OFFLINE, ONLINE


class Transport:
    """Of an answer's body; knows whether it was cut."""

    def __init__(self) -> None:
        self.is_cut = False

    def abortConnection(self) -> None:
        self.is_cut = True

    loseConnection = stopProducing = abortConnection

    def pauseProducing(self) -> None:
        """Enough for now."""

    resumeProducing = pauseProducing

    def getHost(self) -> None:
        return None


class Answer:
    """Of a peer: the status, then what the test lets it say."""

    def __init__(self, code: int = 200) -> None:
        self.code, self.transport = code, Transport()
        self.protocol: Any = None

    def deliverBody(self, protocol: Any) -> None:
        self.protocol = protocol
        protocol.makeConnection(self.transport)

    def say(self, kind: Any, number: int = 1, **more: Any) -> None:
        self.raw(sse.encode({"type": kind, "at": 0, "data": more}, f"7.{number}"))

    def raw(self, data: bytes) -> None:
        self.protocol.dataReceived(data)

    def end(self) -> None:
        self.protocol.connectionLost(Failure(ConnectionDone()))


class Peers:
    """The book, and the client to who is in it: each request waits for an answer of the test's."""

    def __init__(self, *records: Record) -> None:
        self.book = list(records)
        self.asked: list[tuple[str | None, Headers, Deferred[Any]]] = []
        self.watchers: list[Any] = []
        self.client = SimpleNamespace(request=self._request)

    def when_changed(self, watcher: Any) -> None:
        self.watchers.append(watcher)

    def records(self) -> tuple[Record, ...]:
        return tuple(self.book)

    def keyed(self, record: Record) -> Any:
        return record.name

    def _request(self, target: Any, method: bytes, path: str, headers: Headers) -> Deferred[Any]:
        self.asked.append((target, headers, Deferred(lambda _: None)))
        return self.asked[-1][2]

    def becomes(self, record: Record, is_gone: bool = False) -> None:
        for watcher in self.watchers:
            watcher(record, is_gone)

    def answers(self, code: int = 200) -> Answer:
        answer = Answer(code)
        self.asked[-1][2].callback(answer)
        return answer


KAI = evolve(manual("10.0.0.2", 1, "kai", "id-kai"), status=ONLINE, capabilities=(EVENTS,))


class Bed:
    def __init__(self, *records: Record) -> None:
        self.clock, self.events, self.peers = Clock(), Events(), Peers(*records)
        self.relay = Relay(self.clock, self.peers, self.events)  # type: ignore[arg-type]
        self.told: list[Event] = []
        self.events.listen(self.told.append)

    @property
    def kinds(self) -> list[tuple[str, str | None]]:
        return [(event.kind, event.machine) for event in self.told]


@pytest.fixture
def bed() -> Bed:
    return Bed(KAI)


def test_a_peer_is_asked_while_somebody_here_asks(bed: Bed) -> None:
    assert bed.peers.asked == []
    first, second = bed.relay.want(), bed.relay.want()
    answer = bed.peers.answers()
    answer.say("job.started", jobId="1")
    assert bed.kinds == [("job.started", "kai")]
    first()
    assert not answer.transport.is_cut
    second()
    assert answer.transport.is_cut
    answer.end()
    assert len(bed.peers.asked) == 1
    assert bed.clock.getDelayedCalls() == []


@pytest.mark.parametrize(
    "record",
    [evolve(KAI, status=OFFLINE), evolve(KAI, capabilities=()), evolve(KAI, name=None)],
    ids=["away", "older", "nameless"],
)
def test_who_can_not_tell_is_not_asked(record: Record) -> None:
    bed = Bed(record)
    bed.relay.want()
    assert bed.peers.asked == []
    bed.peers.becomes(KAI)
    assert len(bed.peers.asked) == 1


def test_one_that_goes_is_let_go_and_asked_again_when_it_returns(bed: Bed) -> None:
    bed.relay.want()
    answer = bed.peers.answers()
    bed.peers.becomes(evolve(KAI, status=OFFLINE))
    assert answer.transport.is_cut
    answer.end()
    bed.clock.advance(AGAIN_MOST_S)
    assert len(bed.peers.asked) == 1
    bed.peers.becomes(KAI)
    bed.peers.becomes(KAI)
    assert len(bed.peers.asked) == 2
    bed.relay.stopService()
    assert bed.clock.getDelayedCalls() == []


def test_it_comes_back_behind_the_last_event_it_heard(bed: Bed) -> None:
    bed.relay.want()
    answer = bed.peers.answers()
    assert bed.peers.asked[0][1].getRawHeaders(b"last-event-id") is None
    answer.say("context.changed", 41, key="k")
    answer.end()
    bed.clock.advance(AGAIN_S)
    assert bed.peers.asked[1][1].getRawHeaders(b"last-event-id") == [b"7.41"]


def test_waits_grow_while_it_fails_and_are_short_again_once_it_spoke(bed: Bed) -> None:
    bed.relay.want()
    waits = []
    for _ in range(8):
        bed.peers.asked[-1][2].errback(PeerUnreachable("no"))
        (timer,) = bed.clock.getDelayedCalls()
        waits.append(timer.getTime() - bed.clock.seconds())
        bed.clock.advance(waits[-1])
    assert waits == [1, 2, 4, 8, 16, AGAIN_MOST_S, AGAIN_MOST_S, AGAIN_MOST_S]
    answer = bed.peers.answers()
    answer.say("job.ended")
    answer.end()
    (timer,) = bed.clock.getDelayedCalls()
    assert timer.getTime() - bed.clock.seconds() == AGAIN_S


def test_one_that_refuses_is_not_pressed(bed: Bed) -> None:
    bed.relay.want()
    answer = bed.peers.answers(403)
    assert answer.transport.is_cut
    answer.end()
    (timer,) = bed.clock.getDelayedCalls()
    assert timer.getTime() - bed.clock.seconds() == AGAIN_MOST_S
    assert bed.told == []


def test_one_that_is_silent_is_given_up(bed: Bed) -> None:
    bed.relay.want()
    answer = bed.peers.answers()
    bed.clock.advance(SILENT_S - 1)
    answer.raw(b": still there\n\n")
    bed.clock.advance(SILENT_S - 1)
    assert not answer.transport.is_cut
    bed.clock.advance(1)
    assert answer.transport.is_cut


def test_a_hello_is_a_reset(bed: Bed) -> None:
    """What it had before we asked is not known: whoever shows that machine reads it anew."""
    bed.relay.want()
    bed.peers.answers().say("hello", nodeId="x")
    assert bed.kinds == [("reset", "kai")]


JUNK = [
    b"data: no json\n\n", b"data: []\n\n", b"data: 5\n\n", b"data: null\n\n", b"data: {}\n\n",
    b'data: {"type": "a.b", "data": "text"}\n\n', b"\xff\xfe\n\n",
    b'data: {"type": "<img src=x>", "data": {}}\n\n', b'data: {"type": "job\\",\\"x", "data": {}}\n\n',
    b'data: {"type": "' + b"a" * 100 + b'", "data": {}}\n\n', b"data: " + b"[" * 100_000 + b"\n\n",
    b'data: {"type": "j\xc3\xb6b", "data": {}}\n\n',
]  # fmt: skip


@pytest.mark.parametrize("junk", JUNK, ids=lambda junk: repr(junk[:30]))
def test_junk_is_not_told_and_ends_nothing(bed: Bed, junk: bytes) -> None:
    bed.relay.want()
    answer = bed.peers.answers()
    answer.raw(junk)
    assert bed.told == []
    answer.say("job.started")
    assert bed.kinds == [("job.started", "kai")]


def test_markup_in_what_it_tells_is_kept_as_text_and_its_machine_is_ours_to_say(bed: Bed) -> None:
    bed.relay.want()
    text = '</script><img src=x onerror="1">\n\ndata: {"type":"reset"}'
    bed.peers.answers().raw(sse.encode({"type": "job.started", "machine": "alfa", "data": {"command": text}}, "7.1"))
    (event,) = bed.told
    (shown,) = map(json.loads, sse.Decoder().feed(event.frame))
    assert (shown["machine"], shown["data"]) == ("kai", {"command": text})


def test_an_event_without_end_costs_no_more_than_its_limit(bed: Bed) -> None:
    bed.relay.want()
    answer = bed.peers.answers()
    for _ in range(EVENT_BYTES // 65536 + 1):
        answer.raw(b"data: " + b"x" * 65536)
        if answer.transport.is_cut:
            break
    assert answer.transport.is_cut
    assert bed.told == []


@pytest.mark.parametrize("wrong", ["x" * 10_000, "7.1 x", "7", "é.1", ""])
def test_an_id_that_is_none_of_ours_is_not_said_back(bed: Bed, wrong: str) -> None:
    bed.relay.want()
    answer = bed.peers.answers()
    answer.raw(f'id: {wrong}\ndata: {{"type": "job.ended", "data": {{}}}}\n\n'.encode())
    answer.end()
    bed.clock.advance(AGAIN_S)
    assert bed.peers.asked[-1][1].getRawHeaders(b"last-event-id") is None
