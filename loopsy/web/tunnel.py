"""A WebSocket through the gateway: the handshake is passed on to the peer, and then the bytes, both ways, unread."""

from __future__ import annotations

import json
import re
from base64 import b64encode
from collections.abc import Mapping
from hashlib import sha1
from hmac import compare_digest
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from loopsy.client.peer import PeerClient, Target
from loopsy.errors import InvalidRequest, LoopsyError, PeerTimeout, PeerUnreachable, from_wire
from loopsy.services.transports import be_prompt
from loopsy.web.request import REQUEST_ID, EdgeRequest

KEY, ACCEPTED, SUBPROTOCOL = b"sec-websocket-key", b"sec-websocket-accept", b"sec-websocket-protocol"
PASSED = (KEY, b"sec-websocket-version", SUBPROTOCOL)
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
"""RFC 6455, 1.3. (The parser that knows all this takes a while to load, and is not needed here.)"""
STATUS = re.compile(rb"[1-5][0-9][0-9]")
HEAD_BYTES = 16 * 1024
REFUSAL_BYTES = 64 * 1024
ANSWER_S = 15.0
"""A peer that takes longer to answer a handshake is not there."""


async def dig(request: EdgeRequest, client: PeerClient, target: Target, path: str) -> None:
    """Ask the peer for the WebSocket at ``path``, and join the two connections.

    :raises LoopsyError: the peer's refusal. :raises PeerUnreachable: it is not there, or speaks no sense.
    """
    handshake = _handshake(request, target, path)
    far: Far = await client.connect(target, Factory.forProtocol(Far))
    timer = request.channel.callLater(ANSWER_S, far.is_late)
    try:
        headers = await far.ask(handshake)
        answer = _answer(request, headers)
    except BaseException:
        far.cut()
        raise
    finally:
        if timer.active():
            timer.cancel()
    if request.is_gone:
        far.cut()
        return
    near = Near(request, far)
    request.upgraded(near, answer)
    near.begin()


def _answer(request: EdgeRequest, headers: Mapping[bytes, bytes]) -> bytes:
    """What the client is told. Of the peer's headers only the subprotocol counts, and only one that was asked for: who
    reads them may be a browser, for which a line break within one would begin a header of ours.

    :raises PeerUnreachable: it did not answer this handshake.
    """
    expected = b64encode(sha1((request.getHeader(KEY) or b"") + GUID, usedforsecurity=False).digest())
    if not compare_digest(headers.get(ACCEPTED, b""), expected):
        raise PeerUnreachable("the peer's answer belongs to another WebSocket handshake")
    lines = [b"HTTP/1.1 101 Switching Protocols", b"upgrade: websocket", b"connection: Upgrade"]
    lines.append(ACCEPTED + b": " + expected)
    chosen = headers.get(SUBPROTOCOL)
    if chosen is not None:
        if chosen not in [one.strip() for one in (request.getHeader(SUBPROTOCOL) or b"").split(b",")]:
            raise PeerUnreachable("the peer chose a WebSocket subprotocol that nobody asked for")
        lines.append(SUBPROTOCOL + b": " + chosen)
    return b"\r\n".join(lines) + b"\r\n\r\n"


def _handshake(request: EdgeRequest, target: Target, path: str) -> bytes:
    """:raises InvalidRequest: the address can't be passed on."""
    if not path.isascii() or not path.isprintable() or " " in path:
        raise InvalidRequest("the address holds characters that no address has")
    host = f"[{target.address}]" if ":" in target.address else target.address
    lines = [f"GET {path} HTTP/1.1".encode(), f"host: {host}:{target.port}".encode(), b"user-agent: loopsy"]
    lines += [b"upgrade: websocket", b"connection: Upgrade", REQUEST_ID + b": " + request.request_id.encode()]
    if target.key is not None:
        lines.append(b"authorization: Bearer " + target.key.encode())
    for name in PASSED:
        value = request.getHeader(name)
        if value is not None:
            lines.append(name + b": " + value)
    return b"\r\n".join(lines) + b"\r\n\r\n"


