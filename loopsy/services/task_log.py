"""The events of one task on their way to disk. Nobody is told of an event before it is there."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from attrs import frozen
from twisted.internet.defer import Deferred, fail, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from loopsy.core.task_events import Budget, Verdict, fitting
from loopsy.errors import StorageFailed
from loopsy.services.clock import now_ms
from loopsy.services.storage import Storage
from loopsy.store import tasks as table
from loopsy.store.database import Operation
from loopsy.store.tasks import Line
from loopsy.wire.codec import encode
from loopsy.wire.tasks import SYSTEM

FULL, ROOM = 1024 * 1024, 256 * 1024
"""Characters waiting to be written, at which the agent's output is no longer read, and at which it is again."""
LEFT_OUT = "more text and tool events than are kept; from here on they are left out"


@frozen
class Sources:
    """What a log works with."""

    storage: Storage
    number: int
    """Of the task, in the database."""
    task_id: str


class TaskLog:
    """Numbers events, writes them (while one batch is being committed the next gathers), then wakes its readers."""

    log = Logger()

    def __init__(self, sources: Sources, budget: Budget, last_seq: int = 0) -> None:
        self._sources = sources
        self._budget = budget
        self.last_seq = self.committed = last_seq
        """The newest event, and the newest one on disk."""
        self._at = 0
        self._waiting: list[Line] = []
        self._also: list[Operation] = []
        self._size = 0
        self._flushes: list[Deferred[None]] = []
        """Of whoever waits for what waits to be written; ``_under_way``: for what is being written."""
        self._under_way: list[Deferred[None]] = []
        self._is_writing = False
        self.is_broken = False
        self.is_full = False
        """More waits than should: whoever adds on behalf of a process stops reading from it."""
        self.readers: list[Callable[[], None]] = []
        self.when_room: Callable[[], None] = lambda: None
        self.when_broken: Callable[[], None] = lambda: None

    @property
    def number(self) -> int:
        """Its task's, in the database."""
        return self._sources.number

    def add(self, kind: str, data: Mapping[str, Any]) -> Verdict:
        """One more event, unless the task has too many; what becomes of it."""
        text = encode(fitting(kind, data))
        verdict = self._budget.judge(kind, len(text))
        if verdict is Verdict.FIRST_LEFT_OUT:
            self._line(SYSTEM, encode({"subtype": "notice", "text": LEFT_OUT}))
        elif verdict is not Verdict.LEAVE_OUT:
            self._line(kind, text)
        return verdict

    def _line(self, kind: str, data: str) -> None:
        if self.is_broken:
            return
        self.last_seq += 1
        self._at = at = max(self._at, now_ms())  # a clock that is put back must not disorder them
        head = f'{{"type":"{kind}","taskId":"{self._sources.task_id}","timestamp":{at},"seq":{self.last_seq},"data":'
        self._waiting.append(Line(self.last_seq, at, f"{head}{data}}}"))
        self._size += len(data) + len(head)
        self.is_full = self.is_full or self._size > FULL
        self._write_next()

    def also(self, operation: Operation) -> None:
        """Write something else, together with the events that wait now."""
        self._also.append(operation)
        self._write_next()

    def flushed(self) -> Deferred[None]:
        """Fires once everything up to now is on disk.

        :raises StorageFailed: it isn't.
        """
        if self.is_broken:
            return fail(StorageFailed())
        done: Deferred[None] = Deferred()
        if self._waiting or self._also:
            self._flushes.append(done)
        elif self._is_writing:
            self._under_way.append(done)
        else:
            return succeed(None)
        return done

    def _write_next(self) -> None:
        if self._is_writing or not (self._waiting or self._also):
            return
        lines, self._waiting = self._waiting, []
        also, self._also = self._also, []
        self._under_way, self._flushes = self._flushes, []
        self._is_writing, self._size = True, 0
        try:
            work = self._sources.storage.write(partial(write, number=self._sources.number, lines=lines, also=also))
        except Exception:
            self._failed(Failure())
            return
        work.addCallbacks(self._written, self._failed, callbackArgs=(lines,))

    def _written(self, _: Any, lines: list[Line]) -> None:
        self._is_writing = False
        if lines:
            self.committed = lines[-1].seq
        for wake in tuple(self.readers) if lines else ():
            wake()
        done, self._under_way = self._under_way, []
        for waiter in done:
            waiter.callback(None)
        self._write_next()
        if self.is_full and self._size < ROOM:
            self.is_full = False
            self.when_room()

    def _failed(self, failure: Failure) -> None:
        """A full disk, mostly. What was not written was not seen, and nothing more is told."""
        self._is_writing = False
        first, self.is_broken = not self.is_broken, True
        self._waiting.clear()
        self._also.clear()
        self.last_seq = self.committed
        waiters = [*self._under_way, *self._flushes]
        self._under_way, self._flushes = [], []
        if first:
            self.log.failure("events of task {task} could not be written", failure, task=self._sources.task_id)
            self.when_broken()
        for waiter in waiters:
            waiter.errback(failure)


def write(db: sqlite3.Connection, number: int, lines: list[Line], also: list[Operation]) -> None:
    """One batch, in the storage's transaction."""
    if lines:
        table.append(db, number, lines)
    for operation in also:
        operation(db)
