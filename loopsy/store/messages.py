"""Both boxes in SQL. What is decided here is decided in the transaction that also writes it: see core/messages.py."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from attrs import evolve, frozen

from loopsy.config import Messages
from loopsy.core import messages as rules
from loopsy.core.messages import Sender, Wanted
from loopsy.core.principals import LOCAL
from loopsy.errors import BoxFull, LoopsyError
from loopsy.wire.messages import (
    DELIVERED,
    DUPLICATE,
    ENVELOPES_MAX,
    EXPIRED,
    IN,
    LATER,
    OUT,
    QUEUED,
    READ,
    REFUSED,
    UNREAD,
    Delivery,
    Envelope,
    Message,
)

COLUMNS = (
    "seq, direction, peer, id, from_, from_node_id, to_, type, body, ts, state, state_at, thread, origin, depth,"
    " received_at, in_reply_to, claimed_from, expires_at, reason, attempts"
)
HEADS = COLUMNS.replace("body", f"substr(body, 1, {rules.SHOWN + 1})")
"""For many at once, of which only what they have become is told."""
PAGE_BYTES = 1024 * 1024
"""Of bodies in one page, so that no answer holds the daemon up."""


def _message(row: tuple[Any, ...]) -> Message:
    (seq, direction, peer, identifier, from_, node, to, kind, body, ts, state, state_at, thread, origin, depth,
     received_at, in_reply_to, claimed_from, expires_at, reason, attempts) = row  # fmt: skip
    return Message(
        id=identifier, direction=direction, seq=seq, from_=from_, from_node_id=node, to=to, type=kind, body=body,
        ts=ts, state=state, state_at=state_at, thread=thread, origin=origin, depth=depth,
        trust=rules.trust_of(direction, peer, claimed_from), received_at=received_at, in_reply_to=in_reply_to,
        claimed_from=claimed_from, expires_at=expires_at, reason=reason, attempts=attempts,
    )  # fmt: skip


@frozen(kw_only=True)
class Found:
    """A message and what only the table knows of it."""

    message: Message
    peer: str
    """The name of the key it came with, or goes to; ``local`` for ourselves."""
    is_v1: bool
    is_hidden: bool


def select(db: sqlite3.Connection, rest: str, values: Iterable[Any] = (), columns: str = COLUMNS) -> Iterator[Found]:
    """The messages that ``rest`` (constant SQL after FROM) finds, one by one: what nobody asks for stays on disk."""
    rows = db.execute(f"SELECT {columns}, v1, hidden FROM messages {rest}", tuple(values))  # noqa: S608 - constants
    try:
        for row in rows:
            yield Found(message=_message(row[:-2]), peer=row[2], is_v1=bool(row[-2]), is_hidden=bool(row[-1]))
    finally:
        rows.close()


def heads(db: sqlite3.Connection, rest: str, values: Iterable[Any] = ()) -> list[Found]:
    """The same at once, with no more of the bodies than a notice shows."""
    return list(select(db, rest, values, HEADS))


def find(db: sqlite3.Connection, rest: str, values: Iterable[Any], columns: str = COLUMNS) -> Found | None:
    """The first message that ``rest`` finds."""
    return next(iter(list(select(db, f"{rest} LIMIT 1", values, columns))), None)


def of_peer(db: sqlite3.Connection, direction: str, peer: str, message_id: str, columns: str = COLUMNS) -> Found | None:
    """The message with an id in the traffic with one peer."""
    return find(db, "WHERE direction = ? AND peer = ? AND id = ?", (direction, peer, message_id), columns)


def by_id(db: sqlite3.Connection, message_id: str, box: str | None = None) -> Found:
    """The message that a client means by an id: of the inbox first, the newest first.

    :raises MessageNotFound:
    """
    wanted = "WHERE id = ? AND hidden = 0 AND direction LIKE ? ORDER BY direction, seq DESC"
    found = find(db, wanted, (message_id, box or "%"))
    if found is None:
        raise rules.not_found(message_id)
    return found


def answered(db: sqlite3.Connection, message_id: str | None, peer: str) -> Message | None:
    """What a reply in the traffic with ``peer`` answers, if it is still known: theirs first, then ours."""
    if message_id is None:
        return None
    found = of_peer(db, IN, peer, message_id) or of_peer(db, OUT, peer, message_id)
    return None if found is None else found.message


# -- reading ----------------------------------------------------------------------------------------------------------
def page(db: sqlite3.Connection, wanted: Wanted, now: int | None = None) -> tuple[list[Message], int | None]:
    """Some messages, and where the following page begins (None: there is none). With ``now`` (ms) none that is due."""
    found, has_more = _page(db, wanted, now)
    return [one.message for one in found], found[-1].message.seq if has_more else None


def _page(db: sqlite3.Connection, wanted: Wanted, now: int | None) -> tuple[list[Found], bool]:
    clauses, values = ["direction = ?", "hidden = 0"], [wanted.direction, *wanted.states]
    if wanted.states == (UNREAD,):
        clauses, values = ["state = 'unread'", "hidden = 0"], []  # the words of the index
    elif wanted.states:
        clauses.append(f"state IN ({', '.join('?' * len(wanted.states))})")
    more: list[tuple[str, Any]] = [
        ("peer = ?", wanted.peer),
        ("thread = ?", wanted.thread),
        ("seq < ?" if wanted.newest else "seq > ?", wanted.after),
        ("(expires_at IS NULL OR expires_at > ?)", now),
    ]
    for clause, value in more:
        if value is not None:
            clauses.append(clause)
            values.append(value)
    order = "DESC" if wanted.newest else "ASC"
    return fitting(select(db, f"WHERE {' AND '.join(clauses)} ORDER BY seq {order}", values), wanted.limit)


def fitting(found: Iterator[Found], limit: int, most: int = PAGE_BYTES) -> tuple[list[Found], bool]:
    """As many of the first as one answer may hold, one at least; and whether there are more."""
    kept: list[Found] = []
    size = 0
    for one in found:
        size += len(one.message.body.encode())
        if len(kept) == limit or (kept and size > most):
            return kept, True
        kept.append(one)
    return kept, False


def thread(db: sqlite3.Connection, identifier: str, limit: int) -> list[Message]:
    """The last messages of a thread, oldest first."""
    last = select(db, "WHERE thread = ? AND hidden = 0 ORDER BY seq DESC", (identifier,))
    return [found.message for found in fitting(last, limit)[0]][::-1]


def count(db: sqlite3.Connection, state: str, peer: str | None = None) -> int:
    """How many are unread, or queued (of one peer)."""
    assert state in (UNREAD, QUEUED)
    of = "" if peer is None else " AND peer = ?"
    query = f"SELECT count(*) FROM messages WHERE state = '{state}'{of}"  # noqa: S608 - one of two words
    (found,) = db.execute(query, () if peer is None else (peer,)).fetchone()
    return int(found)


def next_due(db: sqlite3.Connection) -> int | None:
    """When the next message expires."""
    (due,) = db.execute(
        "SELECT min(expires_at) FROM messages WHERE state IN ('queued', 'unread') AND expires_at IS NOT NULL"
    ).fetchone()
    return None if due is None else int(due)


# -- writing ----------------------------------------------------------------------------------------------------------
def insert(db: sqlite3.Connection, message: Message, peer: str, is_v1: bool = False) -> Message:
    """Put a new message in its box; with its place there."""
    marks = ", ".join("?" * 21)
    values = (
        message.direction, peer, message.id, message.from_, message.from_node_id, message.to, message.type,
        message.body, message.ts, message.state, message.state_at, message.thread, message.origin, message.depth,
        message.received_at, message.in_reply_to, message.claimed_from, message.expires_at, message.reason,
        message.attempts,
    )  # fmt: skip
    done = db.execute(f"INSERT INTO messages ({COLUMNS}, v1) VALUES (NULL, {marks})", (*values, is_v1))  # noqa: S608
    assert done.lastrowid is not None
    return evolve(message, seq=done.lastrowid)


def move(
    db: sqlite3.Connection, found: Found, state: str, now: int, reason: str | None = None, *, tell: bool = True
) -> list[Message]:
    """Bring a message into a state, if it may go there: what changed. The sender of an incoming one is to hear of it;
    where the sender is this machine, the copy in the outbox follows at once."""
    old = found.message
    if not rules.may_become(old.direction, old.state, state):
        return []
    is_owed = tell and old.direction == IN and found.peer != LOCAL.name
    db.execute(
        "UPDATE messages SET state = ?, state_at = ?, reason = ?, owed = ? WHERE seq = ?",
        (state, now, reason, is_owed, old.seq),
    )
    changed = [evolve(old, state=state, state_at=now, reason=reason)]
    if old.direction == IN and found.peer == LOCAL.name:
        sent = of_peer(db, OUT, found.peer, old.id)
        changed += [] if sent is None else move(db, sent, state, now)
    return changed


def queue(
    db: sqlite3.Connection, drafts: Sequence[tuple[str, Message]], limits: Messages
) -> tuple[list[Message], list[Message]]:
    """Put messages in the outbox (one to ourselves in the inbox too), all or none: they, and what is new in either box.

    :raises MessageIdTaken: :raises BoxFull:
    """
    known = [of_peer(db, OUT, peer, draft.id) for peer, draft in drafts]
    for found, (_, draft) in zip(known, drafts, strict=True):
        if found is not None:
            rules.same(found.message, draft.body)
    lacking = [peer for found, (peer, _) in zip(known, drafts, strict=True) if found is None]
    if lacking == [LOCAL.name]:
        rules.room_in_inbox(count(db, UNREAD), count(db, UNREAD, LOCAL.name), limits)
    elif lacking:
        rules.room_in_outbox(count(db, QUEUED) + len(lacking) - 1, limits)
    messages: list[Message] = []
    new: list[Message] = []
    for found, (peer, draft) in zip(known, drafts, strict=True):
        made = [] if found is not None else _queued(db, draft, peer)
        messages.append(made[0] if found is None else found.message)
        new += made
    return messages, new


def _queued(db: sqlite3.Connection, draft: Message, peer: str) -> list[Message]:
    if peer != LOCAL.name:
        return [insert(db, draft, peer)]
    sent = insert(db, evolve(draft, state=DELIVERED), peer)
    return [sent, insert(db, evolve(draft, direction=IN, state=UNREAD, received_at=draft.ts), peer)]


def accept(
    db: sqlite3.Connection, envelopes: Sequence[Envelope | Delivery], sender: Sender, limits: Messages, now: int
) -> tuple[list[Delivery], list[Message]]:
    """Take what a peer delivers (a Delivery stands for what was refused before): the results, and what is new."""
    results: list[Delivery] = []
    new: list[Message] = []
    unread = count(db, UNREAD), count(db, UNREAD, sender.peer)
    for envelope in envelopes:
        if isinstance(envelope, Delivery):
            results.append(envelope)
            continue
        try:
            message = _admitted(db, envelope, sender, limits, now)
            if message is not None:
                rules.room_in_inbox(unread[0] + len(new), unread[1] + len(new), limits)
                new.append(insert(db, message, sender.peer, sender.is_v1))
        except BoxFull as error:
            results.append(Delivery(id=envelope.id, result=LATER, reason=error.message, code=error.code))
        except LoopsyError as error:
            results.append(Delivery(id=envelope.id, result=REFUSED, reason=error.message, code=error.code))
        else:
            results.append(Delivery(id=envelope.id, result=DUPLICATE if message is None else DELIVERED))
    return results, new


def _admitted(db: sqlite3.Connection, envelope: Envelope, sender: Sender, limits: Messages, now: int) -> Message | None:
    """The message that an envelope becomes; None: it is here already.

    :raises MessageIdTaken: :raises MessageTooLarge: :raises TooManyReplies:
    """
    known = of_peer(db, IN, sender.peer, envelope.id)
    if known is not None:
        if not known.is_hidden:
            rules.same(known.message, envelope.body)
        return None
    rules.check_body(envelope.body, limits)
    reply_to = answered(db, envelope.in_reply_to, sender.peer)
    if sender.is_v1 and reply_to is not None:
        envelope = evolve(envelope, thread=reply_to.thread)
    depth = rules.depth_of_arrival(envelope, reply_to, limits)
    return rules.arrival(envelope, sender, depth, now, limits)


def take(db: sqlite3.Connection, wanted: Wanted, now: int) -> tuple[list[Message], list[Message]]:
    """The oldest unread ones, which are read from now on; and all that changed."""
    taken: list[Message] = []
    changed: list[Message] = []
    for found in _page(db, wanted, now)[0]:
        moved = move(db, found, READ, now)
        taken.append(moved[0])
        changed += moved
    return taken, changed


def mark(db: sqlite3.Connection, message_id: str, box: str | None, state: str, now: int) -> tuple[Found, list[Message]]:
    """Read or acknowledge a message: how it is now, and what changed.

    :raises MessageNotFound:
    """
    changed = move(db, by_id(db, message_id, box), state, now)
    return by_id(db, message_id, box), changed


def expire(db: sqlite3.Connection, now: int, limit: int = 1000) -> list[Message]:
    """Bring what is due to its end, at most ``limit`` at once: what changed."""
    due = heads(
        db,
        "WHERE state IN ('queued', 'unread') AND expires_at IS NOT NULL AND expires_at <= ?"
        " ORDER BY expires_at LIMIT ?",
        (now, limit),
    )
    return [message for found in due for message in move(db, found, EXPIRED, now, "its deadline passed")]


# -- forgetting -------------------------------------------------------------------------------------------------------
def strike(db: sqlite3.Connection, found: Found, now: int) -> list[Message]:
    """Take a message off our lists: what changed. An incoming one leaves its id behind, so that it does not come again;
    one that nobody has read is told to have expired."""
    message = found.message
    if message.direction == OUT:
        db.execute("DELETE FROM messages WHERE seq = ?", (message.seq,))
        return []
    changed = move(db, found, EXPIRED, now, "removed unread")
    db.execute("UPDATE messages SET hidden = 1, body = '' WHERE seq = ?", (message.seq,))
    return changed


def purge(db: sqlite3.Connection, limits: Messages, now: int) -> int:
    """Forget what is old and over, and what is more than ``maxKept``: how many.

    Of each peer the newest hundred of the inbox stay: a whole delivery may come once more, when its answer got lost.
    """
    before = now - limits.keep_days * 24 * 3600 * 1000
    ended = ", ".join(f"'{state}'" for state in rules.ENDED)
    old = db.execute(
        f"DELETE FROM messages WHERE (state IN ({ended}) AND state_at < :before)"  # noqa: S608 - constants
        " OR (state = 'delivered' AND coalesce(expires_at, state_at) < :before)",
        {"before": before},
    ).rowcount
    for direction, spared in ((IN, ENVELOPES_MAX), (OUT, 0)):
        old += _purge_beyond(db, direction, spared, limits.max_kept, ended)
    return old


def _purge_beyond(db: sqlite3.Connection, direction: str, spared: int, most: int, ended: str) -> int:
    over = f"(state IN ({ended}) OR state = 'delivered')"
    query = f"SELECT count(*) FROM messages WHERE direction = ? AND {over}"  # noqa: S608 - constants
    (kept,) = db.execute(query, (direction,)).fetchone()
    if kept <= most:
        return 0
    return db.execute(
        "DELETE FROM messages WHERE seq IN (SELECT seq FROM ("  # noqa: S608 - constants
        f"SELECT seq, {over} AS is_over, row_number() OVER (PARTITION BY peer ORDER BY seq DESC) AS newest"
        " FROM messages WHERE direction = ?) WHERE is_over AND newest > ? ORDER BY seq LIMIT ?)",
        (direction, spared, kept - most),
    ).rowcount
