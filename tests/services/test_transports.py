"""What is written leaves at once, in its order, or as the reactor lets it."""

from __future__ import annotations

import gc
import socket
from typing import Any
from weakref import ref

import pytest
from twisted.internet import reactor as real_reactor
from twisted.internet.abstract import FileDescriptor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import deferLater
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

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


class End(Protocol):
    """One end of a connection."""

    def __init__(self) -> None:
        self.made: Deferred[End] = Deferred()
        self.lost: Deferred[None] = Deferred()
        self.got = b""

    @property
    def way(self) -> Any:
        return self.transport

    def connectionMade(self) -> None:
        self.made.callback(self)

    def dataReceived(self, data: bytes) -> None:
        self.got += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost.callback(None)


async def connected() -> tuple[End, End]:
    """Both ends of a real connection."""
    there = End()
    port = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(Factory.forProtocol(lambda: there))
    here = await TCP4ClientEndpoint(reactor, "127.0.0.1", port.getHost().port).connect(Factory.forProtocol(End))
    await there.made
    await port.stopListening()
    return here, there


async def test_a_real_connection() -> None:
    """Written and taken without a turn of the reactor between, and without waiting for receipts."""
    here, there = await connected()
    be_prompt(here.transport)
    here.way.write(b"key")
    raw: socket.socket = there.way.getHandle()
    raw.settimeout(30)
    assert raw.recv(10) == b"key"
    raw.setblocking(False)
    assert here.way.getTcpNoDelay()
    here.way.loseConnection()
    await there.lost


async def test_nothing_leaves_after_a_cut() -> None:
    """Who is revoked gets nothing more, though the transport says that it is connected until the next turn."""
    here, there = await connected()
    be_prompt(here.transport)
    here.way.write(b"before ")
    here.way.abortConnection()
    here.way.write(b"secret")
    await there.lost
    assert there.got in (b"before ", b"")  # (a reset may take what was not read)
    be_prompt(here.transport)  # gone: there is nothing to do


async def test_an_ended_connection_is_not_kept() -> None:
    here, there = await connected()
    gc.disable()
    try:
        be_prompt(there.transport)
        known = ref(there.way)
        here.way.loseConnection()
        await there.lost
        there.transport = None
        await deferLater(reactor, 0)
        await deferLater(reactor, 0)
        assert known() is None
    finally:
        gc.enable()
