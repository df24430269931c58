"""The gateway's tunnel, towards peers that answer a WebSocket's handshake with anything at all."""

from __future__ import annotations

import base64
import hashlib
import json
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from loopsy.client.peer import Target
from loopsy.errors import Forbidden, InvalidRequest, LoopsyError, PeerTimeout, PeerUnreachable
from loopsy.web import tunnel
from tests.strategies import cut
from tests.web.sockets import Transport

KEY = base64.b64encode(b"k" * 16)
ACCEPT = base64.b64encode(hashlib.sha1(KEY + tunnel.GUID).digest())
GOOD = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: " + ACCEPT + b"\r\nSec-WebSocket-Protocol: loopsy.terminal.1\r\n\r\n"
)
NO = json.dumps({"error": {"code": 1002, "message": "peer leo may not use terminal here"}}).encode()


class Request:
    """As much of an EdgeRequest as a tunnel needs."""

    def __init__(self, **headers: bytes) -> None:
        self.clock = Clock()
        self.transport = Transport()
        self.channel: Any = SimpleNamespace(callLater=self.clock.callLater, transport=self.transport)
        self.headers = {b"sec-websocket-key": KEY, b"sec-websocket-protocol": b"loopsy.terminal.1, other.1"}
        self.headers |= {name.encode(): value for name, value in headers.items()}
        self.request_id, self.is_gone = "id", False
        self.bytes_in = self.sentLength = 0
        self.near: Any = None
        self.answer = b""

    def getHeader(self, name: bytes) -> bytes | None:
        return self.headers.get(name)

    def upgraded(self, near: Any, answer: bytes) -> None:
        self.near, self.answer = near, answer


class Dug:
    """A tunnel to a peer that the test plays."""

    def __init__(self, path: str = "/api/v1/x") -> None:
        self.request, self.far_transport = Request(), Transport()
        self.error: Any = None
        self.far: Any = None
        target = Target("192.0.2.1", 9999, "the-key")
        coroutine = tunnel.dig(self.request, self, target, path)  # type: ignore[arg-type]
        Deferred.fromCoroutine(coroutine).addErrback(self._failed)

    def connect(self, target: Target, factory: Any) -> Deferred[Any]:
        self.far = factory.buildProtocol(None)
        self.far.makeConnection(self.far_transport)
        return succeed(self.far)

    def _failed(self, failure: Failure) -> None:
        self.error = failure.value

    def says(self, data: bytes) -> None:
        """The peer."""
        self.far.dataReceived(data)

    def leaves(self, reason: Exception | None = None) -> None:
        """The peer."""
        self.far.connectionLost(Failure(reason or ConnectionDone()))


def test_bytes_pass_both_ways_after_the_handshake() -> None:
    dug = Dug()
    asked = dug.far_transport.value()
    assert asked.startswith(b"GET /api/v1/x HTTP/1.1\r\nhost: 192.0.2.1:9999\r\n")
    assert b"\r\nauthorization: Bearer the-key\r\n" in asked
    assert b"origin" not in asked.lower()
    dug.says(GOOD + b"first")
    assert b"sec-websocket-accept: " + ACCEPT in dug.request.answer
    assert b"sec-websocket-protocol: loopsy.terminal.1\r\n" in dug.request.answer
    dug.says(b" and more")
    assert dug.request.transport.value() == b"first and more"
    dug.far_transport.clear()
    dug.request.near.dataReceived(b"up")
    assert dug.far_transport.value() == b"up"
    assert (dug.request.bytes_in, dug.request.sentLength) == (2, 14)
    assert not dug.request.clock.getDelayedCalls()


@given(st.data())
def test_the_answer_may_come_in_any_pieces(data: st.DataObject) -> None:
    dug = Dug()
    for piece in data.draw(cut(GOOD + b"tail")):
        dug.says(piece)
    assert dug.request.transport.value() == b"tail"


def test_each_side_is_read_as_fast_as_the_other_takes() -> None:
    dug = Dug()
    dug.says(GOOD)
    dug.request.transport.producer.pauseProducing()
    assert dug.far_transport.is_paused
    dug.request.transport.producer.resumeProducing()
    assert not dug.far_transport.is_paused
    dug.far_transport.producer.pauseProducing()
    assert dug.request.transport.is_paused


