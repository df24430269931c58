"""Reading a framed stream from a node, for tests."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator, Mapping
from typing import Any

from loopsy.testing.nodes import Node
from loopsy.wire import frames


class Stream:
    """An open ``POST …/execute/stream`` over HTTP/1.0: what comes after the head is the body until the end."""

    def __init__(self, node: Node, path: str, request: Mapping[str, Any], key: str | None = None) -> None:
        body = json.dumps(request).encode()
        self.socket = socket.create_connection(("127.0.0.1", node.port), timeout=60)
        self.socket.sendall(
            f"POST /api/v1{path} HTTP/1.0\r\nAuthorization: Bearer {key or node.key}\r\n"
            f"Accept: {frames.CONTENT_TYPE}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n".encode() + body
        )
        self._file = self.socket.makefile("rb")
        self.status = int(self._file.readline().split()[1])
        self.headers: dict[str, str] = {}
        for line in iter(self._file.readline, b"\r\n"):
            name, _, value = line.decode().partition(":")
            self.headers[name.lower()] = value.strip()
        self.job = self.headers.get("x-loopsy-job-id", "")

    def frames(self) -> Iterator[tuple[int, bytes]]:
        """What comes, piece by piece."""
        decoder = frames.Decoder()
        while piece := self._file.read1(65536):
            for kind, data in decoder.feed(piece):
                yield kind, bytes(data)

    def ending(self) -> dict[str, Any] | None:
        """The exit; None when the stream was cut."""
        try:
            return self.rest()[2]
        except OSError:
            return None

    def rest(self) -> tuple[bytes, bytes, dict[str, Any] | None]:
        """All output and the exit (None: the stream was cut)."""
        out, err, end = bytearray(), bytearray(), None
        for kind, data in self.frames():
            if kind == frames.OUT:
                out += data
            elif kind == frames.ERR:
                err += data
            else:
                end = json.loads(data)
        return bytes(out), bytes(err), end

    def close(self) -> None:
        """Leave."""
        self._file.close()
        self.socket.close()
