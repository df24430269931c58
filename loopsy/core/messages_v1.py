"""Messages as existing nodes speak them: envelopes in context entries (docs/protocol/messages.md, at its end)."""

from __future__ import annotations

import json
from contextlib import suppress

from attrs import field, frozen

from loopsy.errors import InvalidRequest
from loopsy.wire import codec
from loopsy.wire.checks import not_empty, one_of, within
from loopsy.wire.messages import AGENT, EVERYONE, ID_SHAPE, TYPES, Envelope, Message, message_id

INBOX, OUTBOX, ACK = "inbox:", "outbox:", "ack:"
ENVELOPE_TTL_S, ACK_TTL_S = 3600, 7200


@frozen(kw_only=True)
class OldEnvelope:
    """``{from, to, ts, id, type, body}``, and ``inReplyTo`` which existing nodes pass over."""

    from_: str = field(validator=not_empty)
    to: str
    ts: int = field(validator=within(0, 2**53, "ms"))
    id: str = field(validator=message_id)
    type: str = field(validator=one_of(*TYPES))
    body: str = field(validator=not_empty)
    in_reply_to: str | None = field(default=None, validator=message_id)


def inbox_key(hostname: str, identifier: str) -> str:
    """Where an envelope lies on the recipient's machine."""
    return f"{INBOX}{hostname}:{identifier}"


def written(message: Message, own_hostname: str, their_hostname: str) -> str:
    """The envelope's text."""
    old = OldEnvelope(
        from_=own_hostname,
        to=their_hostname,
        ts=message.ts,
        id=message.id,
        type=message.type,
        body=message.body,
        in_reply_to=message.in_reply_to,
    )
    return codec.dump(old).decode()


def read(key: str, value: str, own_hostname: str) -> OldEnvelope | None:
    """The envelope that a context entry is, if it is one and meant for us."""
    start = inbox_key(own_hostname, "")
    if not key.startswith(start):
        return None
    with suppress(InvalidRequest):
        old = codec.parse_bytes(OldEnvelope, value.encode("utf-8", "surrogatepass"))
        if old.id == key[len(start) :] and old.to in (own_hostname, EVERYONE):
            return old
    return None


def as_ours(old: OldEnvelope) -> Envelope:
    """With what existing nodes don't say: agents write there, each message is its own thread unless it answers one."""
    return Envelope(
        id=old.id,
        type=old.type,
        body=old.body,
        ts=old.ts,
        thread=old.in_reply_to or old.id,
        origin=AGENT,
        in_reply_to=old.in_reply_to,
    )


def acked_id(key: str, value: str) -> str | None:
    """The id that an ``ack:<reader>`` entry says was read, as plain text or as a JSON string."""
    if not key.startswith(ACK):
        return None
    text = value.strip()
    if text.startswith('"'):
        with suppress(ValueError):
            text = json.loads(text)
    return text if isinstance(text, str) and ID_SHAPE.fullmatch(text) else None
