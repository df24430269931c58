"""The context table against a dict."""

from __future__ import annotations

import sqlite3

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from loopsy.config import ContextLimits
from loopsy.core.context import entry
from loopsy.errors import TooManyEntries
from loopsy.store import context as table
from loopsy.store.database import SCHEMA
from loopsy.wire.context import Entry, PutEntry

LIMITS = ContextLimits(max_entries=4)
KEYS = st.sampled_from(["a", "ab", "abc", "b", "%", "_", "é", "日/本"])
STEPS = st.lists(
    st.tuples(st.just("put"), KEYS, st.text(max_size=5), st.none() | st.sampled_from([0.001, 1, 2.5]))
    | st.tuples(st.just("delete"), KEYS)
    | st.tuples(st.just("wait"), st.sampled_from([1, 999, 1000, 5000]))
    | st.tuples(st.just("purge")),
    max_size=30,
)


def empty() -> sqlite3.Connection:
    db = sqlite3.connect(":memory:", isolation_level=None)
    db.executescript(SCHEMA[0])
    return db


@given(STEPS, st.sampled_from(["", "a", "ab", "%", "_", "é", "zz"]))
def test_the_table_does_what_a_dict_would(steps: list[tuple[object, ...]], prefix: str) -> None:
    db, model, now = empty(), dict[str, Entry](), 1_000_000

    def live() -> dict[str, Entry]:
        return {k: e for k, e in model.items() if e.expires_at is None or e.expires_at > now}

    for step in steps:
        match step:
            case ("put", str(key), str(value), ttl):
                new = entry(key, PutEntry(value=value, ttl=ttl), "n", now)  # type: ignore[arg-type]
                if key not in live() and len(live()) >= LIMITS.max_entries:
                    with pytest.raises(TooManyEntries):
                        table.put(db, new, LIMITS, now)
                else:
                    model[key] = evolve(new, created_at=live()[key].created_at) if key in live() else new
                    assert table.put(db, new, LIMITS, now) == model[key]
            case ("delete", str(key)):
                assert table.delete(db, key, now) == (key in live())
                model.pop(key, None)
            case ("wait", int(ms)):
                now += ms
            case ("purge",):
                table.purge(db, now)
                assert db.execute("SELECT count(*) FROM context").fetchone() == (len(live()),)
        assert table.count(db, now) == len(live())
        assert all(table.get(db, key, now) == live().get(key) for key in ("a", "%", "é"))
    listed = [e for page in table.pages(db, prefix, now) for e in page]
    assert {e.key: e for e in listed} == {k: e for k, e in live().items() if k.startswith(prefix)}
    assert [e.key.encode() for e in listed] == sorted(e.key.encode() for e in listed)


def test_a_listing_goes_on_over_changes_between_its_pages() -> None:
    db = empty()
    for number in range(40):
        table.keep(db, Entry(key=f"{number:02}", value="v"))
    pages = table.pages(db, "", 0)
    first = next(pages)
    table.delete(db, first[-1].key, 0)
    table.delete(db, "30", 0)
    rest = [e.key for page in pages for e in page]
    assert [e.key for e in first] + rest == [f"{n:02}" for n in range(40) if n != 30]
