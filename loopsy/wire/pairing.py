"""Pairing: what the user's own commands ask, and the envelope of what two daemons say to each other."""

from __future__ import annotations

import base64
import binascii
from typing import Any

from attrs import field, frozen

from loopsy.wire.checks import Refused, at_most, no_nul, not_empty, one_of, within

MAX_MESSAGE = 4096
"""Characters of base64; docs/protocol/pairing.md says what is in it."""
BODY_LIMIT = 8192
"""Bytes of a body that a stranger may send."""
INVITER, JOINER, NOBODY = "inviter", "joiner", "none"
IDLE, INVITING, JOINING, COMPARING, CONFIRMED, FINISHING, PAIRED, ENDED = (
    "idle", "inviting", "joining", "comparing", "confirmed", "finishing", "paired", "ended",
)  # fmt: skip


def is_base64(_: Any, attribute: Any, value: Any) -> None:
    """Base64 in its one form."""
    try:
        same = base64.b64encode(base64.b64decode(value, validate=True)).decode() == value
    except (binascii.Error, ValueError):
        same = False
    if not same:
        raise Refused(attribute, "must be base64")


def six_digits(_: Any, attribute: Any, value: Any) -> None:
    """Six digits, as a code or SAS is."""
    if value is not None and not (len(value) == 6 and value.isascii() and value.isdigit()):
        raise Refused(attribute, "must be six digits")


@frozen(kw_only=True)
class PairMessage:
    """``POST /pair/initiate`` and ``/pair/messages``, both ways."""

    message: str = field(repr=False, validator=[at_most(MAX_MESSAGE), is_base64])

    @classmethod
    def of(cls, data: bytes) -> PairMessage:
        """These bytes in their envelope."""
        return cls(message=base64.b64encode(data).decode())

    @property
    def data(self) -> bytes:
        """The bytes."""
        return base64.b64decode(self.message)


@frozen(kw_only=True)
class Invitation:
    """The answer of ``POST /pair/start``."""

    invite_code: str = field(repr=False)
    expires_at: int
    """ms since the epoch."""
    addresses: tuple[str, ...]
    """What may be typed behind ``loopsy pair`` on the other machine."""


@frozen(kw_only=True)
class JoinPairing:
    """``POST /pair/join``."""

    address: str = field(validator=[not_empty, no_nul, at_most(255)])
    port: int = field(default=19532, validator=within(1, 65535, ""))
    code: str = field(repr=False, validator=six_digits)


@frozen(kw_only=True)
class ConfirmPairing:
    """``POST /pair/confirm``: what the human said, and the SAS it was said of."""

    accept: bool
    sas: str | None = field(default=None, validator=six_digits)
    """Needed for a yes: the number that the human saw, or was told to expect. Another one than ours is a no."""


@frozen(kw_only=True)
class PairPeer:
    """Who is at the other end."""

    hostname: str
    node_id: str
    address: str
    port: int
    fingerprint: str | None = None
    name: str | None = None
    """What we call it, once it is paired."""
    replaces: str | None = None
    """While numbers are compared: what the peer of this node id is called whose keys here are then replaced."""
    paired_at: int | None = None
    """Since when that one is paired, ms since the epoch, where it is known."""


@frozen(kw_only=True)
class PairFault:
    """Why a session ended without a pair; as in an error body."""

    code: int
    message: str
    hint: str | None = None
    tries_left: int | None = None
    """After a wrong code."""


@frozen(kw_only=True)
class PairStatus:
    """``GET /pair/status``, and the answer of every local question."""

    role: str = field(default=NOBODY, validator=one_of(INVITER, JOINER, NOBODY))
    state: str = field(
        default=IDLE,
        validator=one_of(IDLE, INVITING, JOINING, COMPARING, CONFIRMED, FINISHING, PAIRED, ENDED),
    )
    session: int = 0
    """Counted, so that a command sees when its session is no longer the current one."""
    invite_code: str | None = field(default=None, repr=False)
    expires_at: int | None = None
    addresses: tuple[str, ...] = ()
    tries_left: int | None = None
    sas: str | None = field(default=None, repr=False)
    their_yes: bool = False
    peer: PairPeer | None = None
    fault: PairFault | None = None
