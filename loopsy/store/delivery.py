"""The postman's side of the boxes, in SQL: what waits for a peer, and what the peer says of it."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from loopsy.core.principals import LOCAL
from loopsy.store.messages import HEADS, find, fitting, heads, move, of_peer, select
from loopsy.wire.messages import ACKED, KNOWN, OUT, READ, UNKNOWN, Delivery, Message, Receipt


def waiting_peers(db: sqlite3.Connection) -> list[str]:
    """The peers for whom there is something: messages, or receipts."""
    rows = db.execute(
        "SELECT DISTINCT peer FROM messages WHERE state = 'queued'"
        " UNION SELECT DISTINCT peer FROM messages WHERE owed = 1"
    )
    return [peer for (peer,) in rows]


def queued(db: sqlite3.Connection, peer: str, now: int, limit: int) -> list[Message]:
    """The oldest that wait for a peer and are not due."""
    rest = "WHERE state = 'queued' AND peer = ? AND (expires_at IS NULL OR expires_at > ?) ORDER BY seq"
    return [found.message for found in fitting(select(db, rest, (peer, now)), limit)[0]]


def owed(db: sqlite3.Connection, peer: str, limit: int) -> list[Message]:
    """Messages of a peer of whose state it has not heard."""
    found = heads(db, "WHERE owed = 1 AND peer = ? ORDER BY seq LIMIT ?", (peer, limit))
    return [one.message for one in found]


def settle(db: sqlite3.Connection, results: Sequence[tuple[Message, str, str | None]], now: int) -> list[Message]:
    """What a peer answered to some of our messages, as (message, state, reason): what changed."""
    changed: list[Message] = []
    for message, state, reason in results:
        found = find(db, "WHERE seq = ?", (message.seq,), HEADS)  # it may have been struck meanwhile
        changed += [] if found is None else move(db, found, state, now, reason)
    return changed


def tried(db: sqlite3.Connection, messages: Sequence[Message], reason: str) -> None:
    """Note a try in vain on messages that go on waiting."""
    db.executemany(
        "UPDATE messages SET attempts = attempts + 1, reason = ? WHERE seq = ? AND state = 'queued'",
        [(reason, message.seq) for message in messages],
    )


def report(
    db: sqlite3.Connection, peer: str, receipts: Sequence[Receipt], now: int
) -> tuple[list[Delivery], list[Message]]:
    """What a peer says of messages that we sent it: a result for each, and what changed."""
    results: list[Delivery] = []
    changed: list[Message] = []
    for receipt in receipts:
        found = of_peer(db, OUT, peer, receipt.id, HEADS)
        results.append(Delivery(id=receipt.id, result=UNKNOWN if found is None else KNOWN))
        if found is not None:
            changed += move(db, found, receipt.state, now)
    return results, changed


def acked_by_v1(db: sqlite3.Connection, peer: str | None, message_id: str, now: int) -> list[Message]:
    """An existing node has read up to this message of ours (``peer`` None: it presented our own key)."""
    of, values = ("", [message_id]) if peer is None else (" AND peer = ?", [message_id, peer])
    found = find(db, f"WHERE id = ? AND direction = 'out'{of}", values, HEADS)
    if found is None or found.peer == LOCAL.name:
        return []
    before = "WHERE direction = 'out' AND peer = ? AND state = 'delivered' AND seq < ?"
    older = heads(db, before, (found.peer, found.message.seq))
    return [m for one in older for m in move(db, one, READ, now)] + move(db, found, ACKED, now)


def told(db: sqlite3.Connection, messages: Sequence[Message]) -> None:
    """Their sender knows these states now; a message that has moved on since is still owed."""
    known = [(message.seq, message.state) for message in messages]
    db.executemany("UPDATE messages SET owed = 0 WHERE seq = ? AND state = ?", known)


def give_up(db: sqlite3.Connection, peer: str, state: str, reason: str, now: int, limit: int) -> list[Message]:
    """Nothing that waits for a peer will be delivered: what changed, at most ``limit`` at once."""
    waiting = heads(db, "WHERE state = 'queued' AND peer = ? ORDER BY seq LIMIT ?", (peer, limit))
    return [message for found in waiting for message in move(db, found, state, now, reason)]
