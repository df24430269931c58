"""Where a request's body goes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IConsumer
from twisted.web.iweb import UNKNOWN_LENGTH, IBodyProducer
from zope.interface import implementer

from loopsy.errors import BodyTooLarge, ConnectionBroken

if TYPE_CHECKING:
    from loopsy.web.request import EdgeRequest

HIGH_WATER = 1024 * 1024
"""So much of a body is held before its sender is asked to wait."""


class BufferedBody:
    """A small body in memory."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._parts: list[bytes] = []
        self._size = 0

    def data(self, data: bytes) -> None:
        """Some more.

        :raises BodyTooLarge: it is more than the limit.
        """
        self._size += len(data)
        if self._size > self._limit:
            self._parts.clear()
            raise BodyTooLarge(f"the body has more than {self._limit} bytes")
        self._parts.append(data)

    def value(self) -> bytes:
        """All of it."""
        return b"".join(self._parts)


@implementer(IBodyProducer)
class BodyStream:
    """A body that is handed on as it comes: Agent's body producer, with back-pressure to the sender."""

    def __init__(self, request: EdgeRequest, length: int | None) -> None:
        self.length = UNKNOWN_LENGTH if length is None else length
        self._transport: Any = request.channel.transport  # held: the request forgets its channel when it is lost
        self._waiting: list[bytes] = []
        self._held = 0
        self._consumer: IConsumer | None = None
        self._paused = False
        self._ended = False
        self._discarding = False
        self._done: Deferred[None] = Deferred()

    # -- from the request
    def data(self, data: bytes) -> None:
        """Some more."""
        if self._discarding:
            return
        if self._consumer is not None and not self._paused:
            self._consumer.write(data)
            return
        self._waiting.append(data)
        self._held += len(data)
        if self._held > HIGH_WATER:
            self._transport.pauseProducing()

    def end(self) -> None:
        """That was all."""
        self._ended = True
        self._complete()

    def lost(self) -> None:
        """The sender went away in mid-body."""
        if not self._ended and not self._done.called:
            wanted, self._discarding = not self._discarding, True
            if self._consumer is not None and wanted:
                self._done.errback(ConnectionBroken("the sender went away in mid-body"))

    def discard(self) -> None:
        """Nobody wants the rest."""
        self._discarding = True
        self._waiting.clear()
        self._transport.resumeProducing()

    # -- for Agent
    def startProducing(self, consumer: IConsumer) -> Deferred[None]:
        """Hand on what is here, then what comes."""
        self._consumer = consumer
        if self._discarding and not self._ended:
            self._done.errback(ConnectionBroken("the sender went away in mid-body"))
            return self._done
        self._flush()
        return self._done

    def _flush(self) -> None:
        while self._waiting and self._consumer is not None and not self._paused:
            data = self._waiting.pop(0)
            self._held -= len(data)
            self._consumer.write(data)
        if not self._waiting and not self._paused:
            self._transport.resumeProducing()
        self._complete()

    def _complete(self) -> None:
        if self._discarding or self._done.called:
            return  # the consumer is gone, and would not know what to do with an end
        if self._ended and not self._waiting and self._consumer is not None:
            self._done.callback(None)

    def pauseProducing(self) -> None:
        """The consumer is full."""
        self._paused = True
        self._transport.pauseProducing()

    def resumeProducing(self) -> None:
        """The consumer takes more."""
        self._paused = False
        self._flush()

    def stopProducing(self) -> None:
        """The consumer went away."""
        self._discarding = True
        self._waiting.clear()
