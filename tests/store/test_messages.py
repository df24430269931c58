"""Both boxes of two machines, with a wire between them that loses answers; and each box by itself."""

from __future__ import annotations

import sqlite3
from typing import Any

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from loopsy.config import Messages
from loopsy.core import messages as rules
from loopsy.core.messages import Sender, Wanted
from loopsy.core.principals import LOCAL
from loopsy.errors import BoxFull, MessageIdTaken, MessageNotFound
from loopsy.store import delivery
from loopsy.store import messages as boxes
from loopsy.store.database import SCHEMA
from loopsy.wire.messages import (
    ACKED,
    CANCELLED,
    DELIVERED,
    DUPLICATE,
    EXPIRED,
    IN,
    LATER,
    OUT,
    QUEUED,
    READ,
    REFUSED,
    UNDELIVERABLE,
    UNKNOWN,
    UNREAD,
    Envelope,
    Message,
    Receipt,
)

LIMITS = Messages(max_unread=80, max_kept=100)
LEO = Sender(peer="leo", name="leo", node_id="n", to="kai")
WANTED = Wanted(direction=IN, states=(UNREAD,))
DAY = 24 * 3600 * 1000


def empty() -> sqlite3.Connection:
    """A database without a file."""
    db = sqlite3.connect(":memory:", isolation_level=None)
    for step in SCHEMA:
        db.executescript(step)
    return db


def draft(identifier: str, peer: str = "kai", **changes: Any) -> tuple[str, Message]:
    """A message of ours to ``peer``."""
    made = Message(
        id=identifier, direction=OUT, seq=0, from_="leo", from_node_id="n", to=peer, type="chat", body="b",
        ts=1, state=QUEUED, state_at=1, thread=identifier, origin="person", depth=0, trust="from this machine",
    )  # fmt: skip
    return peer, evolve(made, **changes)


def envelope(identifier: str, **changes: Any) -> Envelope:
    """One on its way."""
    return evolve(Envelope(id=identifier, type="chat", body="b", ts=1, thread=identifier), **changes)


def states(db: sqlite3.Connection, direction: str) -> dict[str, str]:
    """By id."""
    return {found.message.id: found.message.state for found in boxes.select(db, "WHERE direction = ?", (direction,))}


STEPS = st.lists(
    st.tuples(st.just("send"), st.integers(1, 4))
    | st.tuples(st.just("deliver"), st.integers(1, 5), st.booleans())
    | st.tuples(st.just("take"), st.integers(1, 5))
    | st.tuples(st.just("ack"), st.integers(0, 30))
    | st.tuples(st.just("report"), st.integers(1, 5), st.booleans())
    | st.tuples(st.just("strike"), st.integers(0, 30))
    | st.tuples(st.just("purge")),
    max_size=40,
)


@given(STEPS)
def test_over_a_wire_that_loses_answers_each_is_read_once_in_order_and_known_of(steps: list[tuple[Any, ...]]) -> None:
    here, there = empty(), empty()
    sent: list[str] = []
    taken: list[str] = []
    struck: set[str] = set()

    def deliver(many: int, lost: bool) -> None:
        letters = delivery.queued(here, "kai", 0, many)
        envelopes = [rules.on_its_way(letter, 0) for letter in letters]
        results, _ = boxes.accept(there, envelopes, LEO, LIMITS, 10)
        assert [result.id for result in results] == [letter.id for letter in letters]
        if not lost:
            good = zip(letters, results, strict=True)
            settled = [(m, DELIVERED, None) for m, r in good if r.result in (DELIVERED, DUPLICATE)]
            delivery.settle(here, settled, 20)

    def report(many: int, lost: bool) -> None:
        owed = delivery.owed(there, "leo", many)
        receipts = [Receipt(id=m.id, state=m.state, at=m.state_at) for m in owed]
        delivery.report(here, "kai", receipts, 30)
        if not lost:
            delivery.told(there, owed)

    def take(many: int) -> None:
        found, _ = boxes.take(there, evolve(WANTED, limit=many), 40)
        taken.extend(m.id for m in found)

    for step in steps:
        match step:
            case ("send", int(many)):
                for _ in range(many):
                    sent.append(f"m{len(sent):03}")
                    boxes.queue(here, [draft(sent[-1])], LIMITS)
            case ("deliver", int(many), bool(lost)):
                deliver(many, lost)
            case ("take", int(many)):
                take(many)
            case ("ack", int(which)) if which < len(taken) and taken[which] not in struck:
                boxes.mark(there, taken[which], IN, ACKED, 50)
            case ("report", int(many), bool(lost)):
                report(many, lost)
            case ("strike", int(which)) if which < len(taken) and taken[which] not in struck:
                struck.add(taken[which])
                boxes.strike(there, boxes.by_id(there, taken[which]), 60)
            case ("purge",):
                boxes.purge(there, LIMITS, 100)
                boxes.purge(here, LIMITS, 100)
    for _ in sent:
        deliver(100, False)
        take(100)
        report(100, False)
    assert taken == sent
    assert states(here, OUT) == states(there, IN)
    assert set(states(here, OUT).values()) <= {READ, ACKED}


