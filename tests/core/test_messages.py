"""Laws of messages: states only move on, agents stop answering, waits stay in bounds, ids can be trusted to be ids."""

from __future__ import annotations

import json

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from loopsy.config import Messages
from loopsy.core import messages as rules
from loopsy.core import messages_v1 as v1
from loopsy.core.messages import FROM, Sender
from loopsy.errors import BoxFull, InvalidRequest, MessageIdTaken, MessageTooLarge, TooManyReplies
from loopsy.wire import codec
from loopsy.wire.messages import (
    ACKED,
    AGENT,
    CANCELLED,
    DELIVERED,
    EXPIRED,
    ID_SHAPE,
    IN,
    OUT,
    PERSON,
    QUEUED,
    READ,
    REFUSED,
    TYPES,
    UNREAD,
    Delivery,
    Envelope,
    Message,
)

LIMITS = Messages()
SENDER = Sender(peer="kai", name="kai", node_id="n", to="leo")
IDS = st.from_regex(ID_SHAPE, fullmatch=True)
ENVELOPES = st.builds(
    Envelope,
    id=IDS,
    type=st.sampled_from(TYPES),
    body=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=50),
    ts=st.integers(0, 2**53),
    thread=IDS,
    origin=st.sampled_from([PERSON, AGENT]),
    depth=st.none() | st.integers(0, 60),
    in_reply_to=st.none() | IDS,
    expires_in=st.none() | st.integers(0, 2**53),
)


def message(**changes: object) -> Message:
    """One that came from kai."""
    made = rules.arrival(Envelope(id="1-kai-0", type="chat", body="b", ts=1, thread="1-kai-0"), SENDER, 0, 1000, LIMITS)
    return evolve(made, **changes)  # type: ignore[arg-type]


# -- states -----------------------------------------------------------------------------------------------------------
@given(st.sampled_from([IN, OUT]), st.lists(st.sampled_from(sorted(FROM[OUT] | FROM[IN])), max_size=12))
def test_reports_in_any_order_and_number_end_and_never_move_back(direction: str, reports: list[str]) -> None:
    state, seen = (UNREAD if direction == IN else QUEUED), []
    for report in reports:
        if rules.may_become(direction, state, report):
            seen.append(state)
            state = report
            assert state not in seen, "a state came twice"
    assert len(seen) <= 4
    if ACKED in seen or REFUSED in seen:
        raise AssertionError("something followed the last word")


@given(st.permutations([DELIVERED, READ, ACKED]))
def test_the_order_of_late_reports_does_not_matter(reports: list[str]) -> None:
    state = QUEUED
    for report in reports:
        if rules.may_become(OUT, state, report):
            state = report
    assert state == ACKED


@pytest.mark.parametrize("ended", [EXPIRED, CANCELLED])
def test_an_ack_proves_that_it_arrived_after_all(ended: str) -> None:
    assert rules.may_become(OUT, ended, ACKED)
    assert not rules.may_become(OUT, ended, QUEUED)


@pytest.mark.parametrize(("direction", "first"), [(IN, UNREAD), (OUT, QUEUED)])
def test_there_is_no_way_back_to_any_state(direction: str, first: str) -> None:
    ways, ended = [[first]], 0
    while ways:
        way = ways.pop()
        following = FROM[direction][way[-1]]
        assert not set(following) & set(way), way
        ways += [[*way, state] for state in following]
        ended += not following
    assert ended >= 3


def test_the_columns_of_the_document() -> None:
    assert not rules.may_become(OUT, READ, DELIVERED)
    assert not rules.may_become(OUT, DELIVERED, CANCELLED)
    assert not rules.may_become(OUT, READ, EXPIRED)
    assert not rules.may_become(IN, READ, EXPIRED)
    assert not rules.may_become(IN, EXPIRED, READ)
    assert all(following in FROM[box] for box in FROM for names in FROM[box].values() for following in names)


# -- ids --------------------------------------------------------------------------------------------------------------
@given(st.integers(0, 2**45), st.text(max_size=300), st.binary(min_size=8, max_size=8))
def test_ids_of_ours_are_ids_whatever_the_hostname_is(now: int, hostname: str, random: bytes) -> None:
    made = rules.new_id(now, hostname, random)
    assert ID_SHAPE.fullmatch(made)
    assert made.startswith(f"{now}-")
    assert made.endswith(random.hex())
    assert ID_SHAPE.fullmatch(rules.id_for(made, hostname))


