"""The context in each of its stores, against a dict."""

from __future__ import annotations

import sqlite3
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve, frozen
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loopsy.config import ContextLimits
from loopsy.core.context import entry
from loopsy.errors import ContextUnreachable, TooManyEntries
from loopsy.store import context as table
from loopsy.store.database import SCHEMA
from loopsy.store.shared_context import SharedContext
from loopsy.testing import redis_server
from loopsy.wire.context import Entry, PutEntry
from tests.waiting import wait_until

LIMITS = ContextLimits(max_entries=4)
NOW = 4_000_000_000_000
"""In the next century: Redis has a clock of its own, and must strike nothing while a test's clock runs."""
KEYS = st.sampled_from(["a", "ab", "abc", "b", "%", "_", "é", "日/本"])
STEPS = st.lists(
    st.tuples(st.just("put"), KEYS, st.text(max_size=5), st.none() | st.sampled_from([0.001, 1, 2.5]))
    | st.tuples(st.just("delete"), KEYS)
    | st.tuples(st.just("wait"), st.sampled_from([1, 999, 1000, 5000]))
    | st.tuples(st.just("purge")),
    max_size=30,
)
Store = Any
Maker = Callable[[], Store]


@frozen(eq=False)
class Table:
    """The SQLite table with the shape of the other."""

    db: sqlite3.Connection

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return lambda *words, **more: getattr(table, name)(self.db, *words, **more)


def in_sqlite() -> Table:
    """An empty one."""
    db = sqlite3.connect(":memory:", isolation_level=None)
    db.executescript(SCHEMA[0])
    return Table(db)


@pytest.fixture(scope="module", autouse=True)
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str | None]:
    """A real one, where there is any; before the first test, which so leaves nothing behind."""
    if redis_server.program() is None:
        yield None
        return
    with redis_server.running(tmp_path_factory.mktemp("redis")) as address:
        yield address


@pytest.fixture
def redis_address(server: str | None) -> str:
    """Of the real server."""
    if server is None:
        pytest.skip("there is neither valkey-server nor redis-server here (Debian: apt install redis-server)")
    return server


@pytest.fixture(params=["sqlite", "redis"])
def make_store(request: pytest.FixtureRequest) -> Iterator[Maker]:
    """Makes empty stores of one kind."""
    if request.param == "sqlite":
        yield in_sqlite
        return
    address, made = request.getfixturevalue("redis_address"), list[SharedContext]()

    def make() -> SharedContext:
        made.append(SharedContext(address, f"test:{uuid.uuid4()}:"))
        return made[-1]

    yield make
    for store in made:
        store.close()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(steps=STEPS, prefix=st.sampled_from(["", "a", "ab", "%", "_", "é", "zz"]))
def test_a_store_does_what_a_dict_would(make_store: Maker, steps: list[tuple[object, ...]], prefix: str) -> None:
    """Setting, expiring, deleting, the limit, and lists."""
    store, model, now = make_store(), dict[str, Entry](), NOW

    def live() -> dict[str, Entry]:
        return {k: e for k, e in model.items() if e.expires_at is None or e.expires_at > now}

    for step in steps:
        match step:
            case ("put", str(key), str(value), ttl):
                new = entry(key, PutEntry(value=value, ttl=ttl), "n", now)  # type: ignore[arg-type]
                if key not in live() and len(live()) >= LIMITS.max_entries:
                    with pytest.raises(TooManyEntries):
                        store.put(new, LIMITS, now)
                else:
                    model[key] = evolve(new, created_at=live()[key].created_at) if key in live() else new
                    assert store.put(new, LIMITS, now) == model[key]
            case ("delete", str(key)):
                assert store.delete(key, now) == (key in live())
                model.pop(key, None)
            case ("wait", int(ms)):
                now += ms
            case ("purge",) if isinstance(store, Table):
                store.purge(now)
                assert store.db.execute("SELECT count(*) FROM context").fetchone() == (len(live()),)
        assert store.count(now) == len(live())
        assert all(store.get(key, now) == live().get(key) for key in ("a", "%", "é"))
    listed = [e for page in store.pages(prefix, now) for e in page]
    assert {e.key: e for e in listed} == {k: e for k, e in live().items() if k.startswith(prefix)}
    assert [e.key.encode() for e in listed] == sorted(e.key.encode() for e in listed)


def test_a_listing_goes_on_over_changes_between_its_pages(make_store: Maker) -> None:
    """Nothing twice, nothing left out that was there all the time."""
    store = make_store()
    for number in range(40):
        store.put(Entry(key=f"{number:02}", value="v", created_at=0, updated_at=0), ContextLimits(), NOW)
    pages = store.pages("", NOW)
    first = next(pages)
    store.delete(first[-1].key, NOW)
    store.delete("30", NOW)
    rest = [e.key for page in pages for e in page]
    assert [e.key for e in first] + rest == [f"{n:02}" for n in range(40) if n != 30]


def test_the_store_itself_lets_an_entry_end(redis_address: str) -> None:
    """By its own clock too, so that nothing is left where no daemon runs."""
    store = SharedContext(redis_address, "ends:")
    now = round(time.time() * 1000)
    store.put(entry("k", PutEntry(value="v", ttl=0.05), "n", now), LIMITS, now)
    raw = store._redis
    wait_until(lambda: not raw.exists("ends:entry:k"), "its end")
    assert store.get("k", now) is None
    store.close()


def test_a_store_that_is_gone_is_told_without_its_address(tmp_path: Path) -> None:
    """A password may stand in it."""
    store = SharedContext(f"unix://user:secret@{tmp_path}/nobody.sock")
    with pytest.raises(ContextUnreachable) as caught:
        store.get("k", NOW)
    assert "secret" not in str(caught.value)
    assert "does not answer" in str(caught.value)
    store.close()
