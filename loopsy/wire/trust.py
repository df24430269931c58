"""Trust: what a peer may do here, and ending it."""

from __future__ import annotations

from typing import Any

from attrs import field, frozen

from loopsy.wire.checks import Refused, at_most

SCOPES = ("execute", "transfer", "context", "messages", "ai-tasks", "terminal")
"""What a peer may be let into, area by area."""


def known_scopes(_: Any, attribute: Any, value: tuple[str, ...]) -> None:
    """Names of scopes."""
    unknown = [name for name in value if name not in SCOPES]
    if unknown:
        raise Refused(attribute, f"must not hold {unknown[0]!r}; known: {', '.join(SCOPES)}")


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
