"""``loopsy exec -i``: a command with our standard input, both ways at once, at the pace of whoever is slower."""

from __future__ import annotations

import json
import os
import select
import sys
from typing import Any

from loopsy.cli.exec import ended_words, exit_status, write_all
from loopsy.client.local import LocalDaemon
from loopsy.client.websocket import WebSocket
from loopsy.errors import ConnectionBroken, from_wire
from loopsy.wire import frames, urls
from loopsy.wire.execution_socket import EOF, SUBPROTOCOL

READ = 64 * 1024
HELD = 256 * 1024
"""Input that was read and not taken: beyond that none is read."""


def follow(daemon: LocalDaemon, peer: str | None, label: str, body: dict[str, Any]) -> int:
    """Run it to its end; returns the exit status.

    :raises LoopsyError: it was refused, or the connection was lost.
    """
    socket = WebSocket(daemon, urls.on_peer(urls.EXECUTE_SOCKET, peer), SUBPROTOCOL)
    try:
        socket.say(body)
        return _Exchange(socket, label).run()
    except BrokenPipeError:
        return 141
    finally:
        socket.close()


class _Exchange:
    def __init__(self, socket: WebSocket, label: str) -> None:
        self._socket = socket
        self._label = label
        self._decoder = frames.Decoder()
        self._status: int | None = None
        self._input: int | None = sys.stdin.fileno() if sys.stdin is not None else None

    def run(self) -> int:
        while self._status is None:
            if not self._socket.has_early:
                self._wait()
            else:
                self._receive()
        return self._status

    def _wait(self) -> None:
        reads: list[Any] = [self._socket]
        if self._input is not None and len(self._socket.waiting) < HELD:
            reads.append(self._input)
        ready, free, _ = select.select(reads, [self._socket] if self._socket.waiting else [], [])
        if free:
            self._socket.flush()
        if self._socket in ready:
            self._receive()
        if self._input in ready and self._status is None:
            self._read()

    def _read(self) -> None:
        assert self._input is not None
        data = os.read(self._input, READ)
        if data:
            self._socket.send(data)
        else:
            self._input = None
            self._socket.say(EOF)

    def _receive(self) -> None:
        for message in self._socket.receive():
            if isinstance(message, bytes):
                self._frames(message)
        if self._socket.is_closed and self._status is None:
            raise ConnectionBroken(f"the connection to {self._label} was lost; whether the command ended is not known")

    def _frames(self, message: bytes) -> None:
        for kind, payload in self._decoder.feed(message):
            if kind in (frames.OUT, frames.ERR):
                write_all(1 if kind == frames.OUT else 2, payload)
                continue
            words = json.loads(bytes(payload))
            if kind == frames.ERROR:
                raise from_wire(0, words)
            ended_words(words)
            self._status = exit_status(words)
