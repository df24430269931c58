"""Launch tokens, sessions of browsers, and whose page asks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopsy.core.dashboard import (
    LAUNCH_S,
    LAUNCHES,
    SESSION_S,
    SESSIONS,
    Launches,
    Sessions,
    check_page,
    cookie_of,
    digest,
)
from loopsy.errors import Forbidden, LaunchRefused

OWN = "http://127.0.0.1:19532"


def test_a_token_opens_once() -> None:
    launches = Launches()
    launches.add("t", 0.0)
    launches.use("t", LAUNCH_S)
    with pytest.raises(LaunchRefused):
        launches.use("t", 1.0)


@pytest.mark.parametrize(("token", "now"), [("t", LAUNCH_S + 0.001), ("T", 0.0), ("", 0.0), ("tt", 0.0)])
def test_a_late_or_wrong_one_opens_nothing(token: str, now: float) -> None:
    launches = Launches()
    launches.add("t", 0.0)
    with pytest.raises(LaunchRefused):
        launches.use(token, now)


def test_a_late_one_is_used_up_too() -> None:
    launches = Launches()
    launches.add("t", 0.0)
    for now in (LAUNCH_S + 1, 0.0):
        with pytest.raises(LaunchRefused):
            launches.use("t", now)


def test_the_oldest_of_many_tokens_goes() -> None:
    launches = Launches()
    for number in range(LAUNCHES + 1):
        launches.add(str(number), 0.0)
    with pytest.raises(LaunchRefused):
        launches.use("0", 0.0)
    launches.use("1", 0.0)


def test_a_session_lives_from_its_last_use() -> None:
    sessions = Sessions({}, 0.0)
    sessions.add("c", 0.0)
    assert sessions.use("c", SESSION_S - 1) == digest("c")
    assert sessions.use("c", 2 * SESSION_S - 2) == digest("c")
    assert sessions.use("c", 3 * SESSION_S) is None


def test_a_clock_that_was_put_back_opens_nothing_for_ever() -> None:
    sessions = Sessions({}, 0.0)
    sessions.add("c", 10 * SESSION_S)
    assert sessions.use("c", 0.0) is None


def test_those_of_an_earlier_run_count_if_they_are_young() -> None:
    sessions = Sessions({digest("young"): 0.0, digest("old"): -SESSION_S}, 1.0)
    assert sessions.use("young", 1.0)
    assert sessions.use("old", 1.0) is None


def test_the_least_recently_used_goes() -> None:
    sessions = Sessions({}, 0.0)
    gone = [sessions.add(str(number), float(number)) for number in range(SESSIONS)]
    assert gone == [()] * SESSIONS
    sessions.use("0", 100.0)
    assert sessions.add("new", 101.0) == (digest("1"),)
    assert sessions.use("1", 101.0) is None
    assert sessions.use("0", 101.0)


def test_ends_are_told_of_once() -> None:
    sessions = Sessions({}, 0.0)
    sessions.add("a", 0.0)
    sessions.add("b", 0.0)
    assert sessions.end("a") == digest("a")
    assert sessions.end("a") is None
    assert sessions.end_all() == (digest("b"),)
    assert sessions.use("b", 0.0) is None


TEXTS = st.sampled_from(
    [None, OWN, f"{OWN}/dashboard/", "null", "http://evil", f"{OWN}.evil/", "https://127.0.0.1:19532"]
)
SITES = st.sampled_from([None, b"none", b"same-origin", b"same-site", b"cross-site", b"x"])


@given(st.sampled_from([b"GET", b"HEAD", b"POST", b"DELETE", b"UPGRADE"]), SITES, TEXTS, TEXTS)
def test_what_counts_is_our_own_origin_and_nothing_else(
    method: bytes, site: bytes | None, origin: str | None, referer: str | None
) -> None:
    """Another site never; a change only with our Origin; a read by any of the three proofs."""
    reads = method in (b"GET", b"HEAD")
    proof = site is not None or (referer or "").startswith(f"{OWN}/")
    allowed = site in (None, b"none", b"same-origin") and (origin == OWN or (origin is None and reads and proof))
    try:
        check_page(method, site, origin, referer, OWN)
    except Forbidden:
        assert not allowed
    else:
        assert allowed


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("n=v", "v"), (" n=v ; a=b", "v"), ("a=b; n=v=w", "v=w"), ("N=v", None), ("nn=v", None), ("n=", None),
        ("", None), ("n=a; n=b", None), ("n=a; n=a", None), ("n", None), (";;;", None),
    ],
)  # fmt: skip
def test_a_cookie_is_found_if_there_is_just_one(header: str, value: str | None) -> None:
    assert cookie_of(header, "n") == value
