"""Context: small named values that machines share."""

from __future__ import annotations

from attrs import field, frozen

from loopsy.wire.checks import at_most, within

LAST_MS = 2**53
"""Times beyond it are no longer whole numbers in every language that reads them."""

MAX_KEY = 256
MAX_TTL_S = 10 * 365 * 24 * 3600
"""Ten years: far above any use, far below where milliseconds since the epoch lose precision."""


@frozen(kw_only=True)
class PutEntry:
    """``PUT /context/<key>``."""

    value: str
    ttl: float | None = field(default=None, validator=within(0.001, MAX_TTL_S, "seconds"))
    """Seconds from now until the entry is gone."""


@frozen(kw_only=True)
class Entry:
    """One value and who set it. Times are ms since the epoch."""

    key: str = field(validator=at_most(MAX_KEY))
    value: str
    from_node_id: str = "unknown"
    created_at: int = field(default=0, validator=within(0, LAST_MS, "ms"))
    updated_at: int = field(default=0, validator=within(0, LAST_MS, "ms"))
    ttl: float | None = None
    expires_at: int | None = field(default=None, validator=within(0, LAST_MS, "ms"))


@frozen(kw_only=True)
class EntryList:
    """``GET /context``."""

    entries: tuple[Entry, ...]


@frozen(kw_only=True)
class EntryDeleted:
    """``DELETE /context/<key>``."""

    success: bool
    key: str
