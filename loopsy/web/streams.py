"""Answers that are longer than memory should hold."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPullProducer, IPushProducer
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from loopsy.errors import LoopsyError
from loopsy.web.request import EdgeRequest

READ = 256 * 1024
"""Bytes of a file that are read at once; half as many cost a fifth more time, four times as many gain nothing."""


@implementer(IPullProducer)
class Pulled:
    """Writes an iterator's pieces as fast as the client takes them, one at a time."""

    log = Logger()

    def __init__(self, request: EdgeRequest, pieces: Iterator[bytes]) -> None:
        self._request = request
        self._pieces = pieces
        request.registerProducer(self, False)

    def resumeProducing(self) -> None:
        """The client takes one more."""
        try:
            piece = next(self._pieces, None)
        except Exception:
            self.log.failure("an answer could not be completed")
            self._request.unregisterProducer()
            self._request.cut()
            return
        if piece is None:
            self._request.unregisterProducer()
            self._request.finish()
        else:
            self._request.write(piece)

    def stopProducing(self) -> None:
        """The client went away."""
        self._pieces = iter(())


@implementer(IPushProducer)
class Fed:
    """Writes an iterator's pieces, each made in a thread, no faster than the client takes them."""

    log = Logger()

    def __init__(self, request: EdgeRequest, pieces: Iterator[bytes], in_thread: Callable[..., Deferred[Any]]) -> None:
        self._request = request
        self._pieces = pieces
        self._in_thread = in_thread
        self._busy = False
        self._paused = False
        self._over = False
        request.registerProducer(self, True)
        self._next()

    def _next(self) -> None:
        if not (self._busy or self._paused or self._over):
            self._busy = True
            self._in_thread(next, self._pieces, None).addCallbacks(self._made, self._failed)

    def _made(self, piece: bytes | None) -> None:
        self._busy = False
        if self._over:
            self._pieces = iter(())
        elif piece is None:
            self._over = True
            self._request.unregisterProducer()
            self._request.finish()
        else:
            self._request.write(piece)
            self._next()

    def _failed(self, failure: Failure) -> None:
        self._busy = False
        if not failure.check(LoopsyError):
            self.log.failure("an answer could not be completed", failure)
        if not self._over:
            self._over = True
            self._request.unregisterProducer()
            self._request.cut()

    def pauseProducing(self) -> None:
        """The client is slow."""
        self._paused = True

    def resumeProducing(self) -> None:
        """It takes more."""
        self._paused = False
        self._next()

    def stopProducing(self) -> None:
        """It went away."""
        self._over = True


class Source(Protocol):
    """A file that is being sent."""

    def read_now(self, at: int, length: int) -> bytes | None:
        """What of this is in memory already; None: the disk would have to be waited for."""

    def read(self, at: int, length: int) -> bytes:
        """Read, and wait for the disk."""

    def check_unchanged(self) -> None:
        """Fail if it was written to."""

    def close(self) -> None:
        """No more is read."""


@implementer(IPushProducer)
class Sent:
    """Writes a span of a file: at once what the system has in memory, through a thread what must come from a disk.

    If the file changes meanwhile, the connection is cut before the last piece, so that the whole never looks good.
    """

    log = Logger()

    def __init__(
        self, request: EdgeRequest, source: Source, span: tuple[int, int], in_thread: Callable[..., Deferred[Any]]
    ) -> None:
        self._request, self._source, self._in_thread = request, source, in_thread
        self._at, self._end = span
        self._busy = False
        self._paused = False
        self._over = False
        request.registerProducer(self, True)
        self._go()

    def _go(self) -> None:
        while not (self._busy or self._paused or self._over):
            length = min(READ, self._end - self._at)
            try:
                data = self._source.read_now(self._at, length)
                if data is None:
                    self._busy = True
                    self._in_thread(self._source.read, self._at, length).addCallbacks(self._was_read, self._failed)
                else:
                    self._write(data)
            except Exception:
                self._failed(Failure())

    def _was_read(self, data: bytes) -> None:
        self._busy = False
        try:
            self._write(data)
        except Exception:
            self._failed(Failure())
        self._go()
        self._close_if_over()

    def _write(self, data: bytes) -> None:
        if self._over:
            return
        self._at += len(data)
        if self._at >= self._end:
            self._source.check_unchanged()
        self._request.write(data)
        if self._at >= self._end:
            self._over = True
            self._request.unregisterProducer()
            self._request.finish()
            self._close_if_over()

    def _failed(self, failure: Failure) -> None:
        self._busy = False
        if not self._over:
            self._over = True
            self.log.warn("a file could not be sent to its end: {error}", error=failure.getErrorMessage())
            self._request.unregisterProducer()
            self._request.cut()
        self._close_if_over()

    def _close_if_over(self) -> None:
        if self._over and not self._busy:
            self._source.close()

    def pauseProducing(self) -> None:
        """The client is slow."""
        self._paused = True

    def resumeProducing(self) -> None:
        """It takes more."""
        self._paused = False
        self._go()

    def stopProducing(self) -> None:
        """It went away."""
        self._over = True
        self._close_if_over()