@given(st.text(max_size=20), st.text(max_size=20))
def test_each_recipient_of_a_broadcast_has_its_id_each_time(one: str, other: str) -> None:
    assert (rules.id_for("base", one) == rules.id_for("base", other)) == (one == other)
    with pytest.raises(InvalidRequest):
        rules.id_for("x" * 120, one)


def test_an_id_stands_for_one_body() -> None:
    assert rules.same(message(), "b") == message()
    with pytest.raises(MessageIdTaken):
        rules.same(message(), "c")


# -- limits -----------------------------------------------------------------------------------------------------------
@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=30), st.integers(1, 60))
def test_a_body_is_taken_just_when_its_utf8_fits(body: str, limit: int) -> None:
    limits = Messages(max_body_bytes=limit)
    if len(body.encode()) <= limit:
        rules.check_body(body, limits)
    else:
        with pytest.raises(MessageTooLarge, match=str(len(body.encode()))):
            rules.check_body(body, limits)


@given(st.integers(0, 50), st.integers(0, 50), st.integers(4, 40))
def test_one_peer_fills_a_quarter_of_the_inbox(unread: int, of_peer: int, most: int) -> None:
    limits = Messages(max_unread=most)
    if unread < most and of_peer < most // 4:
        rules.room_in_inbox(unread, of_peer, limits)
    else:
        with pytest.raises(BoxFull):
            rules.room_in_inbox(unread, of_peer, limits)


def test_a_deadline_lies_within_the_days_that_messages_wait() -> None:
    assert rules.deadline(1.5, 1000, LIMITS) == 2500
    assert rules.deadline(None, 0, LIMITS) == 7 * 24 * 3600 * 1000
    with pytest.raises(InvalidRequest, match="604800"):
        rules.deadline(7 * 24 * 3600 + 1, 0, LIMITS)


# -- the guard --------------------------------------------------------------------------------------------------------
@given(st.integers(1, 40))
def test_two_agents_that_answer_each_other_are_stopped_at_the_limit_by_either_side(most: int) -> None:
    limits = Messages(max_replies=most)
    last = message(origin=AGENT, depth=rules.depth_of_reply(AGENT, None, False, False, limits))
    for answers in range(1, most + 2):
        if answers <= most:
            depth = rules.depth_of_reply(AGENT, last, True, False, limits)
            envelope = rules.on_its_way(message(origin=AGENT, depth=depth, in_reply_to=last.id), 0)
            assert rules.depth_of_arrival(envelope, last, limits) == depth == answers
            last = message(origin=AGENT, depth=depth)
    with pytest.raises(TooManyReplies):
        rules.depth_of_reply(AGENT, last, True, False, limits)
    uncounted = Envelope(id="x", type="chat", body="b", ts=0, thread="x", in_reply_to=last.id)
    with pytest.raises(TooManyReplies):
        rules.depth_of_arrival(uncounted, last, limits)
    lying = evolve(uncounted, depth=1)
    with pytest.raises(TooManyReplies):
        rules.depth_of_arrival(lying, last, limits)


def test_a_persons_word_begins_the_count_anew_here_and_there() -> None:
    last = message(origin=AGENT, depth=30)
    for origin, force in ((PERSON, False), (AGENT, True)):
        depth = rules.depth_of_reply(origin, last, True, force, LIMITS)
        envelope = rules.on_its_way(message(origin=origin, depth=depth, in_reply_to=last.id), 0)
        assert depth == rules.depth_of_arrival(envelope, last, LIMITS) == 0


def test_what_is_answered_may_be_forgotten() -> None:
    assert rules.depth_of_reply(AGENT, None, True, False, LIMITS) == 1
    envelope = Envelope(id="x", type="chat", body="b", ts=0, thread="x", in_reply_to="gone", depth=31)
    with pytest.raises(TooManyReplies):
        rules.depth_of_arrival(envelope, None, LIMITS)


# -- waits ------------------------------------------------------------------------------------------------------------
@given(st.integers(1, 10**6), st.floats(0, 1))
def test_waits_grow_to_a_minute_and_are_spread(failures: int, chance: float) -> None:
    wait = rules.wait_s(failures, chance)
    expected = min(2.0 ** min(failures - 1, 10), 60)
    assert 0.8 * expected <= wait <= 1.2 * expected + 1e-9
    assert [rules.wait_s(n, 0.5) for n in (1, 2, 3, 7)] == [1, 2, 4, 60]


