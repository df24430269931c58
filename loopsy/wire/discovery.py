"""Discovery: how this machine is announced."""

from __future__ import annotations

from attrs import frozen


@frozen(kw_only=True)
class DiscoveryState:
    """``GET /discovery``."""

    enabled: bool
    published: bool = False
    """We announce ourselves on the LAN."""
    instance: str | None = None
    """As which service."""
    addresses: tuple[str, ...] = ()
    """At which addresses."""
    sees_itself: bool = False
    """Our own announcement came back to us: multicast works on this machine."""
    found: int = 0
    """Services of others."""
    error: str | None = None
    """Why it isn't published."""
