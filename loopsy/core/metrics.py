"""Counting requests: by route and status, how long they took, and the bytes both ways.

Only addition happens while requests pass; the words for Prometheus are made when somebody asks.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter

BOUNDS = (0.001, 0.005, 0.025, 0.1, 0.5, 2.5, 10.0)
"""Seconds. A request on loopback takes about a ms; what takes over ten is a stream or a wait."""
NO_ROUTE = "none"
"""What led nowhere counts together: a stranger can't make us remember addresses."""


class Histogram:
    """How many took how long."""

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS) + 1)
        """Each bound's own, then those above the last; not cumulated."""
        self.total = 0.0
        """Seconds."""

    def add(self, seconds: float) -> None:
        """One more."""
        self.counts[bisect_left(BOUNDS, seconds)] += 1
        self.total += seconds

    def cumulated(self) -> list[tuple[str, float]]:
        """As Prometheus has it: up to each bound, then all."""
        found, count = [], 0
        for bound, own in zip((*map(str, BOUNDS), "+Inf"), self.counts, strict=True):
            count += own
            found.append((bound, float(count)))
        return found


class Tally:
    """All requests since the start. There are never more keys than routes times methods times statuses."""

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, str, int]] = Counter()
        """By method, route and status."""
        self.took: dict[str, Histogram] = {}
        """By route."""
        self.bytes_in = 0
        self.bytes_out = 0

    def add(self, method: str, route: str | None, status: int, seconds: float, bytes_in: int, bytes_out: int) -> None:
        """One request has ended."""
        name = route or NO_ROUTE
        self.requests[method if route else NO_ROUTE, name, status] += 1
        histogram = self.took.get(name)
        if histogram is None:
            histogram = self.took[name] = Histogram()
        histogram.add(seconds)
        self.bytes_in += bytes_in
        self.bytes_out += bytes_out
