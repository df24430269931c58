"""The database as a service: writes by group commit, reads at once.

While one batch is being committed in the writer's thread, whatever else wants to be written gathers into the next. So
one writer waits for one fsync, thirty-two writers also wait for about one, and nobody holds a lock.
"""

from __future__ import annotations

import sqlite3
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorFromThreads
from twisted.internet.threads import deferToThreadPool
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool

from loopsy.errors import LoopsyError, StorageFailed
from loopsy.store.database import Database, Operation

BATCH = 256
"""Operations in one commit: more gain little, and the last would wait long."""


class Storage(Service):
    """Owns the database from construction to ``stopService``."""

    name = "storage"

    def __init__(self, reactor: IReactorFromThreads, database: Database) -> None:
        self._reactor = reactor
        self._database = database
        self._thread = ThreadPool(1, 1, "storage")
        self._waiting: list[tuple[Operation, Deferred[Any]]] = []
        self._busy = False
        self._idle: list[Deferred[None]] = []

    @property
    def reader(self) -> sqlite3.Connection:
        """For queries; sees everything that ``write`` has answered for."""
        return self._database.reader

    def startService(self) -> None:
        """Start the writer's thread."""
        super().startService()
        self._thread.start()

    def write(self, operation: Operation) -> Deferred[Any]:
        """Run ``operation`` in the next transaction; fires with its result once that is on disk.

        :raises StorageFailed: nothing was kept. :raises LoopsyError: the operation refused.
        """
        if not self.running:
            raise StorageFailed("the daemon is stopping")
        done: Deferred[Any] = Deferred()
        self._waiting.append((operation, done))
        self._commit_next()
        return done

    def _commit_next(self) -> None:
        if self._busy or not self._waiting:
            return
        batch, self._waiting = self._waiting[:BATCH], self._waiting[BATCH:]
        self._busy = True
        operations = [operation for operation, _ in batch]
        work = deferToThreadPool(self._reactor, self._thread, self._database.write, operations)
        work.addBoth(self._committed, [done for _, done in batch])

    def _committed(self, outcome: list[Any] | Failure, waiters: list[Deferred[Any]]) -> None:
        self._busy = False
        self._commit_next()
        results = [outcome] * len(waiters) if isinstance(outcome, Failure) else outcome
        for done, result in zip(waiters, results, strict=True):
            if isinstance(result, LoopsyError | Failure):
                done.errback(result)
            else:
                done.callback(result)
        if not self._busy:
            idle, self._idle = self._idle, []
            for waiter in idle:
                waiter.callback(None)

    def flushed(self) -> Deferred[None]:
        """Fires when nothing waits to be written."""
        if not self._busy:
            return succeed(None)
        waiter: Deferred[None] = Deferred()
        self._idle.append(waiter)
        return waiter

    async def stopService(self) -> None:  # our parent awaits it
        """Write what waits, stop the thread, close the database."""
        await self.flushed()
        super().stopService()
        self._thread.stop()
        self._database.close()
