"""What is held for readers, who may see it, and that it is bounded."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopsy.core.events import HELD, HELD_BYTES, Event, Recent, Wish, may_see
from loopsy.core.principals import LOCAL, STRANGER, PeerPrincipal, Principal, Scope
from loopsy.wire import sse


def filled(count: int, data: str = "1") -> Recent:
    recent = Recent(7)
    for _ in range(count):
        recent.add("a.b", 5, data)
    return recent


def test_an_event_on_the_wire() -> None:
    event = filled(1, '{"x":1}').add("job.ended", 6, "{}")
    decoder = sse.Decoder()
    (text,) = decoder.feed(event.frame)
    assert (json.loads(text), decoder.last_id) == ({"type": "job.ended", "at": 6, "data": {}}, "7.2")


@given(st.integers(0, 3 * HELD), st.integers(0, 4 * HELD))
def test_whoever_comes_back_gets_all_that_it_missed_or_is_told_that_it_can_not(count: int, seen: int) -> None:
    recent = filled(count)
    place = recent.position(f"7.{seen}")
    if seen > count or count - seen > HELD:
        assert place is None
    else:
        assert place == seen
        assert [event.number for event in recent.after(seen)] == list(range(seen + 1, count + 1))


@pytest.mark.parametrize("word", [None, "", "7", "7.", "7.x", "7.-1", "8.1", "7.²", "7." + "1" * 19, "a.1", ".1"])
def test_an_id_that_is_none_of_ours_means_a_new_beginning(word: str | None) -> None:
    assert filled(3).position(word) is None


def test_large_events_do_not_pile_up() -> None:
    recent = filled(100, json.dumps("x" * 100_000))
    held = list(recent.after(0))
    assert sum(len(event.frame) for event in held) <= HELD_BYTES
    assert [event.number for event in held] == list(range(101 - len(held), 101))
    recent.add("a.b", 5, json.dumps("x" * HELD_BYTES))
    assert (list(recent.after(0)), recent.first, recent.position("7.101")) == ([], 102, 101)


def event(kind: str = "job.ended", scope: Scope | None = None, owner: str | None = None) -> Event:
    return Event(number=1, kind=kind, frame=b"", scope=scope, owner=owner)


KAI = PeerPrincipal(name="kai", scopes=frozenset({Scope.EXECUTE}))


@pytest.mark.parametrize(
    ("who", "scope", "owner", "sees"),
    [
        (LOCAL, None, None, True),
        (LOCAL, Scope.CONTEXT, "leo", True),
        (KAI, None, None, False),
        (KAI, None, "kai", False),
        (KAI, Scope.CONTEXT, None, False),
        (KAI, Scope.EXECUTE, None, True),
        (KAI, Scope.EXECUTE, "kai", True),
        (KAI, Scope.EXECUTE, "leo", False),
        (STRANGER, Scope.EXECUTE, None, False),
    ],
)
def test_who_sees_what(who: Principal, scope: Scope | None, owner: str | None, sees: bool) -> None:
    assert may_see(event(scope=scope, owner=owner), who) is sees


@pytest.mark.parametrize(
    ("text", "has"),
    [(None, True), ("", True), (" , ", True), ("job", True), ("message, job.ended", True), ("job.started", False),
     ("jo", False), ("message", False)],
)  # fmt: skip
def test_what_was_asked_for(text: str | None, has: bool) -> None:
    assert Wish.of(text).has(event()) is has
