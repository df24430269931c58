"""Twisted's Site and channel with our request, our errors and our bounds."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IAddress, IDelayedCall
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from twisted.web import http, server
from twisted.web.resource import Resource

from loopsy.errors import HeadersTooLarge, LoopsyError, RequestTooSlow
from loopsy.web.edge import Edge
from loopsy.web.request import REASONS, EdgeRequest
from loopsy.wire import codec

DRAIN_S = 1
IDLE_S = 60
"""An idle connection is closed after this; PeerClient keeps its own for less."""


HEAD_S = 15.0
"""A head has at most 16 KiB: who takes longer for it (from the connection on, TLS included, or from its first byte on a
kept one) holds the connection, and is cut however steadily it dribbles."""


class Channel(http.HTTPChannel):
    """One connection. HTTP/1.1 only: nothing here would gain from HTTP/2, and streaming bodies need this channel."""

    site: Site
    _host: IAddress | None = None
    _bad = False
    _head_deadline: IDelayedCall | None = None
    _upgraded: Any = None
    """The protocol that this connection speaks instead of HTTP."""

    def getHost(self) -> IAddress:
        """Our end of the connection. Twisted's Request asks for each request, which is a system call each time."""
        if self._host is None:
            self._host = super().getHost()
        return self._host

    def _respondToBadRequestAndDisconnect(self) -> None:
        """What isn't HTTP, or has a head of more than 16 KiB, is told so in the one shape of errors."""
        self._refuse_head(HeadersTooLarge())

    def _refuse_head(self, error: LoopsyError) -> None:
        if self._bad:
            return
        body = codec.dump(error.body())
        head = (
            b"HTTP/1.1 %d %s\r\ncontent-type: application/json\r\n"
            b"connection: close\r\ncontent-length: %d\r\n\r\n" % (error.status, REASONS[error.status], len(body))
        )
        transport: Any = self.transport
        transport.write(head + body)
        getattr(transport, "loseWriteConnection", lambda: None)()  # the sender sees the end at once (not through TLS)
        self._bad = True
        self.clearLineBuffer()
        self.setTimeout(DRAIN_S)

    def lineLengthExceeded(self, line: bytes) -> None:
        """One line of the head is longer than the whole may be."""
        self._respondToBadRequestAndDisconnect()

    def dataReceived(self, data: bytes) -> None:
        """After a bad head the rest is thrown away for a moment: closing at once would take the answer back. What comes
        behind an upgrade, before the other protocol has what came with it, waits behind that."""
        if self._upgraded is not None:
            self._dataBuffer.append(data)
            return
        if self._bad:
            return
        super().dataReceived(data)
        if self._is_amid_head:
            if self._head_deadline is None:
                self._expect_head()
        elif self._head_deadline is not None:
            self._stop_deadline()

    @property
    def _is_amid_head(self) -> bool:
        """Whether a head has begun to come and is not all here: not while its body comes or its answer is made."""
        return bool(self.line_mode and not self._handlingRequest and (self._buffer or hasattr(self, "_command")))

    def _expect_head(self) -> None:
        self._head_deadline = self.callLater(HEAD_S, self._head_is_late)

    def _head_is_late(self) -> None:
        self._head_deadline = None
        self._refuse_head(RequestTooSlow(f"the request's head did not come within {HEAD_S:g} seconds"))

    def _stop_deadline(self) -> None:
        if self._head_deadline is not None:
            self._head_deadline.cancel()
            self._head_deadline = None

    def upgrade(self, protocol: Any) -> None:
        """From here on ``protocol`` speaks: it gets what comes, and the transport's pace."""
        self._upgraded = protocol
        self.setTimeout(None)
        transport: Any = self.transport
        transport.unregisterProducer()
        transport.resumeProducing()
        self.callLater(0, self._hand_over_rest)

    def _hand_over_rest(self) -> None:
        """What came behind the head in one piece with it: it is put by only after the head has been dealt with."""
        self.dataReceived = self._upgraded.dataReceived  # type: ignore[method-assign]
        rest = b"".join(self._dataBuffer)
        self._dataBuffer.clear()
        if rest:
            self._upgraded.dataReceived(rest)

    def abortConnection(self) -> None:
        """Close at once; what was not sent yet is lost."""
        transport: Any = self.transport
        if transport is not None:
            transport.abortConnection()

    def connectionMade(self) -> None:
        """The site knows of it until it is gone."""
        super().connectionMade()
        self._expect_head()
        self.site.channels.add(self)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Gone."""
        self._stop_deadline()
        super().connectionLost(reason)
        if self._upgraded is not None:
            self._upgraded.connectionLost(reason)
        self.site.closed(self)


class Site(server.Site):
    """Every request goes to the Edge; there is no resource tree."""

    requestFactory = EdgeRequest  # type: ignore[assignment]
    protocol = Channel  # type: ignore[assignment]

    def __init__(self, reactor: Any, edge: Edge, json_limit: int) -> None:
        super().__init__(Resource(), timeout=IDLE_S, parsePOSTFormSubmission=False, reactor=reactor)
        self.edge = edge
        self.json_limit = json_limit
        self.channels: set[Channel] = set()
        self._all_closed: Deferred[None] | None = None

    def closed(self, channel: Channel) -> None:
        """A connection is gone."""
        self.channels.discard(channel)
        if not self.channels and self._all_closed is not None:
            done, self._all_closed = self._all_closed, None
            done.callback(None)

    def close_all(self, seconds: float) -> Deferred[None]:
        """Close every connection once what was written to it is sent; those that take longer are cut."""
        if not self.channels:
            return succeed(None)
        self._all_closed = Deferred()
        for channel in list(self.channels):
            channel.loseConnection()
        cut = self.reactor.callLater(seconds, self._cut_all)
        return self._all_closed.addCallback(lambda _: cut.cancel() if cut.active() else None)

    def recheck(self) -> None:
        """Keys or scopes changed: what is under way for somebody who lost them is cut."""
        for channel in list(self.channels):
            for request in list(channel.requests):
                request.recheck()

    def _cut_all(self) -> None:
        for channel in list(self.channels):
            channel.abortConnection()

    def log(self, request: http.Request) -> None:
        """The audit log has it."""

    def acceptableProtocols(self) -> list[bytes]:
        """HTTP/1.1, whatever else is installed."""
        return [b"http/1.1"]
