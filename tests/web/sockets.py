"""An edge without sockets, for WebSockets: a channel, its transport, and the other side's parser."""

from __future__ import annotations

import base64
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from wsproto.connection import Connection, ConnectionType
from wsproto.events import Event

from loopsy.config import parse
from loopsy.core.principals import AnyKey
from loopsy.services.settings import Settings
from loopsy.store.layout import Layout
from loopsy.web.edge import Edge
from loopsy.web.routes import ANSWERED, Answered, Call, Routes, Table
from loopsy.web.site import Site
from loopsy.web.websocket import accept

KEY = "k" * 32
SUBPROTOCOL = "test.1"
HANDSHAKE = (
    "GET /socket HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\nConnection: Upgrade\r\n"
    "Upgrade: websocket\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {nonce}\r\nSec-WebSocket-Protocol: {subprotocol}\r\n{more}\r\n"
)
NONCE = base64.b64encode(b"n" * 16).decode()


class Endpoint:
    """Notes what comes."""

    def __init__(self) -> None:
        self.heard: list[Any] = []

    def text(self, words: Any) -> None:
        self.heard.append(words)

    def data(self, data: bytes) -> None:
        self.heard.append(data)

    def slow(self) -> None:
        self.heard.append("slow")

    def ready(self) -> None:
        self.heard.append("ready")

    def gone(self) -> None:
        self.heard.append("gone")


class Area:
    """One WebSocket."""

    routes = Routes()

    def __init__(self, is_patient: bool = False) -> None:
        self.endpoint = Endpoint()
        self.socket: Any = None
        self._is_patient = is_patient

    @routes.declare("GET", "/socket", access=AnyKey())
    def attach(self, call: Call[None]) -> Answered:
        """It."""
        self.socket = accept(call.request, SUBPROTOCOL, self.endpoint, is_patient=self._is_patient)
        return ANSWERED


class Lines:
    """Audit lines."""

    def __init__(self) -> None:
        self.lines: list[Any] = []

    def record(self, record: Any) -> None:
        self.lines.append(record)


class Transport(StringTransport):
    """Tells when it was cut, and is no more strict than a real one about who pauses it how often."""

    is_cut = False
    is_paused = False

    def abortConnection(self) -> None:
        self.is_cut = self.disconnected = True

    def pauseProducing(self) -> None:
        self.is_paused = True

    def resumeProducing(self) -> None:
        self.is_paused = False


class Wire:
    """A connection to an area with one WebSocket."""

    def __init__(self, is_patient: bool = False) -> None:
        self.clock, self.lines, self.area = Clock(), Lines(), Area(is_patient)
        settings = Settings(Layout("/nowhere"), parse(f"auth: {{apiKey: {KEY}}}").config)
        site = Site(self.clock, Edge(Table([self.area]), settings, self.lines), 1000)
        self.channel: Any = site.buildProtocol(IPv4Address("TCP", "127.0.0.1", 5))
        self.transport = Transport()
        self.channel.makeConnection(self.transport)
        self.client = Connection(ConnectionType.CLIENT)

    def shake_hands(
        self, more: str = "", key: str = KEY, subprotocol: str = SUBPROTOCOL, trailing: bytes = b""
    ) -> bytes:
        """The answer."""
        words = HANDSHAKE.format(key=key, nonce=NONCE, subprotocol=subprotocol, more=more)
        self.channel.dataReceived(words.encode() + trailing)
        self.clock.advance(0)
        return self.taken()

    def taken(self) -> bytes:
        """What was sent since."""
        data = self.transport.value()
        self.transport.clear()
        return data

    def send(self, event: Event) -> None:
        """As the client."""
        self.channel.dataReceived(self.client.send(event))

    def events(self) -> list[Event]:
        """What the client sees."""
        data = self.taken()
        if data:
            self.client.receive_data(data)
        return list(self.client.events())

    def pass_by(self, seconds: float) -> None:
        """Time, in steps."""
        self.clock.pump([1.0] * int(seconds))

    def lose(self) -> None:
        """The client is gone."""
        self.channel.connectionLost(Failure(ConnectionDone()))

    @property
    def heard(self) -> list[Any]:
        """By the endpoint."""
        return self.area.endpoint.heard
