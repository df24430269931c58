"""``loopsy exec -i``: a command with our standard input, both ways at once, at the pace of whoever is slower."""

from __future__ import annotations

import json
import os
import select
import sys
from collections.abc import Mapping
from typing import Any

from loopsy.cli.exec import PIPE_CLOSED, ended_words, exit_status, write_all
from loopsy.cli.interrupts import BY_SIGNAL, Interrupts
from loopsy.cli.versions import there
from loopsy.client.local import LocalDaemon
from loopsy.client.websocket import WebSocket
from loopsy.errors import from_wire
from loopsy.wire import frames, urls
from loopsy.wire.execution_socket import EOF, SUBPROTOCOL

READ = 64 * 1024
HELD = 256 * 1024
"""Input that was read and not taken: beyond that none is read."""


def follow(daemon: LocalDaemon, peer: str | None, label: str, body: dict[str, Any], headers: Mapping[str, str]) -> int:
    """Run it to its end; returns the exit status.

    :raises LoopsyError: it was refused, or the connection was lost.
    """
    with there(label, "standard input for commands"):
        socket = WebSocket(daemon, urls.on_peer(urls.EXECUTE_SOCKET, peer), SUBPROTOCOL, headers)
    try:
        socket.say(body)
        return _Exchange(daemon, peer, socket, label, body.get("timeout")).run()
    except BrokenPipeError:
        return PIPE_CLOSED
    finally:
        socket.close()


class _Exchange:
    def __init__(
        self, daemon: LocalDaemon, peer: str | None, socket: WebSocket, label: str, timeout_ms: int | None
    ) -> None:
        self._socket = socket
        self._label = label
        self._timeout_ms = timeout_ms
        self._decoder = frames.Decoder()
        self._status: int | None = None
        self._job_id = ""
        self._interrupts = Interrupts(daemon, peer, lambda: self._job_id)
        self._input: int | None = sys.stdin.fileno() if sys.stdin is not None else None
        if self._input is None:
            socket.say(EOF)

    def run(self) -> int:
        with self._interrupts:
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
        try:
            data = os.read(self._input, READ)
        except BlockingIOError:
            return  # whoever shares it was quicker
        if data:
            self._socket.send(data)
        else:
            self._input = None
            self._socket.say(EOF)

    def _receive(self) -> None:
        for message in self._socket.receive():
            if isinstance(message, bytes):
                self._frames(message)
            elif message.get("type") == "started":
                self._job_id = str(message.get("jobId", ""))
        if self._socket.is_closed and self._status is None:
            raise self._interrupts.lost(self._label)

    def _frames(self, message: bytes) -> None:
        for kind, payload in self._decoder.feed(message):
            if kind in (frames.OUT, frames.ERR):
                write_all(1 if kind == frames.OUT else 2, payload)
                continue
            words = json.loads(bytes(payload))
            if kind == frames.ERROR:
                raise from_wire(0, words)
            if self._interrupts.by:
                self._status = BY_SIGNAL + self._interrupts.by
            else:
                ended_words(words, self._timeout_ms)
                self._status = exit_status(words)
