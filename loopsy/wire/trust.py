"""Trust: what a peer may do here, and ending it."""

from __future__ import annotations

from typing import Any

from attrs import field, frozen

from loopsy.wire.checks import Refused, at_most, no_nul, not_empty, within

DEFAULT_SCOPES = ("execute", "transfer", "context", "messages", "ai-tasks", "terminal")
"""What a peer is let into where nothing else is said, area by area."""
SCOPES = (*DEFAULT_SCOPES, "approve")
"""… and what it may be let into besides: approving what its own tasks ask."""


def known_scopes(_: Any, attribute: Any, value: tuple[str, ...]) -> None:
    """Names of scopes."""
    unknown = [name for name in value if name not in SCOPES]
    if unknown:
        raise Refused(attribute, f"must not hold {unknown[0]!r}; known: {', '.join(SCOPES)}")


def hex_digits(_: Any, attribute: Any, value: str) -> None:
    """A fingerprint."""
    if len(value) != 64 or any(digit not in "0123456789abcdef" for digit in value):
        raise Refused(attribute, "must be 64 hex digits in lower case")


@frozen(kw_only=True)
class SetScopes:
    """``PUT /trust/<peer>/scopes``."""

    scopes: tuple[str, ...] = field(validator=[at_most(len(SCOPES)), known_scopes])


@frozen(kw_only=True)
class Trusted:
    """A peer and what it may do here, after a change."""

    name: str
    scopes: tuple[str, ...]
    pinned: str | None = None
    """The fingerprint of its certificate."""


@frozen(kw_only=True)
class Revoked:
    """``POST /trust/<peer>/revoke``."""

    success: bool
    name: str


@frozen(kw_only=True)
class Half:
    """``POST /trust/rotation``, from one daemon to the other, and its answer: a public half for new keys (base64)."""

    public: str = field(validator=at_most(256))


@frozen(kw_only=True)
class Rotated:
    """``POST /trust/<peer>/rotate``."""

    success: bool
    name: str
    confirmed: bool
    """The peer has taken the new keys into use; else it does so at our next request that reaches it."""


@frozen(kw_only=True)
class Probe:
    """``POST /trust/probe``: what is at an address, and whether it takes a key."""

    address: str = field(validator=[not_empty, no_nul, at_most(255)])
    port: int = field(default=19532, validator=within(1, 65535, ""))
    key: str | None = field(default=None, repr=False, validator=at_most(256))


@frozen(kw_only=True)
class Probed:
    """What was found."""

    node_id: str
    fingerprint: str | None = None
    """Of the certificate shown; None: it speaks plain HTTP."""
    hostname: str | None = None
    """Known once it took a key."""
    version: str | None = None
    takes_key: bool | None = None
    """None: no key was given."""


@frozen(kw_only=True)
class Keep:
    """``POST /trust``: trust a node whose keys were agreed on by hand."""

    name: str = field(validator=[not_empty, no_nul, at_most(255)])
    address: str = field(validator=[not_empty, no_nul, at_most(255)])
    port: int = field(default=19532, validator=within(1, 65535, ""))
    our_key: str = field(repr=False, validator=at_most(256))
    """What we present there."""
    their_key: str = field(repr=False, validator=at_most(256))
    """What it presents here."""
    pin: str | None = field(default=None, validator=at_most(128))


@frozen(kw_only=True)
class NextCertificate:
    """``POST /trust/certificate``, from one daemon to the other: the fingerprint of the certificate that follows."""

    fingerprint: str = field(validator=[at_most(64), hex_digits])


@frozen(kw_only=True)
class Noted:
    """Its answer."""

    success: bool
