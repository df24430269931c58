"""Messages: what clients send and read, and what daemons hand each other (docs/protocol/messages.md)."""

from __future__ import annotations

import re
from typing import Any

from attrs import field, frozen

from loopsy.wire.checks import Refused, at_least, at_most, no_nul, not_empty, one_of, within

CHAT, REQUEST, RESPONSE, ACK, BROADCAST = "chat", "request", "response", "ack", "broadcast"
TYPES = (CHAT, REQUEST, RESPONSE, ACK, BROADCAST)
PERSON, AGENT = "person", "agent"
ORIGINS = (PERSON, AGENT)
IN, OUT = "in", "out"
QUEUED, DELIVERED, UNREAD, READ, ACKED = "queued", "delivered", "unread", "read", "acked"
EXPIRED, REFUSED, UNDELIVERABLE, CANCELLED = "expired", "refused", "undeliverable", "cancelled"
STATES = (QUEUED, DELIVERED, UNREAD, READ, ACKED, EXPIRED, REFUSED, UNDELIVERABLE, CANCELLED)
DUPLICATE, LATER, UNKNOWN, KNOWN = "duplicate", "later", "unknown", "known"
EVERYONE = "*"
ENVELOPES_MAX = 100
DELIVER_BYTES = 1024 * 1024
"""Of one delivery, as JSON."""
RECEIPTS_MAX = 500
WAIT_MAX_S = 300
PAGE_MAX = 200
ID_MAX = 128
ID_SHAPE = re.compile(rf"[!-~]{{1,{ID_MAX}}}")


def message_id(_: Any, attribute: Any, value: Any) -> None:
    """Printable, without spaces: it stands in URLs and in context keys."""
    if value is not None and not ID_SHAPE.fullmatch(value):
        raise Refused(attribute, "must be 1 to 128 printable ASCII characters without spaces")


@frozen(kw_only=True)
class Message:
    """A message as this machine's readers see it."""

    id: str
    direction: str
    seq: int
    """Its place in this machine's inbox or outbox."""
    from_: str
    """By the key it came with."""
    from_node_id: str
    to: str
    type: str
    body: str
    ts: int
    """The sender's clock, ms since the epoch."""
    state: str
    state_at: int
    thread: str
    origin: str
    depth: int
    """How many messages of agents in a row led here."""
    trust: str
    """Whose words these are, in one sentence."""
    received_at: int | None = None
    in_reply_to: str | None = None
    claimed_from: str | None = None
    """What an existing node said of itself, where its key says otherwise."""
    expires_at: int | None = None
    reason: str | None = None
    """Why it was refused, is undeliverable, or still waits."""
    attempts: int = 0
    """How often its delivery was tried."""


@frozen(kw_only=True)
class SendMessage:
    """``POST /messages``."""

    to: str = field(validator=[not_empty, no_nul, at_most(255)])
    body: str = field(validator=not_empty)
    type: str | None = field(default=None, validator=one_of(*TYPES))
    """``chat``, or ``broadcast`` where ``to`` is ``*``."""
    in_reply_to: str | None = field(default=None, validator=message_id)
    ttl: float | None = field(default=None, validator=at_least(1, "seconds"))
    """Seconds until the deadline."""
    id: str | None = field(default=None, validator=message_id)
    origin: str = field(default=PERSON, validator=one_of(*ORIGINS))
    force: bool = False
    """The user says: go on, though agents have answered each other for long."""


@frozen(kw_only=True)
class Sent:
    """What was queued: one message for each recipient."""

    messages: tuple[Message, ...]


@frozen(kw_only=True)
class MessagePage:
    """Some messages, oldest first unless asked otherwise."""

    messages: tuple[Message, ...]
    unread: int
    """In the whole inbox."""
    next: int | None = None
    """The ``after`` of the following page."""


@frozen(kw_only=True)
class Thread:
    """A conversation, oldest first."""

    messages: tuple[Message, ...]


@frozen(kw_only=True)
class Take:
    """``POST /messages/take``: unread ones, which are then read."""

    limit: int = field(default=50, validator=within(1, PAGE_MAX, "messages"))
    wait: float = field(default=0, validator=within(0, WAIT_MAX_S, "seconds"))
    from_: str | None = None
    thread: str | None = None


@frozen(kw_only=True)
class MessageRemoved:
    """``DELETE /messages/<id>``."""

    success: bool
    id: str


# -- between daemons --------------------------------------------------------------------------------------------------
@frozen(kw_only=True)
class Envelope:
    """A message on its way. Who sent it is told by the key that it comes with."""

    id: str = field(validator=message_id)
    type: str = field(validator=one_of(*TYPES))
    body: str = field(validator=not_empty)
    ts: int = field(validator=within(0, 2**53, "ms"))
    thread: str = field(validator=message_id)
    origin: str = field(default=AGENT, validator=one_of(*ORIGINS))
    depth: int | None = field(default=None, validator=within(0, 10**6, ""))
    """A 0 said of an agent's reply is the sender's user's word to go on."""
    in_reply_to: str | None = field(default=None, validator=message_id)
    expires_in: int | None = field(default=None, validator=at_least(0, "ms"))
    """ms from now, since clocks differ."""


@frozen(kw_only=True)
class Deliver:
    """``POST /messages/deliver``. The envelopes are read one by one: a bad one spoils itself only."""

    envelopes: tuple[Any, ...] = field(validator=[not_empty, at_most(ENVELOPES_MAX)])


@frozen(kw_only=True)
class Delivery:
    """What became of one envelope or receipt."""

    id: str
    result: str
    reason: str | None = None
    code: int | None = None


@frozen(kw_only=True)
class Deliveries:
    """In the order of the request."""

    results: tuple[Delivery, ...]


@frozen(kw_only=True)
class Receipt:
    """What the recipient's side reports of a message that the other sent."""

    id: str = field(validator=message_id)
    state: str = field(validator=one_of(READ, ACKED, EXPIRED))
    at: int = field(validator=within(0, 2**53, "ms"))


@frozen(kw_only=True)
class Receipts:
    """``POST /messages/receipts``."""

    receipts: tuple[Receipt, ...] = field(validator=[not_empty, at_most(RECEIPTS_MAX)])