def test_a_take_gives_each_message_once_and_none_that_is_due() -> None:
    db = empty()
    boxes.accept(db, [envelope("a"), envelope("b", expires_in=5), envelope("c")], LEO, LIMITS, 100)
    first, _ = boxes.take(db, evolve(WANTED, limit=1), 200)
    second, _ = boxes.take(db, WANTED, 200)
    assert [[m.id for m in page] for page in (first, second)] == [["a"], ["c"]]
    assert boxes.take(db, WANTED, 200) == ([], [])
    assert [(m.id, m.state) for m in boxes.expire(db, 200)] == [("b", EXPIRED)]
    assert [m.id for m in delivery.owed(db, "leo", 9)] == ["a", "b", "c"]


def test_a_replayed_id_is_a_duplicate_and_another_body_under_it_is_refused() -> None:
    db = empty()
    results, new = boxes.accept(db, [envelope("a"), envelope("a"), envelope("a", body="c")], LEO, LIMITS, 1)
    assert [(r.result, r.code) for r in results] == [(DELIVERED, None), (DUPLICATE, None), (REFUSED, 8004)]
    assert len(new) == 1
    other, _ = boxes.accept(db, [envelope("a", body="c")], evolve(LEO, peer="mia", name="mia"), LIMITS, 1)
    assert other[0].result == DELIVERED, "another peer's ids are its own"


def test_a_struck_message_does_not_come_again() -> None:
    db = empty()
    boxes.accept(db, [envelope("a", body="secret")], LEO, LIMITS, 1)
    (expired,) = boxes.strike(db, boxes.by_id(db, "a"), 2)
    assert expired.state == EXPIRED, "its sender learns that nobody read it"
    with pytest.raises(MessageNotFound):
        boxes.by_id(db, "a")
    results, new = boxes.accept(db, [envelope("a", body="secret")], LEO, LIMITS, 3)
    assert (results[0].result, new) == (DUPLICATE, [])
    assert "secret" not in "".join(map(str, db.execute("SELECT * FROM messages").fetchall()))


def test_a_full_inbox_says_later_and_keeps_the_order() -> None:
    db = empty()
    results, _ = boxes.accept(db, [envelope(f"m{n}") for n in range(25)], LEO, LIMITS, 1)
    assert [r.result for r in results] == [DELIVERED] * 20 + [LATER] * 5
    boxes.take(db, evolve(WANTED, limit=3), 2)
    results, _ = boxes.accept(db, [envelope(f"m{n}") for n in range(18, 25)], LEO, LIMITS, 3)
    assert [r.result for r in results] == [DUPLICATE] * 2 + [DELIVERED] * 3 + [LATER] * 2
    other, _ = boxes.accept(db, [envelope("x")], evolve(LEO, peer="mia"), LIMITS, 3)
    assert other[0].result == DELIVERED, "a quarter is all that one peer can fill"


def test_a_broadcast_is_queued_for_all_or_none() -> None:
    db = empty()
    boxes.queue(db, [draft("a", "mia", body="other")], LIMITS)
    with pytest.raises(MessageIdTaken):
        boxes.queue(db, [draft("a", "kai"), draft("a", "mia")], LIMITS)
    assert boxes.count(db, QUEUED) == 1
    messages, new = boxes.queue(db, [draft("a", "kai"), draft("a", "mia", body="other")], LIMITS)
    assert [m.to for m in messages] == ["kai", "mia"]
    assert [m.to for m in new] == ["kai"]


