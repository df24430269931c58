"""What is written leaves at once, in its order, or as the reactor lets it."""

from __future__ import annotations

import socket
from typing import Any

import pytest
from twisted.internet import reactor as real_reactor
from twisted.internet.abstract import FileDescriptor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import StringTransport

from loopsy.services.transports import be_prompt, write_now

reactor: Any = real_reactor


class Writers:
    """Of a reactor only who wants to write."""

    def __init__(self) -> None:
        self.all: set[Any] = set()
        self.addWriter = self.all.add
        self.removeWriter = self.all.discard


class Line(FileDescriptor):
    """Takes so much in each of its turns; -1: it is full, or broken."""

    def __init__(self, *rooms: int) -> None:
        self.writers: Any = Writers()
        super().__init__(self.writers)
        self.connected = 1
        self.sent = b""
        self._rooms = list(rooms)

    def send(self, data: bytes) -> int:
        """At once."""
        room = self._rooms.pop(0) if self._rooms else len(data)
        if room < 0:
            raise BlockingIOError
        self.sent += data[:room]
        return min(room, len(data))

    writeSomeData = send


def test_it_leaves_at_once() -> None:
    line = Line()
    write_now(line, line.send, b"key")
    assert (line.sent, line.writers.all) == (b"key", set())


@pytest.mark.parametrize("room", [-1, 0, 2])
def test_what_is_not_taken_waits_and_the_next_does_not_pass_it(room: int) -> None:
    line = Line(room)
    write_now(line, line.send, b"abc")
    write_now(line, line.send, b"def")
    assert line.sent == b"ab"[: max(room, 0)]
    assert line.writers.all
    line.doWrite()
    assert (line.sent, line.writers.all) == (b"abcdef", set())
    write_now(line, line.send, b"g")
    assert line.sent == b"abcdefg"


def test_what_was_written_before_goes_first() -> None:
    line = Line()
    line.write(b"answer ")
    write_now(line, line.send, b"hello")
    line.doWrite()
    assert line.sent == b"answer hello"


@pytest.mark.parametrize("state", ["connected", "disconnecting"])
def test_after_the_end_nothing_is_sent(state: str) -> None:
    line = Line()
    setattr(line, state, int(state == "disconnecting"))
    write_now(line, line.send, b"late")
    assert line.sent == b""


def test_what_is_no_connection_is_left_alone() -> None:
    transport = StringTransport()
    be_prompt(transport)
    transport.write(b"as ever")
    assert transport.value() == b"as ever"


async def test_a_real_connection() -> None:
    """Written and taken without a turn of the reactor between, and without waiting for receipts."""
    made: Deferred[Protocol] = Deferred()

    class Server(Protocol):
        def connectionMade(self) -> None:
            made.callback(self)

    port = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(Factory.forProtocol(Server))
    client: Any = await TCP4ClientEndpoint(reactor, "127.0.0.1", port.getHost().port).connect(
        Factory.forProtocol(Protocol)
    )
    server: Any = await made
    be_prompt(client.transport)
    client.transport.write(b"key")
    raw: socket.socket = server.transport.getHandle()
    raw.settimeout(30)
    assert raw.recv(10) == b"key"
    raw.setblocking(False)
    assert client.transport.getTcpNoDelay()
    for each in (client, server):
        each.transport.abortConnection()
    await port.stopListening()
