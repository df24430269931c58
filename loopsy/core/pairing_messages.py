"""The messages of pairing as bytes, each in just one form, so that a transcript of them is what was really said.

A message is a list of fields, each behind its length in two bytes (big-endian): the protocol's name, the message's
kind, then its own fields in the order below. docs/protocol/pairing.md tells who says what when.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import attrs
from attrs import field, frozen

from loopsy.errors import PairingViolation

PROTOCOL = b"loopsy-pair-1"
MAX_BYTES = 3072
"""Of one message: the longest real one (a greeting with the longest names) has about 2200."""
NONCE, COMMITMENT, TOKEN, EXCHANGE = 32, 32, 32, 16
SPAKE, POINT = 33, 65
"""spake2's side byte and a compressed point of edwards25519; an uncompressed point of P-256."""


# -- fields -----------------------------------------------------------------------------------------------------------
@frozen
class Form:
    """How a field is written, and read back (which refuses any other form of the same value)."""

    write: Callable[[Any], bytes]
    read: Callable[[bytes], Any]


def fixed(length: int) -> Any:
    """Exactly so many bytes."""

    def read(data: bytes) -> bytes:
        if len(data) != length:
            raise PairingViolation(f"a field of {length} bytes has {len(data)}")
        return data

    return field(repr=False, metadata={"form": Form(lambda value: value, read)})


def text(low: int, high: int) -> Any:
    """UTF-8 of so many characters, without NUL."""

    def read(data: bytes) -> str:
        try:
            value = data.decode("utf-8")
        except UnicodeDecodeError:
            raise PairingViolation("a field is not UTF-8") from None
        if not low <= len(value) <= high or "\0" in value:
            raise PairingViolation(f"a text field must have {low} to {high} characters and no NUL")
        return value

    return field(metadata={"form": Form(lambda value: value.encode("utf-8"), read)})


def _read_port(data: bytes) -> int:
    port = int.from_bytes(data, "big")
    if len(data) != 2 or port == 0:
        raise PairingViolation("a port must be two bytes and not 0")
    return port


def port_number() -> Any:
    """A TCP port, two bytes."""
    return field(metadata={"form": Form(lambda value: value.to_bytes(2, "big"), _read_port)})


def pack(*parts: bytes) -> bytes:
    """Byte strings in one, each behind its length: no two lists give the same."""
    return b"".join(len(part).to_bytes(2, "big") + part for part in parts)


def unpack(data: bytes) -> list[bytes]:
    """The opposite.

    :raises PairingViolation: it is cut, or too long.
    """
    if len(data) > MAX_BYTES:
        raise PairingViolation(f"a pairing message has at most {MAX_BYTES} bytes")
    parts, at = [], 0
    while at < len(data):
        end = at + 2 + int.from_bytes(data[at : at + 2], "big")
        if at + 2 > len(data) or end > len(data):
            raise PairingViolation("a pairing message is cut")
        parts.append(data[at + 2 : end])
        at = end
    return parts


# -- messages ---------------------------------------------------------------------------------------------------------
@frozen(kw_only=True)
class Facts:
    """What a side says of itself; authentic once the SAS has been compared."""

    name: str = text(1, 255)
    """Its hostname."""
    node_id: str = text(1, 128)
    port: int = port_number()
    """Where it listens."""
    fingerprint: str = text(0, 128)
    """SHA-256 of its certificate in hex; empty: it has none."""


@frozen(kw_only=True)
class _Greeting(Facts):
    nonce: bytes = fixed(NONCE)
    spake: bytes = fixed(SPAKE)
    commitment: bytes = fixed(COMMITMENT)


@frozen(kw_only=True)
class Hello(_Greeting):
    """Joiner, first: who it is, its half of SPAKE2, and what it commits to."""

    KIND: ClassVar = b"\x01"


@frozen(kw_only=True)
class Welcome(_Greeting):
    """Inviter: the same, and the exchange's id."""

    KIND: ClassVar = b"\x02"
    exchange: bytes = fixed(EXCHANGE)


