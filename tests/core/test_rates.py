"""The token bucket."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopsy.config import RateLimits
from loopsy.core.principals import LOCAL, PeerPrincipal
from loopsy.core.rates import Category, Rates
from loopsy.errors import RateLimited

KAI, LEO = PeerPrincipal(name="kai"), PeerPrincipal(name="leo")
TIMES = st.lists(st.floats(0, 300), max_size=200).map(sorted)


def passed(rates: Rates, limit: int, now: float, who: PeerPrincipal = KAI) -> bool:
    try:
        rates.take(who, Category.EXECUTE, RateLimits(execute=limit), now)
    except RateLimited:
        return False
    return True


@given(TIMES, st.integers(1, 40), st.floats(0, 1e6))
def test_no_minute_lets_through_more_than_twice_the_limit(times: list[float], limit: int, start: float) -> None:
    rates = Rates()
    let = [at for at in times if passed(rates, limit, start + at)]
    for begin in let:
        assert sum(begin <= at < begin + 60 for at in let) <= 2 * limit


@given(st.integers(1, 1000), st.floats(0, 1e9))
def test_a_whole_minutes_worth_may_come_at_once_and_no_more(limit: int, now: float) -> None:
    rates = Rates()
    assert all(passed(rates, limit, now) for _ in range(limit))
    assert not passed(rates, limit, now)


@given(st.integers(1, 1000), st.floats(0, 1e7), st.floats(0, 60))
def test_whoever_waits_as_long_as_told_is_let_through(limit: int, now: float, later: float) -> None:
    rates = Rates()
    while passed(rates, limit, now):
        pass
    try:
        rates.take(KAI, Category.EXECUTE, RateLimits(execute=limit), now + later)
    except RateLimited as refusal:
        assert refusal.retry_after is not None
        assert 1 <= refusal.retry_after <= 61
        assert passed(rates, limit, now + later + refusal.retry_after)


def test_callers_and_categories_do_not_share() -> None:
    rates, limits = Rates(), RateLimits(execute=1, transfer=1)
    rates.take(KAI, Category.EXECUTE, limits, 0)
    rates.take(LEO, Category.EXECUTE, limits, 0)
    rates.take(KAI, Category.TRANSFER, limits, 0)
    with pytest.raises(RateLimited, match="more than 1 execute requests a minute from kai"):
        rates.take(KAI, Category.EXECUTE, limits, 0)


def test_this_machine_itself_is_limited_only_where_the_config_says_so() -> None:
    rates = Rates()
    for _ in range(100):
        rates.take(LOCAL, Category.EXECUTE, RateLimits(execute=1), 0)
    rates.take(LOCAL, Category.EXECUTE, RateLimits(execute=1, local=True), 0)
    with pytest.raises(RateLimited):
        rates.take(LOCAL, Category.EXECUTE, RateLimits(execute=1, local=True), 0)


def test_a_lowered_limit_holds_at_once() -> None:
    rates = Rates()
    assert passed(rates, 100, 0)
    assert [passed(rates, 2, 0) for _ in range(3)] == [True, True, False]


def test_a_clock_that_jumps_back_gives_nothing_away() -> None:
    rates = Rates()
    assert passed(rates, 1, 100)
    assert not passed(rates, 1, 0)
