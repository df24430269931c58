"""Threads that start processes."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import Any

from twisted.internet.interfaces import IDelayedCall
from twisted.python.threadpool import ThreadPool

MOST = 8
SLOW_S = 0.05
"""A start takes a millisecond. While none ends for so long, the next one has a thread more: the directory of one may
lie on a disk that doesn't answer."""


class Starters(ThreadPool):
    """One thread, as long as starts come to an end: with two the reactor waits for its turn at the interpreter, and no
    more are started a second (docs/decisions/004)."""

    def __init__(self, reactor: Any) -> None:
        super().__init__(0, 1, "starters")
        self._reactor = reactor
        self._begun = self._ended = 0
        self._ended_before = 0
        self._lock = Lock()
        self._look: IDelayedCall | None = None

    def callInThreadWithCallback(self, onResult: Any, func: Callable[..., Any], *args: Any, **kw: Any) -> None:
        """Run ``func`` in a thread, then ``onResult`` there. Call it in the reactor's."""

        def done(is_success: bool, result: Any) -> None:
            with self._lock:
                self._ended += 1
            onResult(is_success, result)

        if self.joined:
            return  # as the base does
        self._begun += 1
        if self._look is None:
            self._look = self._reactor.callLater(SLOW_S, self._check)
        super().callInThreadWithCallback(done, func, *args, **kw)

    def _check(self) -> None:
        self._look = None
        ended, before = self._ended, self._ended_before
        self._ended_before = ended
        pending = self._begun - ended
        if ended == before and self.max < min(pending, MOST):
            self.adjustPoolsize(self.max + 1, self.max + 1)  # (by the lower bound it comes for what waits already)
        elif pending + 1 < self.max:
            self.adjustPoolsize(0, pending + 1)  # one beside those that hang
        if not pending:
            self.threads[:] = [thread for thread in self.threads if thread.is_alive()]  # (Twisted keeps them all)
            return
        self._look = self._reactor.callLater(SLOW_S, self._check)

    def stop(self) -> None:
        """Take no more, and wait until all of it is done."""
        if self._look is not None:
            self._look.cancel()
            self._look = None
        super().stop()
