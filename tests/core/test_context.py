"""Rules of the context store."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopsy.config import ContextLimits
from loopsy.core.context import admit, check_key, check_value, entry
from loopsy.errors import InvalidRequest, TooManyEntries, ValueTooLarge
from loopsy.wire.context import PutEntry


@pytest.mark.parametrize("key", ["a", "a b", "a/b", "inbox:kai:1-x", "é", "日本", ".", "x" * 256])
def test_printable_keys_are_taken(key: str) -> None:
    assert check_key(key) == key


@pytest.mark.parametrize("key", ["", "x" * 257, "a\0", "a\n", "\x1b[2J", "\u202e", "\ud800", "\x7f"])
def test_other_keys_are_refused(key: str) -> None:
    with pytest.raises(InvalidRequest, match="the key must"):
        check_key(key)


@given(st.text(max_size=30), st.integers(1, 60))
def test_a_value_is_taken_just_when_its_utf8_fits(value: str, limit: int) -> None:
    size = len(value.encode())
    if size <= limit:
        assert check_value(value, ContextLimits(max_value_bytes=limit)) == value
    else:
        with pytest.raises(ValueTooLarge, match=f"has {size} bytes; at most {limit} are taken"):
            check_value(value, ContextLimits(max_value_bytes=limit))


@given(st.floats(0.001, 1e8), st.integers(0, 2**45))
def test_an_entry_ends_its_ttl_after_it_was_set(ttl: float, now: int) -> None:
    made = entry("k", PutEntry(value="", ttl=ttl), "n", now)
    assert made.expires_at is not None
    assert made.expires_at > now
    assert abs(made.expires_at - now - ttl * 1000) <= 1
    assert entry("k", PutEntry(value=""), "n", now).expires_at is None


def test_a_full_store_takes_new_values_of_old_keys_only() -> None:
    limits = ContextLimits(max_entries=2)
    admit(False, 1, limits)
    admit(True, 2, limits)
    with pytest.raises(TooManyEntries):
        admit(False, 2, limits)
