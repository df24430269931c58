"""A WebSocket to this machine's own daemon, for commands: blocking, with ``fileno`` for who waits for more than it."""

from __future__ import annotations

import json
import os
import select
import socket
from collections.abc import Iterator, Mapping
from typing import Any

from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Message,
    Ping,
    RejectConnection,
    RejectData,
    Request,
    TextMessage,
)
from wsproto.utilities import LocalProtocolError, RemoteProtocolError

from loopsy.client import http1
from loopsy.client.local import LocalDaemon
from loopsy.errors import ConnectionBroken, DaemonNotRunning, from_wire
from loopsy.wire.websocket import KEY_BYTES, SMALL, SmallFrames, small_frame

PIECE = 64 * 1024
"""Taken and sent in one go. (For more than 128 KiB the C library asks the kernel for pages each time.)"""
CONNECT_S = 5.0
ANSWER_S = 30.0
"""The daemon itself gives a peer 5 s to be connected to and 15 s to answer."""
HEAD_BYTES = 64 * 1024
Received = bytes | Mapping[str, Any]
"""A message: bytes, or a JSON object."""


class WebSocket:
    """One connection."""

    def __init__(
        self, daemon: LocalDaemon, path: str, subprotocol: str, headers: Mapping[str, str] | None = None
    ) -> None:
        """Connect.

        :raises LoopsyError: the daemon's refusal. :raises DaemonNotRunning: :raises ConnectionBroken:
        """
        endpoint = daemon.endpoint
        self._socket = _connected(endpoint.host, endpoint.port)
        self._connection = WSConnection(ConnectionType.CLIENT)
        self._small = SmallFrames(are_masked=False)
        self._key = os.urandom(KEY_BYTES)
        self._parts: list[bytes] = []
        self.is_closed = False
        self.waiting = bytearray()
        """What is to be sent, while nobody waits for that (``queue``)."""
        self._early: list[Received] = []
        sent = {"authorization": f"Bearer {endpoint.key}", **(headers or {})}
        more = [(name.encode(), value.encode()) for name, value in sent.items()]
        asked = Request(host=endpoint.authority, target=path, subprotocols=[subprotocol], extra_headers=more)
        try:
            self._socket.settimeout(ANSWER_S)
            self._socket.sendall(self._connection.send(asked))
            self._await_answer()
            self._socket.setblocking(False)
        except RemoteProtocolError as error:
            self._socket.close()
            raise ConnectionBroken(f"the daemon speaks no WebSocket: {error}") from None
        except OSError as error:
            self._socket.close()
            raise ConnectionBroken(f"the daemon did not answer: {(error.strerror or str(error)).lower()}") from None
        except BaseException:
            self._socket.close()
            raise

    def _await_answer(self) -> None:
        status, body, head = 0, b"", b""
        while True:
            data = self._socket.recv(PIECE)
            head += data
            self._connection.receive_data(data or None)
            accepted = False
            for event in self._connection.events():
                match event:
                    case AcceptConnection():
                        accepted = True
                    case RejectConnection(status_code=status):
                        pass
                    case RejectData(data=piece, body_finished=finished):
                        body += piece
                        if finished or len(body) > HEAD_BYTES:
                            raise from_wire(status, _json(body))
                    case _:
                        self._early += self._message(event)
            if accepted:
                self._small.follow(head.partition(b"\r\n\r\n")[2])
                return
            if not data:
                raise from_wire(status, _json(body)) if status else ConnectionBroken("the daemon broke the connection")

    def fileno(self) -> int:
        """For select: when it is readable, ``receive`` has something to do."""
        return self._socket.fileno()

    def receive(self) -> Iterator[Received]:
        """What has come; waits for something. After the end ``is_closed`` is true.

        :raises ConnectionBroken: the connection was cut.
        """
        early, self._early = self._early, []
        if early:
            yield from early
            return
        data = self._recv()
        if not data:
            self.is_closed = True
            return
        small = self._small.take(data)
        if small is not None:
            yield small
            return
        try:
            self._connection.receive_data(data)
            for event in self._connection.events():
                yield from self._message(event)
        except RemoteProtocolError as error:
            raise ConnectionBroken(f"the daemon speaks no WebSocket: {error}") from None

    def _recv(self) -> bytes:
        while True:
            try:
                return self._socket.recv(PIECE)
            except BlockingIOError:
                select.select([self._socket], [], [])
            except OSError:
                return b""  # reset: that it ended is all there is to tell

    @property
    def has_early(self) -> bool:
        """Whether something came with the handshake's answer already."""
        return bool(self._early)

    def _message(self, event: object) -> Iterator[Received]:
        match event:
            case Ping():
                self.queue(self._connection.send(event.response()))
            case CloseConnection():
                self.is_closed = True
            case Message():
                self._parts.append(event.data.encode() if isinstance(event.data, str) else bytes(event.data))
                if event.message_finished:
                    data, self._parts = b"".join(self._parts), []
                    yield json.loads(data) if isinstance(event, TextMessage) else data

    def send(self, data: bytes) -> None:
        """Send bytes, as far as the daemon takes them; the rest is in ``waiting``."""
        if len(data) > SMALL:
            self.queue(self._connection.send(BytesMessage(data)))
        else:
            self.queue(small_frame(data, self._key))
            self._key = os.urandom(KEY_BYTES)  # for the next: nobody waits now

    def say(self, words: Mapping[str, Any]) -> None:
        """Send a JSON object, likewise."""
        self.queue(self._connection.send(TextMessage(json.dumps(words))))

    def queue(self, data: bytes) -> None:
        """Behind what waits."""
        sent = 0 if self.waiting else self._send(data)
        if sent < len(data):
            self.waiting += data[sent:]

    def flush(self) -> None:
        """Send what the daemon takes now."""
        sent = 1
        while self.waiting and sent:
            with memoryview(self.waiting) as view:
                sent = self._send(view[:PIECE])
            del self.waiting[:sent]

    def _send(self, data: bytes | memoryview) -> int:
        """How much was taken. A connection that takes no more takes all: what it said last is still to be read."""
        try:
            return self._socket.send(data)
        except BlockingIOError:
            return 0
        except OSError:
            return len(data)

    def close(self) -> None:
        """Leave."""
        try:
            if not self.is_closed:
                self.queue(self._connection.send(CloseConnection(1000)))
        except LocalProtocolError:
            pass  # it was closed from the other side at the same time
        self._socket.close()


def _connected(host: str, port: int) -> socket.socket:
    try:
        return http1.connect(host, port, CONNECT_S)
    except ConnectionRefusedError:
        raise DaemonNotRunning(f"the daemon is not running (nothing listens on port {port})") from None
    except OSError as error:
        raise ConnectionBroken(f"the daemon can't be reached: {(error.strerror or str(error)).lower()}") from None


def _json(data: bytes) -> object:
    try:
        found: object = json.loads(data)
    except ValueError:
        return None
    return found
