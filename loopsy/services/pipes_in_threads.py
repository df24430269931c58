"""The ends of a process's pipes with a thread each, where the reactor takes only sockets (Windows).

A thread reads a piece, hands it to the reactor and waits until that says to go on: nothing piles up.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IPushProducer

READ_BYTES = 65536
HELD_BYTES = 65536
"""Input that waits for the process; beyond that its producer is paused."""


class Output:
    """The reading end of a pipe."""

    def __init__(
        self, reactor: Any, descriptor: int, deliver: Callable[[bytes], None], closed: Callable[[], None]
    ) -> None:
        self._reactor = reactor
        self._descriptor = descriptor
        self._deliver = deliver
        self._closed = closed
        self._go_on = threading.Event()
        self._reading = True
        self.connected = True
        threading.Thread(target=self._read, name="output", daemon=True).start()

    def fileno(self) -> int:
        """-1 once closed."""
        return self._descriptor if self.connected else -1

    def startReading(self) -> None:
        """Read on."""
        self._reading = True
        self._go_on.set()

    def stopReading(self) -> None:
        """Read no more than the piece that is on its way."""
        self._reading = False

    def close(self) -> None:
        """Give up on it: what comes is read and thrown away, since a thread that reads can't be called back."""
        if self.connected:
            self.connected = False
            self._go_on.set()
            self._closed()

    def _read(self) -> None:
        """In the thread."""
        while data := self._piece():
            self._go_on.clear()
            self._reactor.callFromThread(self._hand_on, data)
            self._go_on.wait()
        os.close(self._descriptor)
        self._reactor.callFromThread(self.close)

    def _piece(self) -> bytes:
        try:
            return os.read(self._descriptor, READ_BYTES)
        except OSError:
            return b""

    def _hand_on(self, data: bytes) -> None:
        if self.connected:
            self._deliver(data)
        if self._reading or not self.connected:
            self._go_on.set()


class Input:
    """The writing end of a pipe."""

    def __init__(self, reactor: Any, descriptor: int) -> None:
        self._reactor = reactor
        self._descriptor = descriptor
        self._pieces: deque[bytes] = deque()
        self._changed = threading.Condition()
        self._ending = False
        self._producer: IPushProducer | None = None
        self._paused = False
        self.waiting = 0
        self.connected = True
        threading.Thread(target=self._write, name="input", daemon=True).start()

    def write(self, data: bytes) -> None:
        """Once it is taken."""
        if not data or self._ending:
            return
        with self._changed:
            self._pieces.append(data)
            self.waiting += len(data)
            self._changed.notify()
        if self._producer is not None and self.waiting > HELD_BYTES and not self._paused:
            self._paused = True
            self._producer.pauseProducing()

    def registerProducer(self, producer: IPushProducer, streaming: bool) -> None:
        """It is asked to pause while what it wrote isn't taken."""
        self._producer = producer

    def unregisterProducer(self) -> None:
        """Nobody is."""
        self._producer = None

    def loseConnection(self) -> None:
        """Close it when all was taken."""
        with self._changed:
            self._ending = True
            self._changed.notify()

    def close(self) -> None:
        """Now, whatever waits."""
        with self._changed:
            self._pieces.clear()
        self.waiting = 0
        self.loseConnection()

    def _write(self) -> None:
        """In the thread."""
        while (piece := self._next()) is not None and self._put(piece):
            self._reactor.callFromThread(self._taken, len(piece))
        os.close(self._descriptor)
        self._reactor.callFromThread(self._gone)

    def _next(self) -> bytes | None:
        with self._changed:
            self._changed.wait_for(lambda: self._pieces or self._ending)
            return self._pieces.popleft() if self._pieces else None

    def _put(self, piece: bytes) -> bool:
        left = memoryview(piece)
        while left:
            try:
                left = left[os.write(self._descriptor, left) :]
            except OSError:
                return False  # the process closed it, or is gone
        return True

    def _taken(self, count: int) -> None:
        self.waiting = max(self.waiting - count, 0)
        if self._paused and self.waiting <= HELD_BYTES:
            self._paused = False
            if self._producer is not None:
                self._producer.resumeProducing()

    def _gone(self) -> None:
        self.connected = False
        self._ending = True
        if self._producer is not None:
            self._producer.stopProducing()
