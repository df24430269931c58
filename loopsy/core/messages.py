"""What a message may become, who answers whom for how long, how long a postman waits, and what an id looks like.

The protocol is docs/protocol/messages.md.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any

from attrs import frozen

from loopsy.config import Messages
from loopsy.core.principals import LOCAL
from loopsy.errors import BoxFull, InvalidRequest, MessageIdTaken, MessageNotFound, MessageTooLarge, TooManyReplies
from loopsy.wire import codec
from loopsy.wire.messages import (
    ACKED,
    CANCELLED,
    DELIVERED,
    EXPIRED,
    ID_MAX,
    ID_SHAPE,
    IN,
    OUT,
    PERSON,
    QUEUED,
    READ,
    REFUSED,
    UNDELIVERABLE,
    UNREAD,
    Delivery,
    Envelope,
    Message,
)

# -- states -----------------------------------------------------------------------------------------------------------
FROM: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    OUT: {
        QUEUED: (DELIVERED, READ, ACKED, EXPIRED, REFUSED, UNDELIVERABLE, CANCELLED),
        DELIVERED: (READ, ACKED, EXPIRED),
        READ: (ACKED,),
        EXPIRED: (READ, ACKED),
        CANCELLED: (DELIVERED, READ, ACKED),
        UNDELIVERABLE: (READ, ACKED),
        REFUSED: (),
        ACKED: (),
    },
    IN: {
        UNREAD: (READ, ACKED, EXPIRED),
        READ: (ACKED,),
        EXPIRED: (ACKED,),
        ACKED: (),
    },
}
"""By box and state: what may follow. Expired, cancelled and undeliverable mean that nothing is tried any more; proof
that a message did arrive (a try was under way, or its answer got lost) still counts."""
ENDED = (READ, ACKED, EXPIRED, REFUSED, UNDELIVERABLE, CANCELLED)
"""Nothing is waited for, so these are forgotten first. (A read one may still be acked while it is remembered.)"""
OPEN = (QUEUED, DELIVERED, READ)
"""In the outbox: an answer may still come."""


def may_become(direction: str, state: str, following: str) -> bool:
    """Whether a message in that box and state moves on to ``following``; if not, it stays."""
    return following in FROM[direction][state]


# -- ids --------------------------------------------------------------------------------------------------------------
NOT_PLAIN = re.compile(r"[^A-Za-z0-9._-]+")


def new_id(now_ms: int, hostname: str, random: bytes) -> str:
    """``<ms>-<hostname>-<16 hex>`` from 8 random bytes; of the hostname what fits an id."""
    return f"{now_ms}-{NOT_PLAIN.sub('-', hostname)[:64]}-{random.hex()}"


def id_for(base: str, recipient: str) -> str:
    """The id of a broadcast's message to one recipient: the same each time, so that sending it again sends it once.

    :raises InvalidRequest: the client's own id is too long for it.
    """
    made = f"{base}-{hashlib.sha256(recipient.encode()).hexdigest()[:8]}"
    if len(made) > ID_MAX:
        raise InvalidRequest(f"id must not be longer than {ID_MAX - 9} characters for a broadcast")
    return made


def same(known: Message, body: str) -> Message:
    """The message that has the id already, if the client (or the peer) means that one.

    :raises MessageIdTaken: it means another.
    """
    if known.body != body:
        raise MessageIdTaken(f"the id {known.id} is another message's", hint="leave the id out, and one is made")
    return known


# -- limits -----------------------------------------------------------------------------------------------------------
def check_body(body: str, limits: Messages) -> None:
    """The text of a message.

    :raises MessageTooLarge: says both sizes.
    """
    size = len(body.encode("utf-8"))
    if size > limits.max_body_bytes:
        raise MessageTooLarge(
            f"the message has {size} bytes; at most {limits.max_body_bytes} are taken",
            hint="send it as a file (loopsy send) and name the file in the message",
        )


def room_in_outbox(queued: int, limits: Messages) -> None:
    """Room for one more, beside ``queued`` that wait.

    :raises BoxFull: there is none.
    """
    if queued >= limits.max_kept:
        raise BoxFull(
            f"{queued} messages wait to be delivered already (messages.maxKept)",
            hint="cancel some: loopsy message outbox",
        )


def room_in_inbox(unread: int, unread_of_peer: int, limits: Messages) -> None:
    """Room for one more unread one, beside those of everybody and those of that peer.

    :raises BoxFull: there is none.
    """
    if unread >= limits.max_unread or unread_of_peer >= limits.max_unread // 4:
        raise BoxFull("the inbox is full: too much in it is unread (messages.maxUnread)")


def deadline(ttl_s: float | None, now_ms: int, limits: Messages) -> int:
    """When a message expires, ms since the epoch.

    :raises InvalidRequest: that is later than messages wait here.
    """
    longest = limits.queue_days * 24 * 3600
    if ttl_s is not None and ttl_s > longest:
        raise InvalidRequest(f"ttl must be at most {longest} seconds (messages.queueDays)")
    return now_ms + round((longest if ttl_s is None else ttl_s) * 1000)


# -- the guard against endless answers --------------------------------------------------------------------------------
def depth_of_reply(origin: str, answered: Message | None, is_reply: bool, force: bool, limits: Messages) -> int:
    """How many messages of agents in a row a new one makes. ``answered`` is None where that is no longer known.

    :raises TooManyReplies: it is one too many.
    """
    if origin == PERSON or force or not is_reply:
        return 0
    return guarded(1 if answered is None else answered.depth + 1, limits)


def depth_of_arrival(envelope: Envelope, answered: Message | None, limits: Messages) -> int:
    """The same for one that arrives: by our own count where we hold what it answers. An agent's reply that says 0 was
    let through by its user.

    :raises TooManyReplies: it is one too many here.
    """
    if envelope.origin == PERSON:
        return 0
    if envelope.in_reply_to is None or answered is None or envelope.depth == 0:
        return guarded(envelope.depth or 0, limits)
    return guarded(answered.depth + 1, limits)


def guarded(depth: int, limits: Messages) -> int:
    """``depth``, if agents may go on.

    :raises TooManyReplies: they may not.
    """
    if depth > limits.max_replies:
        raise TooManyReplies(
            f"agents have answered each other {depth - 1} times in a row (messages.maxReplies: {limits.max_replies})",
            hint="ask your user whether to go on; with their word, send it with force",
        )
    return depth


# -- waiting ----------------------------------------------------------------------------------------------------------
FIRST_WAIT_S, LONGEST_WAIT_S = 1.0, 60.0


def wait_s(failures: int, chance: float) -> float:
    """Seconds until the next try after so many failures (1 or more): 1, 2, 4 … 60, give or take a fifth by ``chance``
    (0 to 1), so that many senders don't come at once."""
    wait: float = min(FIRST_WAIT_S * 2 ** min(failures - 1, 10), LONGEST_WAIT_S)
    return wait * (0.8 + 0.4 * chance)