def test_the_outbox_is_bounded_but_a_repeat_is_answered() -> None:
    db = empty()
    for number in range(100):
        boxes.queue(db, [draft(f"m{number}")], LIMITS)
    with pytest.raises(BoxFull):
        boxes.queue(db, [draft("one more")], LIMITS)
    assert boxes.queue(db, [draft("m5")], LIMITS)[1] == []


def test_one_to_ourselves_is_in_both_boxes_and_moves_in_both() -> None:
    db = empty()
    boxes.queue(db, [draft("a", LOCAL.name)], LIMITS)
    assert (states(db, OUT), states(db, IN)) == ({"a": DELIVERED}, {"a": UNREAD})
    found, changed = boxes.mark(db, "a", None, ACKED, 5)
    assert found.message.direction == IN
    assert len(changed) == 2
    assert (states(db, OUT), states(db, IN)) == ({"a": ACKED}, {"a": ACKED})
    assert delivery.owed(db, LOCAL.name, 5) == []


def test_a_peer_reports_of_its_own_letters_only() -> None:
    db = empty()
    boxes.queue(db, [draft("a", "kai")], LIMITS)
    results, changed = delivery.report(db, "mia", [Receipt(id="a", state=ACKED, at=1)], 5)
    assert ([r.result for r in results], changed) == ([UNKNOWN], [])
    assert states(db, OUT) == {"a": QUEUED}
    assert delivery.acked_by_v1(db, "mia", "a", 5) == []


def test_what_moves_while_its_receipt_is_under_way_is_still_owed() -> None:
    db = empty()
    boxes.accept(db, [envelope("a")], LEO, LIMITS, 1)
    boxes.take(db, WANTED, 2)
    under_way = delivery.owed(db, "leo", 5)
    boxes.mark(db, "a", IN, ACKED, 3)
    delivery.told(db, under_way)
    assert [m.state for m in delivery.owed(db, "leo", 5)] == [ACKED]
    delivery.told(db, delivery.owed(db, "leo", 5))
    assert delivery.owed(db, "leo", 5) == []


def test_the_ack_of_an_existing_node_reads_the_older_ones() -> None:
    db = empty()
    for identifier in ("a", "b", "c"):
        boxes.queue(db, [draft(identifier)], LIMITS)
        delivery.settle(db, [(delivery.queued(db, "kai", 0, 1)[0], DELIVERED, None)], 2)
    delivery.acked_by_v1(db, "kai", "b", 3)
    assert states(db, OUT) == {"a": READ, "b": ACKED, "c": DELIVERED}


def test_giving_up_leaves_what_has_arrived() -> None:
    db = empty()
    boxes.queue(db, [draft("a"), draft("b")], LIMITS)
    first = delivery.queued(db, "kai", 0, 1)
    delivery.settle(db, [(first[0], DELIVERED, None)], 2)
    changed = delivery.give_up(db, "kai", UNDELIVERABLE, "gone", 3, 100)
    assert [(m.id, m.reason) for m in changed] == [("b", "gone")]
    assert states(db, OUT) == {"a": DELIVERED, "b": UNDELIVERABLE}


def test_a_letter_that_arrived_while_it_was_cancelled_is_delivered() -> None:
    db = empty()
    boxes.queue(db, [draft("a")], LIMITS)
    under_way = delivery.queued(db, "kai", 0, 1)
    boxes.move(db, boxes.by_id(db, "a"), CANCELLED, 2)
    assert delivery.queued(db, "kai", 0, 1) == []
    delivery.settle(db, [(under_way[0], DELIVERED, None)], 3)
    assert states(db, OUT) == {"a": DELIVERED}


