"""Twisted's Site and channel with our request, our errors and our bounds."""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IAddress
from twisted.web import http, server
from twisted.web.resource import Resource

from loopsy.errors import HeadersTooLarge
from loopsy.web.edge import Edge
from loopsy.web.request import EdgeRequest
from loopsy.wire import codec

IDLE_S = 60
"""An idle connection is closed after this; PeerClient keeps its own for less."""


class Channel(http.HTTPChannel):
    """One connection. HTTP/1.1 only: nothing here would gain from HTTP/2, and streaming bodies need this channel."""

    _host: IAddress | None = None

    def getHost(self) -> IAddress:
        """Our end of the connection. Twisted's Request asks for each request, which is a system call each time."""
        if self._host is None:
            self._host = super().getHost()
        return self._host

    def _respondToBadRequestAndDisconnect(self) -> None:
        """What isn't HTTP, or has a head of more than 16 KiB, is told so in the one shape of errors."""
        body = codec.dump(HeadersTooLarge().body())
        head = (
            b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-type: application/json\r\n"
            b"connection: close\r\ncontent-length: %d\r\n\r\n" % len(body)
        )
        assert self.transport is not None
        self.transport.write(head + body)
        self.loseConnection()


class Site(server.Site):
    """Every request goes to the Edge; there is no resource tree."""

    requestFactory = EdgeRequest  # type: ignore[assignment]
    protocol = Channel  # type: ignore[assignment]

    def __init__(self, reactor: Any, edge: Edge, json_limit: int) -> None:
        super().__init__(Resource(), timeout=IDLE_S, parsePOSTFormSubmission=False, reactor=reactor)
        self.edge = edge
        self.json_limit = json_limit

    def log(self, request: http.Request) -> None:
        """The audit log has it."""

    def acceptableProtocols(self) -> list[bytes]:
        """HTTP/1.1, whatever else is installed."""
        return [b"http/1.1"]
