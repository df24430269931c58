"""WebSockets (RFC 6455) at the edge: wsproto speaks the protocol, this joins it to a request that was let in.

``twisted.web.websocket`` would hold messages of any size and knows no subprotocols, so only its parser is used.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Protocol

from twisted.internet.interfaces import IDelayedCall, IPushProducer
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from wsproto.connection import Connection, ConnectionState, ConnectionType
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Ping,
    Pong,
    TextMessage,
)
from wsproto.events import Request as Handshake
from wsproto.frame_protocol import CloseReason
from wsproto.handshake import H11Handshake
from wsproto.utilities import LocalProtocolError, RemoteProtocolError
from zope.interface import implementer

from loopsy.errors import InvalidRequest
from loopsy.services.transports import be_prompt
from loopsy.web.request import EdgeRequest
from loopsy.wire.websocket import SMALL, SmallFrames, small_frame

MESSAGE_BYTES = 1024 * 1024
"""Of one message: a terminal's input comes in small ones, a paste of a MiB is the most that anybody means."""
PING_S, SILENT_S = 30.0, 60.0
"""Between our pings, and how long one may stay unanswered."""
LINGER_S = 5.0
"""After our close has left, for the other side to close too."""
STUCK_S = 60.0
"""After our close, for it to leave at all: before it there may be output that is taken slowly."""
NORMAL, POLICY, TOO_BIG = CloseReason.NORMAL_CLOSURE, CloseReason.POLICY_VIOLATION, CloseReason.MESSAGE_TOO_BIG


class Endpoint(Protocol):
    """What speaks over a WebSocket."""

    def text(self, words: Mapping[str, Any]) -> None:
        """A JSON object came."""

    def data(self, data: bytes) -> None:
        """Bytes came."""

    def slow(self) -> None:
        """The other side is behind: send nothing for now."""

    def ready(self) -> None:
        """It takes more."""

    def gone(self) -> None:
        """It is over."""


