"""Storage: a real database, a real thread, the real reactor."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import gatherResults

from loopsy.errors import KeyNotFound, StorageFailed
from loopsy.services.storage import BATCH, Storage
from loopsy.store.database import Database, get_fact, set_fact
from tests.waiting import PATIENCE_S

ensure_deferred = pytest_twisted.ensureDeferred


@pytest_twisted.async_yield_fixture
async def storage(tmp_path: Path) -> AsyncIterator[Storage]:
    made = Storage(reactor, Database(tmp_path / "loopsy.db"))  # type: ignore[arg-type]
    made.startService()
    yield made
    if made.running:
        await made.stopService()


def fact(name: str, value: str = "1") -> Any:
    return lambda db: set_fact(db, name, value)


@ensure_deferred
async def test_what_was_acknowledged_is_seen_by_readers(storage: Storage) -> None:
    await storage.write(fact("a"))
    assert get_fact(storage.reader, "a") == "1"


@ensure_deferred
async def test_whatever_gathers_while_a_batch_is_written_shares_the_next_commit(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches: list[int] = []
    real, gate = Database.write, threading.Event()

    def counting(self: Database, operations: Any) -> Any:
        batches.append(len(operations))
        assert gate.wait(PATIENCE_S)
        return real(self, operations)

    monkeypatch.setattr(Database, "write", counting)
    waiting = [storage.write(fact(f"{n:04}")) for n in range(BATCH + 50)]
    gate.set()
    await gatherResults(waiting)
    assert batches == [1, BATCH, 49]


@ensure_deferred
async def test_writes_are_done_and_answered_in_the_order_they_were_asked(storage: Storage) -> None:
    answered: list[int] = []
    for n in range(100):
        storage.write(fact("x", str(n))).addCallback(lambda _, n=n: answered.append(n))
    await storage.flushed()
    assert answered == list(range(100))
    assert get_fact(storage.reader, "x") == "99"


@ensure_deferred
async def test_a_refusal_reaches_its_own_writer_only(storage: Storage) -> None:
    def refuse(_: object) -> None:
        raise KeyNotFound("no")

    writes = [storage.write(fact("a")), storage.write(fact("b")), storage.write(refuse), storage.write(fact("c"))]
    with pytest.raises(KeyNotFound):
        await writes[2]
    for at in (0, 1, 3):
        await writes[at]
    assert get_fact(storage.reader, "c") == "1"


@ensure_deferred
async def test_a_failed_commit_reaches_every_writer_of_the_batch_and_the_next_batch_works(storage: Storage) -> None:
    first = storage.write(fact("a"))
    together = [storage.write(fact("b")), storage.write(lambda db: db.execute("nonsense"))]
    for write in together:
        with pytest.raises(StorageFailed, match="nothing was changed"):
            await write
    await first
    assert get_fact(storage.reader, "b") is None
    await storage.write(fact("b"))


@ensure_deferred
async def test_stopping_writes_what_waits_and_takes_no_more(storage: Storage, tmp_path: Path) -> None:
    waiting = [storage.write(fact(f"{n}")) for n in range(BATCH * 2)]
    await storage.stopService()
    assert all(write.called for write in waiting)
    with pytest.raises(StorageFailed, match="stopping"):
        storage.write(fact("late"))
    reopened = Database(tmp_path / "loopsy.db")
    assert get_fact(reopened.reader, str(BATCH * 2 - 1)) == "1"
    reopened.close()
    assert not [thread for thread in threading.enumerate() if "storage" in thread.name]
