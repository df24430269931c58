"""Threads for blocking work. What moves the content of large files in them yields to all else on the machine."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IReactorFromThreads
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

from loopsy.errors import InternalError

THREADS = max(2, os.cpu_count() or 2)
"""They read, hash and write. More than there are cores only keep the reactor from its turn at the interpreter."""
NICE = 10
"""How far bulk work stands behind (docs/decisions/013). With more, a thread that holds the interpreter could wait long
for a processor, and the reactor with it."""


class Behind(threading.Thread):
    """Runs when nobody else wants the processor, where the system has priorities of single threads."""

    def run(self) -> None:
        """Lower our priority, then work."""
        if sys.platform == "linux":  # elsewhere the number of a thread may be that of another's process
            here = threading.get_native_id()
            with suppress(OSError):  # a sandbox may forbid it
                os.setpriority(os.PRIO_PROCESS, here, os.getpriority(os.PRIO_PROCESS, here) + NICE)
        super().run()


class BulkPool(ThreadPool):
    """Of such threads."""

    threadFactory = Behind


class Threads:
    """Two pools; each thread comes with its work. What waits takes its turn piece by piece, whoever it is for."""

    def __init__(self, reactor: IReactorFromThreads, name: str) -> None:
        self._reactor = reactor
        self._quick, self._bulk = ThreadPool(0, THREADS, name), BulkPool(0, THREADS, f"{name}-bulk")
        self._running = False

    def start(self) -> None:
        """Take work."""
        self._quick.start()
        self._bulk.start()
        self._running = True

    def stop(self) -> None:
        """Wait for what is in hand; no more is taken."""
        self._running = False
        self._quick.stop()
        self._bulk.stop()

    def quick(self, work: Callable[..., Any], *arguments: Any) -> Deferred[Any]:
        """Work that somebody waits for: opening, listing, small files."""
        return self._run(self._quick, work, *arguments)

    def bulk(self, work: Callable[..., Any], *arguments: Any) -> Deferred[Any]:
        """Work that takes its time outside the interpreter: reading, hashing and writing large pieces."""
        return self._run(self._bulk, work, *arguments)

    def _run(self, pool: ThreadPool, work: Callable[..., Any], *arguments: Any) -> Deferred[Any]:
        if not self._running:
            return fail(InternalError("the daemon is stopping"))
        return deferToThreadPool(self._reactor, pool, work, *arguments)
