"""Counting requests."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from loopsy.core.metrics import BOUNDS, NO_ROUTE, Histogram, Tally


@given(st.lists(st.floats(0, 100)))
def test_a_histogram_holds_every_one_once(times: list[float]) -> None:
    """Cumulated counts never fall, and end with all; each bound counts what is at most it."""
    histogram = Histogram()
    for seconds in times:
        histogram.add(seconds)
    counts = [count for _, count in histogram.cumulated()]
    assert counts == sorted(counts)
    assert counts[-1] == len(times)
    assert counts[:-1] == [sum(seconds <= bound for seconds in times) for bound in BOUNDS]


def test_addresses_that_lead_nowhere_count_together() -> None:
    """Whatever a stranger asks for, no more is remembered."""
    tally = Tally()
    for at in range(1000):
        tally.add(f"X{at}", None, 404, 0.001, 0, 10)
    assert list(tally.requests) == [(NO_ROUTE, NO_ROUTE, 404)]
    assert list(tally.took) == [NO_ROUTE]
    assert tally.bytes_out == 10_000