@frozen(kw_only=True)
class _Opening:
    exchange: bytes = fixed(EXCHANGE)
    public: bytes = fixed(POINT)
    opening: bytes = fixed(NONCE)
    proof: bytes = fixed(TOKEN)


@frozen(kw_only=True)
class Reveal(_Opening):
    """Joiner: the ECDH key that it committed to, and the proof that it knows the code."""

    KIND: ClassVar = b"\x03"


@frozen(kw_only=True)
class Revealed(_Opening):
    """Inviter: the same."""

    KIND: ClassVar = b"\x04"


@frozen(kw_only=True)
class _Token:
    exchange: bytes = fixed(EXCHANGE)
    token: bytes = fixed(TOKEN)
    """Derived from the session's secrets: only the two sides can say it."""


@frozen(kw_only=True)
class Poll(_Token):
    """Joiner: what has been decided over there?"""

    KIND: ClassVar = b"\x05"


@frozen(kw_only=True)
class Confirm(_Token):
    """Joiner: the human here said yes."""

    KIND: ClassVar = b"\x06"


@frozen(kw_only=True)
class Cancel(_Token):
    """Joiner: the human here said no."""

    KIND: ClassVar = b"\x07"


@frozen(kw_only=True)
class Finish(_Token):
    """Joiner: the keys are on disk here; now keep them there."""

    KIND: ClassVar = b"\x08"


@frozen(kw_only=True)
class Wait(_Token):
    """Inviter: not decided yet."""

    KIND: ClassVar = b"\x09"


@frozen(kw_only=True)
class Confirmed(_Token):
    """Inviter: both humans said yes."""

    KIND: ClassVar = b"\x0a"


@frozen(kw_only=True)
class Cancelled(_Token):
    """Inviter: the human here said no."""

    KIND: ClassVar = b"\x0b"


@frozen(kw_only=True)
class Done(_Token):
    """Inviter: the keys are on disk here too."""

    KIND: ClassVar = b"\x0c"


FromJoiner = Hello | Reveal | Poll | Confirm | Cancel | Finish
FromInviter = Welcome | Revealed | Wait | Confirmed | Cancelled | Done
Message = FromJoiner | FromInviter
KINDS: dict[bytes, type[Message]] = {
    kind.KIND: kind
    for kind in (Hello, Welcome, Reveal, Revealed, Poll, Confirm, Cancel, Finish, Wait, Confirmed, Cancelled, Done)
}


def _forms(kind: type) -> list[tuple[str, Form]]:
    return [(f.name, f.metadata["form"]) for f in attrs.fields(kind)]


def encode(message: Message) -> bytes:
    """The bytes of a message."""
    fields = (form.write(getattr(message, name)) for name, form in _forms(type(message)))
    return pack(PROTOCOL, message.KIND, *fields)


def decode(data: bytes) -> Message:
    """The message of these bytes; ``encode`` gives just them again.

    :raises PairingViolation: they are not one.
    """
    protocol, kind, *fields = [*unpack(data), b"", b""]
    if protocol != PROTOCOL:
        raise PairingViolation("the other side speaks another version of pairing", hint="is it loopsy, and up to date?")
    if kind not in KINDS:
        raise PairingViolation("there is no such pairing message")
    forms, values = _forms(KINDS[kind]), fields[:-2]
    if len(values) != len(forms):
        raise PairingViolation(f"a {KINDS[kind].__name__} has {len(forms)} fields, not {len(values)}")
    return KINDS[kind](**{name: form.read(value) for (name, form), value in zip(forms, values, strict=True)})


def from_joiner(data: bytes) -> FromJoiner:
    """What a joiner may say.

    :raises PairingViolation: it is something else.
    """
    message = decode(data)
    if not isinstance(message, FromJoiner):
        raise PairingViolation(f"a joiner says no {type(message).__name__}")
    return message


def from_inviter(data: bytes) -> FromInviter:
    """What an inviter may say.

    :raises PairingViolation: it is something else.
    """
    message = decode(data)
    if not isinstance(message, FromInviter):
        raise PairingViolation(f"an inviter says no {type(message).__name__}")
    return message