def test_one_end_takes_the_other_with_it() -> None:
    dug = Dug()
    dug.says(GOOD)
    dug.leaves()
    assert dug.request.transport.disconnecting
    dug = Dug()
    dug.says(GOOD)
    dug.request.near.connectionLost()
    assert dug.far_transport.is_cut


# -- a peer that answers otherwise ------------------------------------------------------------------------------------
def test_a_refusal_is_the_peers_own_error() -> None:
    dug = Dug()
    dug.says(b"HTTP/1.1 403 Forbidden\r\ncontent-length: %d\r\n\r\n" % len(NO) + NO[:10])
    assert dug.error is None
    dug.says(NO[10:])
    assert isinstance(dug.error, Forbidden)
    assert "leo" in dug.error.message
    assert dug.far_transport.is_cut


@pytest.mark.parametrize("length", [b"", b"content-length: 99999999999\r\n", b"content-length: -1\r\n"])
def test_a_refusal_that_ends_with_the_connection(length: bytes) -> None:
    dug = Dug()
    dug.says(b"HTTP/1.1 403 Forbidden\r\n" + length + b"\r\n" + NO)
    dug.leaves()
    assert isinstance(dug.error, Forbidden)


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"x" * 100_000,
        b"HTTP/1.1 " + b"1" * 5000 + b" x\r\n\r\n",
        b"HTTP/1.1 \xb2\xb2\xb2 x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}",
        b"HTTP/1.1 500 no\r\n\r\n" + b"\0" * 70_000,
        b"HTTP/1.1 404 no\r\ncontent-length: 5000\r\n\r\n" + b"[" * 5000,
        b"HTTP/1.1 101 ok\r\n" + b"a: b\r\n" * 10_000,
        GOOD.replace(ACCEPT, b"bm90IHRoaXM="),
        GOOD.replace(b"Sec-WebSocket-Accept: " + ACCEPT + b"\r\n", b""),
        GOOD.replace(b"loopsy.terminal.1", b"evil.1"),
        GOOD.replace(b"loopsy.terminal.1", b"loopsy.terminal.1\nset-cookie: a=b"),
    ],
    ids=[
        "ssh",
        "endless line",
        "digits",
        "odd digits",
        "200",
        "endless body",
        "no json",
        "endless head",
        "other accept",
        "no accept",
        "other protocol",
        "smuggled header",
    ],
)
def test_nonsense_is_an_error_and_cut(answer: bytes) -> None:
    dug = Dug()
    for at in range(0, len(answer), 5000):
        dug.says(answer[at : at + 5000])
    assert isinstance(dug.error, LoopsyError)
    assert dug.far_transport.is_cut
    assert not dug.request.answer
    assert not dug.request.clock.getDelayedCalls()
    assert len(dug.far._buffer) <= 80_000
    dug.leaves()


@given(st.binary(max_size=300))
def test_any_answer_at_all(answer: bytes) -> None:
    dug = Dug()
    dug.says(answer)
    dug.leaves()
    assert isinstance(dug.error, LoopsyError)


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 101 Sw", GOOD[:-2]])
def test_a_peer_that_leaves_before_its_answer(said: bytes) -> None:
    dug = Dug()
    dug.says(said)
    dug.leaves()
    assert isinstance(dug.error, PeerUnreachable)
    assert not dug.request.clock.getDelayedCalls()


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 ", b"HTTP/1.1 403 no\r\ncontent-length: 9\r\n\r\n"])
def test_a_peer_that_does_not_answer(said: bytes) -> None:
    dug = Dug()
    dug.says(said)
    dug.request.clock.advance(tunnel.ANSWER_S + 1)
    assert isinstance(dug.error, PeerTimeout)
    assert dug.far_transport.is_cut


def test_a_client_that_left_meanwhile() -> None:
    dug = Dug()
    dug.request.is_gone = True
    dug.says(GOOD)
    assert dug.far_transport.is_cut
    assert not dug.request.answer


@pytest.mark.parametrize("path", ["/a b", "/a\nx: y", "/a\x0bb", "/é"])
def test_an_address_that_would_break_the_head(path: str) -> None:
    dug = Dug(path)
    assert isinstance(dug.error, InvalidRequest)
    assert dug.far is None
