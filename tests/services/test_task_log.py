"""Events on their way to disk."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor

from loopsy.core.task_events import Budget
from loopsy.errors import StorageFailed
from loopsy.services.storage import Storage
from loopsy.services.task_log import FULL, Sources, TaskLog
from loopsy.store import tasks as table
from loopsy.store.database import Database
from tests.waiting import until

ensure_deferred = pytest_twisted.ensureDeferred


@pytest_twisted.async_yield_fixture
async def storage(tmp_path: Path) -> AsyncIterator[Storage]:
    made = Storage(reactor, Database(tmp_path / "loopsy.db"))
    made.startService()
    yield made
    if made.running:
        await made.stopService()


async def log_of(storage: Storage, budget: Budget | None = None) -> TaskLog:
    number = await storage.write(lambda db: table.insert(db, "t1", "local", "claude", None, "{}", "{}"))
    return TaskLog(Sources(storage, number, "t1"), budget or Budget(10_000))


def stored(storage: Storage, log: TaskLog) -> list[dict[str, Any]]:
    return [json.loads(text) for _, text in table.events(storage.reader, log.number, 0, 10**6, 10**9)]


@ensure_deferred
async def test_readers_are_woken_only_for_what_is_on_disk(storage: Storage) -> None:
    log = await log_of(storage)
    seen: list[int] = []

    def wake() -> None:
        assert table.last_seq(storage.reader, log.number) == log.committed
        seen.append(log.committed)

    log.readers.append(wake)
    for at in range(100):
        log.add("text", {"text": f"é\n{at}"})
    assert (log.last_seq, log.committed, seen) == (100, 0, [])
    await log.flushed()
    assert log.committed == 100
    assert len(seen) < 10, "they are written in groups"
    events = stored(storage, log)
    assert [event["seq"] for event in events] == list(range(1, 101))
    assert events[7] == {**events[7], "type": "text", "taskId": "t1", "data": {"text": "é\n7"}}


@ensure_deferred
async def test_something_else_is_written_with_the_events(storage: Storage) -> None:
    log = await log_of(storage)
    log.add("status", {"status": "completed"})
    log.also(lambda db: table.update(db, log.number, "completed", 9, '{"a":1}'))
    await log.flushed()
    row = table.get(storage.reader, "t1")
    assert row is not None
    assert (row.status, row.completed_at, row.record) == ("completed", 9, '{"a":1}')
    await log.flushed()


@ensure_deferred
async def test_it_is_full_until_it_has_written(storage: Storage) -> None:
    log = await log_of(storage)
    room: list[bool] = []
    log.when_room = lambda: room.append(True)
    while not log.is_full:
        log.add("text", {"text": "x" * 200_000})
    assert log.last_seq <= FULL // 200_000 + 2
    await until(lambda: room)
    assert not log.is_full
    assert room == [True]


@ensure_deferred
async def test_too_many_are_left_out_with_a_notice(storage: Storage) -> None:
    log = await log_of(storage, Budget(3))
    for _ in range(6):
        log.add("text", {"text": "x"})
    log.add("exit", {"exitCode": 0})
    await log.flushed()
    assert [event["type"] for event in stored(storage, log)] == ["text", "text", "text", "system", "exit"]


@ensure_deferred
async def test_what_can_not_be_written_is_told_to_nobody(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    log = await log_of(storage)
    broken: list[bool] = []
    log.when_broken = lambda: broken.append(True)
    log.readers.append(lambda: pytest.fail("nothing was written"))

    def fail(*_: Any) -> None:
        raise StorageFailed("the disk is full")

    monkeypatch.setattr(storage._database, "write", fail)
    log.add("text", {"text": "x"})
    with pytest.raises(StorageFailed):
        await log.flushed()
    assert (broken, log.last_seq, log.committed) == ([True], 0, 0)
    log.add("text", {"text": "y"})
    with pytest.raises(StorageFailed):
        await log.flushed()
    assert broken == [True]
    monkeypatch.undo()