# -- envelopes --------------------------------------------------------------------------------------------------------
@given(ENVELOPES, st.integers(0, 2**45), st.integers(0, 2**45))
def test_what_goes_over_the_wire_is_what_was_written_and_deadlines_are_relative(
    envelope: Envelope, there: int, here: int
) -> None:
    came = codec.parse_bytes(Envelope, codec.dump(envelope))
    assert came == envelope
    arrived = rules.arrival(came, SENDER, 0, here, LIMITS)
    assert (arrived.id, arrived.body, arrived.ts) == (envelope.id, envelope.body, envelope.ts)
    assert (arrived.from_, arrived.from_node_id, arrived.to) == ("kai", "n", "leo")
    longest = 7 * 24 * 3600 * 1000
    assert arrived.expires_at == here + min(longest if envelope.expires_in is None else envelope.expires_in, longest)
    sent = rules.on_its_way(evolve(arrived, direction=OUT, expires_at=there + 5), there)
    assert sent.expires_in == 5
    assert rules.on_its_way(evolve(arrived, expires_at=1), 10**6).expires_in == 0


@pytest.mark.parametrize(
    "item",
    [
        {"id": "a"},
        {"id": "a", "type": "loud", "body": "b", "ts": 1, "thread": "t"},
        {"id": "a", "type": "chat", "body": "", "ts": 1, "thread": "t"},
        {"id": "a", "type": "chat", "body": "b", "ts": -1, "thread": "t"},
        {"id": "a", "type": "chat", "body": "b", "ts": 1, "thread": "has space"},
        {"id": "a", "type": "chat", "body": 5, "ts": 1, "thread": "t"},
    ],
)
def test_a_malformed_envelope_spoils_itself(item: object) -> None:
    found = rules.envelope_of(item, 0)
    assert isinstance(found, Delivery)
    assert (found.id, found.result, found.code) == ("a", REFUSED, 9003)


@pytest.mark.parametrize("item", [None, 5, [], {}, {"id": 5}, {"id": "has space"}, {"id": "x" * 129}])
def test_without_an_id_there_is_nothing_to_answer_for(item: object) -> None:
    with pytest.raises(InvalidRequest, match=r"envelopes\[3\]"):
        rules.envelope_of(item, 3)


def test_trust_is_told_in_words() -> None:
    assert rules.trust_of(IN, "kai", None) == "from peer kai, not from your user"
    assert rules.trust_of(IN, "kai", "leo") == "from peer kai, not from your user"
    assert rules.trust_of(IN, "local", None) == rules.trust_of(OUT, "kai", None) == "from this machine"
    assert "says kai" in rules.trust_of(IN, "local", "kai")


# -- existing nodes ---------------------------------------------------------------------------------------------------
@given(ENVELOPES)
def test_an_old_envelope_is_read_as_it_was_written(envelope: Envelope) -> None:
    letter = rules.arrival(envelope, SENDER, 0, 0, LIMITS)
    text = v1.written(letter, "leo", "kai")
    assert {"from", "to", "ts", "id", "type", "body"} <= set(json.loads(text))
    old = v1.read(v1.inbox_key("kai", envelope.id), text, "kai")
    assert old is not None
    ours = v1.as_ours(old)
    assert (ours.id, ours.body, ours.type, ours.ts) == (envelope.id, envelope.body, envelope.type, envelope.ts)
    assert ours.in_reply_to == envelope.in_reply_to
    assert v1.read(v1.inbox_key("kai", "other"), text, "kai") is None
    assert v1.read(v1.inbox_key("mia", envelope.id), text, "kai") is None
    assert v1.read(v1.inbox_key("kai", envelope.id), text.replace('"kai"', '"mia"'), "kai") is None


@pytest.mark.parametrize("text", ["", "hello", "{}", "[]", '{"id": "a"}', "\ud800", '{"from":"k","to":"leo","id":"a"}'])
def test_what_is_no_envelope_is_none(text: str) -> None:
    assert v1.read("inbox:leo:a", text, "leo") is None


def test_an_ack_of_an_existing_node_names_an_id() -> None:
    assert v1.acked_id("ack:kai", "1-leo-ab") == v1.acked_id("ack:kai", '"1-leo-ab"') == "1-leo-ab"
    assert v1.acked_id("ack:kai", "two words") is None
    assert v1.acked_id("ack:kai", '"torn') == '"torn'  # printable, so perhaps somebody's id
    assert v1.acked_id("inbox:kai", "1-leo-ab") is None