class Far(Protocol):
    """The peer's end: first its answer, then what it sends."""

    def __init__(self) -> None:
        self._near: Near | None = None
        self._buffer = b""
        self._head: tuple[int, dict[bytes, bytes]] | None = None
        self._answered: Deferred[dict[bytes, bytes]] = Deferred()
        self.is_gone = self._is_cut = False

    def ask(self, handshake: bytes) -> Deferred[dict[bytes, bytes]]:
        """Send the handshake; fires with the headers of a 101."""
        self._way.write(handshake)
        return self._answered

    @property
    def _way(self) -> Any:
        return self.transport

    def dataReceived(self, data: bytes) -> None:
        """Its answer, then its bytes."""
        if self._near is not None:
            self._near.write(data)
            return
        if self._is_cut:
            return
        self._buffer += data
        if self._head is None:
            self._read_head()
        if self._head is not None and self._head[0] != 101:
            self._read_refusal()

    def _read_head(self) -> None:
        head, end, rest = self._buffer.partition(b"\r\n\r\n")
        if not end:
            if len(self._buffer) > HEAD_BYTES or not self._buffer.startswith(b"HTTP/1.1"[: len(self._buffer)]):
                self._fail(PeerUnreachable("the peer's answer is not HTTP"))
            return
        first, *lines = head.split(b"\r\n")
        words = first.split(b" ", 2)
        if len(words) < 2 or words[0] != b"HTTP/1.1" or not STATUS.fullmatch(words[1]):
            self._fail(PeerUnreachable("the peer's answer is not HTTP"))
            return
        headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines)}
        self._head, self._buffer = (int(words[1]), headers), rest
        if self._head[0] == 101:
            self._way.pauseProducing()
            self._answered.callback(headers)

    def _read_refusal(self) -> None:
        """An error of the peer's, whole once its length is here."""
        assert self._head is not None
        status, headers = self._head
        length = headers.get(b"content-length", b"")
        wanted = int(length) if length.isdigit() and len(length) < 9 else REFUSAL_BYTES
        if len(self._buffer) >= min(wanted, REFUSAL_BYTES):
            self._refused(status)

    def _refused(self, status: int) -> None:
        try:
            body = json.loads(self._buffer)
        except (ValueError, RecursionError):
            body = None
        self._fail(from_wire(status, body) if status >= 400 else PeerUnreachable("the peer speaks no WebSocket here"))

    def is_late(self) -> None:
        """It has not answered."""
        self._fail(PeerTimeout(f"the peer did not answer within {ANSWER_S:g} s"))

    def _fail(self, error: LoopsyError) -> None:
        if not self._answered.called:
            self._answered.errback(error)
        self.cut()

    def join(self, near: Near) -> bytes:
        """From here on its bytes go to ``near``; what came behind its answer."""
        self._near = near
        rest, self._buffer = self._buffer, b""
        return rest

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """It is gone."""
        self.is_gone = True
        if self._near is not None:
            self._near.far_is_gone()
        elif not self._answered.called and self._head is not None:
            self._refused(self._head[0])
        elif not self._answered.called and isinstance(reason.value, LoopsyError):
            self._answered.errback(reason)  # another certificate
        elif not self._answered.called:
            self._answered.errback(PeerUnreachable("the peer broke the connection before it answered"))

    def cut(self) -> None:
        """Close at once."""
        self._is_cut = True
        if not self.is_gone and self._way is not None:
            self._way.abortConnection()


@implementer(IPushProducer)
class Pace:
    """Reads from one side no faster than the other takes it."""

    def __init__(self, source: Any) -> None:
        self._source = source

    def pauseProducing(self) -> None:
        """The other side is full."""
        self._source.pauseProducing()

    def resumeProducing(self) -> None:
        """It takes more."""
        self._source.resumeProducing()

    def stopProducing(self) -> None:
        """It is gone; its end is told otherwise."""


class Near:
    """The client's end, in the place of its HTTP channel."""

    def __init__(self, request: EdgeRequest, far: Far) -> None:
        self._request = request
        self._far = far
        self._transport: Any = request.channel.transport
        self._far_transport: Any = far.transport

    def begin(self) -> None:
        """Join the two."""
        far = self._far_transport
        be_prompt(self._transport)
        be_prompt(far)
        rest = self._far.join(self)
        if rest:
            self.write(rest)
        self._transport.registerProducer(Pace(far), True)
        far.registerProducer(Pace(self._transport), True)
        far.resumeProducing()
        if self._far.is_gone:
            self.far_is_gone()

    def write(self, data: bytes) -> None:
        """From the peer to the client."""
        self._transport.write(data)
        self._request.sentLength += len(data)

    def dataReceived(self, data: bytes) -> None:
        """From the client to the peer."""
        if not self._far.is_gone:
            self._far_transport.write(data)
        self._request.bytes_in += len(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The client left, or was cut."""
        self._far.cut()

    def far_is_gone(self) -> None:
        """Let out what the peer sent, then close."""
        if not self._request.is_gone:
            self._transport.unregisterProducer()
            self._transport.loseConnection()