# -- words ------------------------------------------------------------------------------------------------------------
def trust_of(direction: str, peer: str, claimed_from: str | None) -> str:
    """Whose words these are, for whoever reads them: a model takes them for its user's too easily."""
    if direction == OUT or (peer == LOCAL.name and claimed_from is None):
        return "from this machine"
    if peer == LOCAL.name:
        return f"from whoever has this machine's own key and says {claimed_from}, perhaps not from your user"
    return f"from peer {peer}, not from your user"


def not_found(message_id: str) -> MessageNotFound:
    """The error for an id that no message here has."""
    return MessageNotFound(f"no message here has the id {message_id!r}")


# -- asking for them --------------------------------------------------------------------------------------------------
@frozen(kw_only=True)
class Wanted:
    """What a client lists. ``after`` (a seq) is where it stands; with ``newest`` the list goes backwards from it."""

    direction: str
    states: tuple[str, ...] = ()
    peer: str | None = None
    thread: str | None = None
    after: int | None = None
    limit: int = 50
    newest: bool = False


SHOWN = 200
"""Characters of a body in the notice of a change: whoever wants it has it, or asks."""


# -- making them ------------------------------------------------------------------------------------------------------
@frozen(kw_only=True)
class Sender:
    """Whose message it is that arrives. ``peer``: the name of the key it came with (``local``: our own)."""

    peer: str
    name: str
    node_id: str
    to: str
    """What we are called."""
    is_v1: bool = False
    """It came as a context entry."""
    claimed_from: str | None = None
    """What it said of itself there, where that is another name."""


def arrival(envelope: Envelope, sender: Sender, depth: int, now_ms: int, limits: Messages) -> Message:
    """The message that an envelope becomes in the inbox. Its deadline is relative: clocks differ."""
    longest = limits.queue_days * 24 * 3600 * 1000
    return Message(
        id=envelope.id,
        direction=IN,
        seq=0,
        from_=sender.name,
        from_node_id=sender.node_id,
        to=sender.to,
        type=envelope.type,
        body=envelope.body,
        ts=envelope.ts,
        state=UNREAD,
        state_at=now_ms,
        thread=envelope.thread,
        origin=envelope.origin,
        depth=depth,
        trust=trust_of(IN, sender.peer, sender.claimed_from),
        received_at=now_ms,
        in_reply_to=envelope.in_reply_to,
        claimed_from=sender.claimed_from,
        expires_at=now_ms + (longest if envelope.expires_in is None else min(envelope.expires_in, longest)),
    )


def on_its_way(message: Message, now_ms: int) -> Envelope:
    """The envelope of a message of the outbox."""
    return Envelope(
        id=message.id,
        type=message.type,
        body=message.body,
        ts=message.ts,
        thread=message.thread,
        origin=message.origin,
        depth=message.depth,
        in_reply_to=message.in_reply_to,
        expires_in=None if message.expires_at is None else max(0, message.expires_at - now_ms),
    )


def envelope_of(item: Any, at: int) -> Envelope | Delivery:
    """One envelope as it came; a malformed one spoils itself only.

    :raises InvalidRequest: it has not even an id to answer for.
    """
    try:
        return codec.parse(Envelope, item)
    except InvalidRequest as error:
        identifier = item.get("id") if isinstance(item, dict) else None
        if not isinstance(identifier, str) or not ID_SHAPE.fullmatch(identifier):
            raise InvalidRequest(f"envelopes[{at}]: {error.message}") from None
        return Delivery(id=identifier, result=REFUSED, reason=error.message, code=error.code)