def test_what_is_over_is_forgotten_by_age_and_number_and_what_waits_is_not() -> None:
    db, limits = empty(), Messages(max_kept=120, max_unread=10_000, keep_days=1)
    for number in range(300):
        boxes.accept(db, [envelope(f"m{number:03}")], LEO, limits, 1)
    boxes.take(db, evolve(WANTED, limit=250), 2)
    boxes.queue(db, [draft("waits")], limits)
    assert boxes.purge(db, limits, 3) == 130
    left = sorted(states(db, IN))
    assert left == [f"m{n:03}" for n in range(130, 300)]
    assert boxes.purge(db, limits, 3) == 0
    assert boxes.purge(db, limits, 2 * DAY) == 120
    assert set(states(db, IN).values()) == {UNREAD}
    assert states(db, OUT) == {"waits": QUEUED}


def test_the_newest_hundred_of_a_peer_are_known_however_much_another_sends() -> None:
    db, limits = empty(), Messages(max_kept=100, max_unread=10_000)
    boxes.accept(db, [envelope(f"m{n}") for n in range(100)], LEO, limits, 1)
    boxes.take(db, evolve(WANTED, limit=200), 2)
    flood = evolve(LEO, peer="mia", name="mia")
    for start in range(0, 400, 100):
        boxes.accept(db, [envelope(f"x{start + n}") for n in range(100)], flood, limits, 3)
    boxes.take(db, evolve(WANTED, limit=500), 4)
    boxes.purge(db, limits, 5)
    again, new = boxes.accept(db, [envelope(f"m{n}") for n in range(100)], LEO, limits, 6)
    assert {r.result for r in again} == {DUPLICATE}
    assert new == []


def test_pages_follow_one_another_and_stay_small() -> None:
    db = empty()
    large = Messages(max_body_bytes=128 * 1024, max_unread=1000)
    boxes.accept(db, [envelope(f"m{n:02}", body="x" * 100_000) for n in range(25)], LEO, large, 1)
    wanted, seen = Wanted(direction=IN, limit=200), []
    while True:
        page, following = boxes.page(db, wanted)
        assert sum(len(m.body) for m in page) <= 1024 * 1024
        seen += [m.id for m in page]
        if following is None:
            break
        wanted = evolve(wanted, after=following)
    assert seen == [f"m{n:02}" for n in range(25)]
    newest, following = boxes.page(db, Wanted(direction=IN, limit=3, newest=True))
    assert [m.id for m in newest] == ["m24", "m23", "m22"]
    older, _ = boxes.page(db, Wanted(direction=IN, limit=1, newest=True, after=following))
    assert older[0].id == "m21"


def test_a_postman_takes_no_more_than_a_delivery_holds() -> None:
    db, limits = empty(), Messages(max_body_bytes=128 * 1024)
    for number in range(30):
        boxes.queue(db, [draft(f"m{number:02}", body="x" * 100_000)], limits)
    letters = delivery.queued(db, "kai", 0, 100)
    assert [m.id for m in letters] == [f"m{n:02}" for n in range(10)]
    assert letters[0].body == "x" * 100_000
    changed = delivery.give_up(db, "kai", UNDELIVERABLE, "gone", 3, 100)
    assert len(changed) == 30
    assert {len(m.body) for m in changed} == {rules.SHOWN + 1}
    assert len(boxes.by_id(db, "m00").message.body) == 100_000


def test_the_lists_use_the_indexes() -> None:
    db = empty()
    for query in (
        "SELECT count(*) FROM messages WHERE state = 'unread' AND peer = 'a'",
        "SELECT * FROM messages WHERE state = 'queued' AND peer = 'a' ORDER BY seq LIMIT 5",
        "SELECT * FROM messages WHERE owed = 1 AND peer = 'a' ORDER BY seq LIMIT 5",
        "SELECT * FROM messages WHERE state = 'unread' AND hidden = 0 AND seq > 5 ORDER BY seq LIMIT 5",
        "SELECT * FROM messages WHERE direction = 'in' AND hidden = 0 AND seq > 5 ORDER BY seq LIMIT 5",
        "SELECT min(expires_at) FROM messages WHERE state IN ('queued', 'unread') AND expires_at IS NOT NULL",
    ):
        plan = " ".join(row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {query}"))
        assert "INDEX messages_" in plan or "USING INTEGER PRIMARY KEY" in plan, (query, plan)
        assert "TEMP B-TREE" not in plan, (query, plan)
