"""HTTP connections on which an answer's head has a limit: Twisted's own parser takes heads without end into memory."""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IAddress
from twisted.python.failure import Failure
from twisted.web._newclient import HEADER, STATUS, HTTP11ClientProtocol
from twisted.web.client import HTTPConnectionPool, _HTTP11ClientFactory

from loopsy.errors import PeerUnreachable

HEAD_BYTES = 64 * 1024
"""Of an answer before its body, interim answers (100 Continue) included: four times what a node takes itself."""


class _Connection(HTTP11ClientProtocol):
    _head = 0

    def request(self, request: Any) -> Any:
        """The next question on it."""
        self._head = 0
        return super().request(request)

    def dataReceived(self, data: bytes) -> None:
        """Some of the answer."""
        was_head = self._is_head
        super().dataReceived(data)
        if was_head and self._is_head:
            self._head += len(data)
            if self._head > HEAD_BYTES:
                self._giveUp(Failure(PeerUnreachable("the answer's head is too large")))
                self.transport.abortConnection()  # type: ignore[union-attr]  # through TLS a bad one could go on

    @property
    def _is_head(self) -> bool:
        return self._parser is not None and self._parser.state in (STATUS, HEADER)


class _Factory(_HTTP11ClientFactory):
    noisy = False  # a line in the log for each connection tells nobody anything

    def buildProtocol(self, _: IAddress | None) -> HTTP11ClientProtocol:
        """A new connection."""
        return _Connection(self._quiescentCallback)


def pool(reactor: Any, persistent: bool = True) -> HTTPConnectionPool:
    """A pool of such connections."""
    made = HTTPConnectionPool(reactor, persistent)
    made._factory = _Factory
    return made
