"""Answers that are longer than memory should hold."""

from __future__ import annotations

from collections.abc import Iterator

from twisted.internet.interfaces import IPullProducer
from twisted.logger import Logger
from zope.interface import implementer

from loopsy.web.request import EdgeRequest


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
