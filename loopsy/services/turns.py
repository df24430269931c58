"""Blocking work in threads, one piece after the other, and bodies that are made of it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar, cast

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IConsumer
from twisted.python.failure import Failure
from twisted.web.iweb import UNKNOWN_LENGTH, IBodyProducer
from zope.interface import implementer

from loopsy.client.files import Receiver

T = TypeVar("T")
FULL, ROOM = 768 * 1024, 384 * 1024
"""Bytes received and not yet written, at which the sender is asked to wait, and to go on."""
ENOUGH = 256 * 1024
"""A thread is worth waking for so many bytes; fewer wait for the next piece, or for the end."""


class InTurn:
    """Runs functions in threads, never two at once: whoever waits may be cancelled, the work is not, so what
    comes after it (closing the file) never meets it half done."""

    def __init__(self, in_thread: Callable[..., Deferred[Any]]) -> None:
        self._in_thread = in_thread
        self._waiting: deque[tuple[Callable[[], Any], Deferred[Any]]] = deque()
        self._busy = False

    def run(self, work: Callable[[], T]) -> Deferred[T]:
        """Run ``work`` when its turn has come; fires with its result."""
        answer: Deferred[T] = Deferred()
        self._waiting.append((work, answer))
        self._next()
        return answer

    def _next(self) -> None:
        if self._busy or not self._waiting:
            return
        work, answer = self._waiting.popleft()
        self._busy = True
        self._in_thread(work).addBoth(self._done, answer)

    def _done(self, result: object, answer: Deferred[Any]) -> None:
        self._busy = False
        self._next()
        if not answer.called:
            answer.callback(result)  # a Failure becomes an errback


@implementer(IBodyProducer)
class PieceBody:
    """A request's body whose pieces a thread reads: one is being read while the last is sent."""

    def __init__(
        self, turns: InTurn, read: Callable[[], bytes], length: int | None, moved: Callable[[int], None]
    ) -> None:
        """``read`` gives the next piece, b"" at the end; ``moved`` is told the size of each one that leaves."""
        self.length = UNKNOWN_LENGTH if length is None else length
        self._turns, self._read, self._moved = turns, read, moved
        self._consumer: IConsumer | None = None
        self._ready: bytes | None = None
        self._paused = self._stopped = False
        self._done: Deferred[None] = Deferred()

    def startProducing(self, consumer: IConsumer) -> Deferred[None]:
        """Read and send."""
        self._consumer = consumer
        self._fetch()
        return self._done

    def _fetch(self) -> None:
        self._turns.run(self._read).addCallbacks(self._got, self._failed)

    def _got(self, piece: bytes) -> None:
        self._ready = piece
        self._pass_on()

    def _failed(self, failure: Failure) -> None:
        if not self._stopped:
            self._stopped = True
            self._done.errback(failure)

    def _pass_on(self) -> None:
        if self._paused or self._stopped or self._ready is None:
            return
        piece, self._ready = self._ready, None
        if not piece:
            self._stopped = True
            self._done.callback(None)
            return
        self._fetch()
        self._moved(len(piece))
        cast(IConsumer, self._consumer).write(piece)

    def pauseProducing(self) -> None:
        """The connection is full."""
        self._paused = True

    def resumeProducing(self) -> None:
        """It takes more."""
        self._paused = False
        self._pass_on()

    def stopProducing(self) -> None:
        """It is gone."""
        self._stopped = True
        self._ready = None


class ThreadedTaker:
    """Takes a body's pieces to a function in a thread, in batches, and lets the sender wait when it lags behind."""

    def __init__(self, turns: InTurn, write: Callable[[list[bytes]], None], moved: Callable[[int], None]) -> None:
        self.receiver = Receiver(self._take)
        self._turns, self._write, self._moved = turns, write, moved
        self._held: list[bytes] = []
        self._size = self._in_hand = 0
        self._paused = False
        self._failure: Failure | None = None

    def _take(self, data: bytes) -> None:
        self._held.append(data)
        self._size += len(data)
        if self._size >= ENOUGH and not self._in_hand:
            self._hand_over()
        elif self._size + self._in_hand > FULL and not self._paused:
            self._paused = True
            self.receiver.pause()

    def _hand_over(self) -> None:
        batch, self._held = self._held, []
        self._in_hand, self._size = self._size, 0
        self._turns.run(lambda: self._write(batch)).addCallbacks(self._written, self._failed)

    def _failed(self, failure: Failure) -> None:
        self._failure = failure
        self.receiver.fail(failure)

    def _written(self, _: None) -> None:
        self._moved(self._in_hand)
        self._in_hand = 0
        if self._size >= ENOUGH:
            self._hand_over()
        if self._paused and self._size < ROOM:
            self._paused = False
            self.receiver.resume()

    async def rest(self) -> None:
        """Write what is still held; returns once all of it is written."""
        batch, size = self._held, self._size
        self._held, self._size = [], 0
        if self._failure is None:
            await self._turns.run(lambda: self._write(batch) if self._failure is None else None)
        if self._failure is not None:  # of the batch before: what came after it must not make it look whole
            self._failure.raiseException()
        self._moved(size)
