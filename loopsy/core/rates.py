"""Rate limits: a token bucket for each caller and category, as large as a minute's worth."""

from __future__ import annotations

import math
from enum import StrEnum

from attrs import frozen

from loopsy.config import RateLimits
from loopsy.core.principals import Local, Principal
from loopsy.errors import RateLimited


class Category(StrEnum):
    """Requests that are counted together."""

    EXECUTE = "execute"
    TRANSFER = "transfer"
    CONTEXT = "context"
    MESSAGES = "messages"
    DELIVERIES = "deliveries"


FIXED = {Category.DELIVERIES: 600}
"""A minute, and no setting: a delivery holds up to 100 messages, so ten a second hold nobody up."""


@frozen
class Bucket:
    """Tokens left at a time (seconds of a monotonic clock)."""

    tokens: float
    at: float


class Rates:
    """The buckets. Callers are named by their keys, so there are never more buckets than keys times categories."""

    def __init__(self) -> None:
        self._buckets: dict[tuple[str, Category], Bucket] = {}

    def take(self, principal: Principal, category: Category, limits: RateLimits, now: float) -> None:
        """Count one request at ``now``.

        :raises RateLimited: with the seconds until the next one is let through.
        """
        if isinstance(principal, Local) and not limits.local:
            return
        self.spend(principal.name, category, limits, now)

    def spend(self, caller: str, category: Category, limits: RateLimits, now: float) -> None:
        """Count one request of a caller by any name, our own agents too.

        :raises RateLimited: with the seconds until the next one is let through.
        """
        fixed = FIXED.get(category)
        per_minute: int = getattr(limits, category.value) if fixed is None else fixed
        name = (caller, category)
        old = self._buckets.get(name, Bucket(per_minute, now))
        tokens = min(per_minute, old.tokens + max(0.0, now - old.at) * per_minute / 60)
        if tokens < 1:
            wait = math.ceil((1 - tokens) * 60 / per_minute)
            raise RateLimited(
                f"more than {per_minute} {category.value} requests a minute from {caller}",
                retry_after=wait,
                hint=f"try again in {wait} s"
                + ("" if fixed else f", or raise rateLimits.{category.value} in that machine's config.yaml"),
            )
        self._buckets[name] = Bucket(tokens - 1, now)
