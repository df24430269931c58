"""Bodies on their way to the disk: as fast as they come, in a thread, and never more than a few MiB in memory.

Measured (1 GiB, sha256 on the way): within the noise of a bare Python loop over recv, sha256 and write.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IConsumer
from twisted.python.failure import Failure
from zope.interface import implementer

FULL, ROOM = 768 * 1024, 384 * 1024
"""Bytes waiting for the disk at which the sender is asked to wait, and to go on."""
ENOUGH = 256 * 1024
"""A thread is worth waking for so many; fewer wait for the next piece, or the end."""

InThread = Callable[..., Deferred[Any]]
"""Runs a function with arguments in a thread."""
Write = Callable[[list[bytes]], None]
"""Takes what came, in a thread; never called twice at once."""


class Body(Protocol):
    """A body that is handed on as it comes (web.bodies.BodyStream)."""

    def startProducing(self, consumer: IConsumer) -> Deferred[None]:
        """Hand it to ``consumer``; fires at its end, fails if the sender goes away."""

    def pauseProducing(self) -> None:
        """The consumer is full."""

    def resumeProducing(self) -> None:
        """It takes more."""

    def stopProducing(self) -> None:
        """It wants no more."""


@implementer(IConsumer)
class Intake:
    """One body. ``take`` fires when all of it is written, or fails when that can't be; both with the thread idle."""

    def __init__(self, in_thread: InThread, write: Write) -> None:
        self._in_thread = in_thread
        self._write = write
        self._body: Body | None = None
        self._pending: list[bytes] = []
        self._size = 0
        self._busy = False
        self._paused = False
        self._ended = False
        self._error: Failure | None = None
        self._over: Deferred[None] = Deferred()

    def take(self, body: Body, consumer: IConsumer | None = None) -> Deferred[None]:
        """Take the whole body. ``consumer``: what stands between and calls ``add`` (a parser)."""
        self._body = body
        body.startProducing(consumer or self).addCallbacks(self._end, self._sender_left)
        return self._over

    def write(self, data: bytes) -> None:
        """From the body."""
        self.add(data)

    def add(self, data: bytes) -> None:
        """Some more to write."""
        if self._error is not None:
            return
        self._pending.append(data)
        self._size += len(data)
        if self._size > FULL and not self._paused and self._body is not None:
            self._paused = True
            self._body.pauseProducing()
        if self._size >= ENOUGH:
            self._next()

    def look(self) -> None:
        """Call ``write`` now, with what is here, even if that is nothing: it may have something to refuse."""
        self._next(even_nothing=True)

    def fail(self, error: Exception) -> None:
        """No more of it. What came before is still written."""
        self._stop(Failure(error))

    # -- one after the other in the thread
    def _next(self, *, even_nothing: bool = False) -> None:
        if self._busy:
            return
        if self._pending or even_nothing:
            chunks, self._pending, self._size = self._pending, [], 0
            self._busy = True
            self._in_thread(self._write, chunks).addCallbacks(self._written, self._not_written)
        elif self._ended and not self._over.called:
            if self._error is not None:
                self._over.errback(self._error)
            else:
                self._over.callback(None)

    def _written(self, _: object) -> None:
        self._busy = False
        if self._paused and self._size < ROOM and self._body is not None:
            self._paused = False
            self._body.resumeProducing()
        if self._ended or self._size >= ENOUGH:
            self._next()

    def _not_written(self, failure: Failure) -> None:
        self._busy = False
        self._pending.clear()
        self._size = 0
        self._stop(failure)

    def _stop(self, failure: Failure) -> None:
        if self._error is None and not self._over.called:
            self._error = failure
            if self._body is not None and not self._ended:
                self._body.stopProducing()
        self._end(None)

    def _sender_left(self, failure: Failure) -> None:
        self._error = self._error or failure
        self._end(None)

    def _end(self, _: object) -> None:
        self._ended = True
        self._next()

    # -- IConsumer's other half: nobody registers here
    def registerProducer(self, producer: object, streaming: bool) -> None:
        """The body calls startProducing instead."""

    def unregisterProducer(self) -> None:
        """As above."""
