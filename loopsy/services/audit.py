"""The audit log as a service: one line a request, written in the reactor turn in which the request ended."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Mapping
from typing import Any, Protocol

from twisted.application.service import Service
from twisted.internet.task import LoopingCall
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger

from loopsy.core.audit import Remembered
from loopsy.services.storage import Storage
from loopsy.store.audit import AuditLog
from loopsy.store.audit_pages import page
from loopsy.store.database import get_fact, set_fact

HEAD_FACT = "audit-head"
"""What is remembered of the log, kept in the database so that a log that was cut off, or removed, is found out."""
REMEMBER_S = 5.0


class Records(Protocol):
    """What the edge needs of it."""

    def record(self, record: Mapping[str, Any]) -> None:
        """Log one request."""


class Audit(Service):
    """Owns the open log."""

    name = "audit"
    log = Logger()

    def __init__(self, reactor: Any, storage: Storage, audit_log: AuditLog) -> None:
        self._reactor = reactor
        self._storage = storage
        self._log = audit_log
        self._path = audit_log.path
        self._pending: list[Mapping[str, Any]] = []
        self._failing = False
        self._remembered: Remembered | None = None
        self._remember = LoopingCall(self._remember_head)
        self._remember.clock = reactor

    def startService(self) -> None:
        """Start remembering the head."""
        super().startService()
        if self._log.was_cut:
            self.log.error("the audit log does not reach line {seq}, which was written", seq=self._log.head.seq)
        self._remember.start(REMEMBER_S, now=False).addErrback(
            lambda failure: self.log.failure("the audit log's head is no longer remembered", failure)
        )

    async def page(self, before: int | None, word: str, limit: int) -> list[bytes]:
        """The newest lines (of those older than number ``before``) that hold ``word``; read in a thread."""
        return await deferToThreadPool(
            self._reactor, self._reactor.getThreadPool(), page, self._path, before, word, limit
        )

    def record(self, record: Mapping[str, Any]) -> None:
        """Log one request. Those of one reactor turn share one write."""
        if not self._pending:
            self._reactor.callLater(0, self._flush)
        self._pending.append(record)

    def _flush(self) -> None:
        """On failure (a full disk) the lines stay and are tried again; the daemon goes on and says so once."""
        pending, self._pending = self._pending, []
        if not pending:
            return
        try:
            self._log.append(pending)
            self._failing = False
            if self._log.has_surplus:
                self._remember_head()
        except OSError as error:
            if not self._failing:
                self.log.error("the audit log can't be written: {error}", error=error)
            self._failing = True
            self._pending = pending[-KEPT_WHILE_FAILING:]
            self._reactor.callLater(1, self._flush)

    def _remember_head(self) -> None:
        state = self._log.state
        if state == self._remembered or not self._storage.running:
            return
        self._remembered = state
        descriptor = self._log.duplicate()

        def remember(db: sqlite3.Connection) -> None:
            os.fsync(descriptor)  # a power cut must not take lines that are remembered
            set_fact(db, HEAD_FACT, state.text())

        def close(result: Any) -> Any:
            os.close(descriptor)
            return result

        done = self._storage.write(remember).addBoth(close)
        done.addCallbacks(
            lambda _: self._log.drop(state),
            lambda failure: self.log.failure("the audit log's head could not be remembered", failure),
        )

    async def stopService(self) -> None:  # our parent awaits it
        """Write what is left and remember the head. Stopped before storage is."""
        super().stopService()
        if self._remember.running:
            self._remember.stop()
        self._flush()
        self._remember_head()
        self._log.close()


def remembered_head(db: sqlite3.Connection) -> Remembered:
    """What was remembered of the log."""
    return Remembered.of(get_fact(db, HEAD_FACT))


KEPT_WHILE_FAILING = 10_000
"""Lines held in memory while the disk is full: some MiB; the chain's numbers show if more were lost."""
