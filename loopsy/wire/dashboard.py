"""Opening the dashboard (docs/protocol/dashboard.md)."""

from __future__ import annotations

from attrs import field, frozen

from loopsy.wire.checks import at_most, not_empty


@frozen(kw_only=True)
class Launch:
    """``POST /dashboard/launch``: an address that opens the dashboard once."""

    url: str = field(repr=False)
    expires_at: int
    """ms since the epoch."""


@frozen(kw_only=True)
class Enter:
    """``POST /dashboard/session``: the launch token, for a cookie."""

    token: str = field(repr=False, validator=[not_empty, at_most(128)])


@frozen(kw_only=True)
class SessionChanged:
    """It began, or ended."""

    success: bool