@implementer(IPushProducer)
class WebSocket:
    """One connection, after its handshake."""

    def __init__(self, request: EdgeRequest, connection: Connection, endpoint: Endpoint, is_patient: bool) -> None:
        self._request = request
        self._transport: Any = request.channel.transport
        self._connection = connection
        self._endpoint = endpoint
        self._is_patient = is_patient
        self._small = SmallFrames(are_masked=True)
        self._parts: list[bytes] = []
        self._size = 0
        self._over = False
        self._is_deaf = self._has_left = False
        self._is_slow = False
        self._is_held = False
        self._heard = True
        self._pong: Any = None
        self._timer: IDelayedCall | None = None

    # -- the connection -------------------------------------------------------------------------------------------
    def begin(self) -> None:
        """The handshake is answered: from here on all bytes are ours."""
        be_prompt(self._transport)
        self._transport.registerProducer(self, True)
        self._timer = self._request.channel.callLater(PING_S, self._ping)

    def dataReceived(self, data: bytes) -> None:
        """From the channel. After our close only the other side's is waited for; the rest is thrown away."""
        small = None if self._is_deaf else self._small.take(data)
        if small is not None:
            if not self._over:
                self._endpoint.data(small)
        elif not self._is_deaf:
            self._parse(data)
        self._heard = True
        self._request.bytes_in += len(data)

    def _parse(self, data: bytes) -> None:
        try:
            self._connection.receive_data(data)
            for event in self._connection.events():
                self._happened(event)
        except RemoteProtocolError as error:
            self._is_deaf = True
            self._close_with(error.event_hint)
        if self._over and self._connection.state is ConnectionState.CLOSED:
            self._leave()

    def _happened(self, event: object) -> None:
        if self._over:
            return  # an event before it was the end
        match event:
            case TextMessage() | BytesMessage():
                self._message(event)
            case Ping():
                self._answer(event.response())
            case CloseConnection():
                self._close_with(event.response())
            case Pong():
                pass  # anything heard counts

    def _answer(self, pong: Pong) -> None:
        """Of the pings of somebody who takes no answers only the last is kept (RFC 6455, 5.5.3)."""
        if self._is_slow:
            self._pong = pong
        else:
            self._write(pong)

    def _message(self, event: TextMessage | BytesMessage) -> None:
        is_text = isinstance(event, TextMessage)
        piece = event.data.encode() if isinstance(event, TextMessage) else bytes(event.data)
        if piece:
            self._parts.append(piece)  # (fragments may be empty, and as many as one likes)
        self._size += len(piece)
        if self._size > MESSAGE_BYTES:
            self.close(TOO_BIG, f"a message has at most {MESSAGE_BYTES} bytes")
        elif event.message_finished:
            data, self._parts, self._size = b"".join(self._parts), [], 0
            if is_text:
                self._words(data)
            else:
                self._endpoint.data(data)

    def _words(self, data: bytes) -> None:
        try:
            words = json.loads(data)
        except (ValueError, RecursionError):
            words = None
        if isinstance(words, dict):
            self._endpoint.text(words)
        else:
            self.close(POLICY, "a text message must be a JSON object")

    def _ping(self) -> None:
        """Silence is not held against whom we don't read, or who has not taken yet what comes before our ping."""
        if not (self._heard or self._is_slow or self._is_held or self._is_patient):
            self._request.cut()
            return
        self._heard = False
        if not self._is_slow:
            self._write(Ping(b""))
        self._timer = self._request.channel.callLater(SILENT_S - PING_S, self._ping)

    def _write(self, event: Any) -> None:
        if not self._over:
            self._send(self._connection.send(event))

    def _send(self, data: bytes) -> None:
        self._transport.write(data)
        self._request.sentLength += len(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """From the channel."""
        was_over, self._over = self._over, True
        self._stop_timer()
        if not was_over:
            self._endpoint.gone()

    def _stop_timer(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()

    # -- for the endpoint -----------------------------------------------------------------------------------------
    def say(self, **words: Any) -> None:
        """Send a JSON object."""
        self._write(TextMessage(json.dumps(words, ensure_ascii=False, separators=(",", ":"))))

    def send(self, data: bytes) -> None:
        """Send bytes."""
        if len(data) > SMALL:
            self._write(BytesMessage(data))
        elif not self._over:
            self._send(small_frame(data))

    def close(self, code: int = NORMAL, reason: str = "") -> None:
        """Say why, and close."""
        self._close_with(CloseConnection(code, reason))

    def _close_with(self, event: Any) -> None:
        if self._over:
            return
        try:
            self._write(event or CloseConnection(CloseReason.PROTOCOL_ERROR))
        except LocalProtocolError:
            pass  # it was closed from both sides at once
        self._over = True
        self._stop_timer()
        self._transport.resumeProducing()
        if self._is_slow and self._connection.state is not ConnectionState.CLOSED:
            if not self._is_patient:
                self._timer = self._request.channel.callLater(STUCK_S, self._request.cut)
        else:
            self._linger()
        self._endpoint.gone()

    def _linger(self) -> None:
        """Closing at once would take our last words from the other side's hands, while it still sends."""
        self._stop_timer()
        if self._connection.state is ConnectionState.CLOSED:
            self._leave()
        else:
            seconds = STUCK_S if self._is_patient else LINGER_S
            self._timer = self._request.channel.callLater(seconds, self._leave)

    def _leave(self) -> None:
        """What was written is still sent."""
        self._stop_timer()
        if not self._has_left:
            self._has_left = self._is_deaf = True
            self._transport.unregisterProducer()
            self._transport.loseConnection()

    def read_no_more(self) -> None:
        """What comes waits in the network."""
        if not self._over:
            self._is_held = True
            self._transport.pauseProducing()

    def read_on(self) -> None:
        """Take more."""
        if not self._over:
            self._is_held, self._heard = False, True
            self._transport.resumeProducing()

    # -- from the transport ---------------------------------------------------------------------------------------
    def pauseProducing(self) -> None:
        """It is full."""
        self._is_slow = True
        if not self._over:
            self._endpoint.slow()

    def resumeProducing(self) -> None:
        """It takes more."""
        self._is_slow, self._heard = False, True
        if self._over:
            self._linger()
            return
        pong, self._pong = self._pong, None
        if pong is not None:
            self._write(pong)
        self._endpoint.ready()

    def stopProducing(self) -> None:
        """It is gone; connectionLost tells too."""


def accept(request: EdgeRequest, subprotocol: str, endpoint: Endpoint, *, is_patient: bool = False) -> WebSocket:
    """Answer the handshake; the endpoint may speak at once. With ``is_patient`` silence is no reason to let go: the
    pings only find out who is gone, since writing to such a one fails.

    :raises InvalidRequest: it is no handshake, or offers other subprotocols only.
    """
    handshake = H11Handshake(ConnectionType.SERVER)
    raw = [(name, value) for name, values in request.requestHeaders.getAllRawHeaders() for value in values]
    try:
        handshake.initiate_upgrade_connection(raw, request.path.decode("ascii", "replace"))
        (asked,) = [event for event in handshake.events() if isinstance(event, Handshake)]
    except (RemoteProtocolError, ValueError):
        hint = f"connect as a WebSocket with the subprotocol {subprotocol}"
        raise InvalidRequest("this address speaks WebSocket", hint=hint) from None
    if subprotocol not in asked.subprotocols:
        raise InvalidRequest(f"sec-websocket-protocol: must offer {subprotocol}")
    answer = handshake.send(AcceptConnection(subprotocol=subprotocol))
    connection = handshake.connection
    assert connection is not None
    socket = WebSocket(request, connection, endpoint, is_patient)
    request.upgraded(socket, answer)
    socket.begin()
    return socket
