"""One reader of ``/events``: whatever its pace, it gets all that is for it in order, or is cut."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock

from loopsy.core.events import HELD, LAG_BYTES, Event, Recent
from loopsy.web.events import ALIVE_S, Reader
from loopsy.wire import sse


class Request:
    """What a Reader needs of a request: takes ``room`` bytes before it says that it is full."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.channel = self.clock
        self.room = 0
        self.producer: Any = None
        self.written = b""
        self.was_cut = False

    def registerProducer(self, producer: Any, _: bool) -> None:
        self.producer = producer

    def write(self, data: bytes) -> None:
        assert not self.was_cut
        self.written += data
        self.room -= len(data)
        if self.producer is not None and self.room <= 0:
            self.producer.pauseProducing()

    def take(self, count: int) -> None:
        self.room = count
        self.producer.resumeProducing()

    def cut(self) -> None:
        self.was_cut = True

    @property
    def told(self) -> list[int]:
        return [json.loads(text)["data"] for text in sse.Decoder().feed(self.written)]


class Stream:
    """A reader that wants the even ones."""

    def __init__(self, held: int = 0, seen: int = 0) -> None:
        self.recent, self.request = Recent(1), Request()
        for _ in range(held):
            self.happen()
        self.reader = Reader(self.recent, self.request, seen, self.is_wanted)  # type: ignore[arg-type]
        self.reader.start()

    @staticmethod
    def is_wanted(event: Event) -> bool:
        return event.number % 2 == 0

    def happen(self, size: int = 0) -> None:
        event = self.recent.add("a.b", 0, str(self.recent.last + 1) + " " * size)
        if hasattr(self, "reader"):
            self.reader.happened(event)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("happen"), st.sampled_from([0, 1000, 100_000])),
        st.tuples(st.just("take"), st.sampled_from([1, 150, 10_000, 10**7])),
        st.tuples(st.just("wait"), st.just(ALIVE_S)),
        st.tuples(st.just("many"), st.integers(1, HELD)),
    ),
    max_size=40,
)


@given(st.integers(0, 20), st.integers(0, 20), STEPS)
def test_it_gets_all_that_is_for_it_in_order_or_is_cut(held: int, missed: int, steps: list[tuple[str, Any]]) -> None:
    seen = max(0, held - missed)
    stream = Stream(held, seen)
    request = stream.request
    for step, amount in steps:
        match step:
            case "happen":
                stream.happen(amount)
            case "take":
                request.take(amount)
            case "wait":
                request.clock.advance(amount)
            case "many":
                for _ in range(amount):
                    stream.happen()
    wanted = [number for number in range(seen + 1, stream.recent.last + 1) if number % 2 == 0]
    if not request.was_cut:
        request.take(10**9)
    if request.was_cut:
        assert request.told == wanted[: len(request.told)]
    else:
        assert request.told == wanted
    stream.reader.close()
    assert request.clock.getDelayedCalls() == []


def test_one_that_takes_nothing_is_cut_by_size() -> None:
    stream = Stream()
    size = LAG_BYTES // 4
    for _ in range(8):
        stream.happen(size)
    assert not stream.request.was_cut
    for _ in range(2):
        stream.happen(size)
    assert stream.request.was_cut
    assert len(stream.request.written) < 1.2 * size


def test_or_by_number() -> None:
    stream = Stream()
    for _ in range(HELD + 2):
        stream.happen()
    assert not stream.request.was_cut
    for _ in range(10):
        stream.happen()
    assert stream.request.was_cut


def test_one_that_nothing_is_for_is_never_cut_and_told_how_far_it_is() -> None:
    stream = Stream()
    stream.reader._is_for = lambda _: False
    for _ in range(3 * HELD):
        stream.happen()
    assert (stream.request.was_cut, stream.request.written) == (False, b"")
    stream.request.take(100)
    stream.request.clock.advance(ALIVE_S)
    assert stream.request.written == sse.still_there(f"1.{3 * HELD}")


@pytest.mark.parametrize(("room", "beats"), [(10**6, 4), (1, 1)])
def test_a_sign_of_life_every_15_seconds_unless_it_takes_nothing(room: int, beats: int) -> None:
    stream = Stream()
    stream.request.take(room)
    stream.request.clock.pump([ALIVE_S] * 4)
    assert stream.request.written.count(b": still there") == beats
    stream.reader.close()
    stream.request.clock.pump([ALIVE_S] * 4)
    assert stream.request.written.count(b": still there") == beats
