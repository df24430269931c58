"""Reading ``/events`` of a node, for tests."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from typing import Any

from loopsy.testing.nodes import Node
from loopsy.wire import sse
from tests.waiting import PATIENCE_S


class EventStream:
    """An open ``GET /events`` over HTTP/1.0."""

    def __init__(
        self,
        node: Node,
        path: str = "/events",
        *,
        key: str | None = None,
        last_id: str | None = None,
        buffer: int | None = None,
    ) -> None:
        """``buffer``: bytes that the kernel holds for us, where a reader shall be slow."""
        self.socket = socket.socket()
        if buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        self.socket.settimeout(PATIENCE_S)
        self.socket.connect(("127.0.0.1", node.port))
        last = f"Last-Event-ID: {last_id}\r\n" if last_id else ""
        self.socket.sendall(
            f"GET /api/v1{path} HTTP/1.0\r\nAuthorization: Bearer {key or node.key}\r\n{last}\r\n".encode()
        )
        self._file = self.socket.makefile("rb")
        self.status = int(self._file.readline().split()[1])
        self.headers = [line.decode().lower().strip() for line in iter(self._file.readline, b"\r\n")]
        self._decoder = sse.Decoder(last_id=last_id)
        self._events = self._read()

    def __enter__(self) -> EventStream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _read(self) -> Iterator[dict[str, Any]]:
        try:
            while piece := self._file.read1(65536):
                for text in self._decoder.feed(piece):
                    yield json.loads(text)
        except ConnectionResetError:
            return

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return self._events

    def next(self) -> dict[str, Any]:
        """The next event; fails where the stream ends."""
        for event in self._events:
            return event
        raise AssertionError("the stream ended")

    def until(self, kind: str) -> dict[str, Any]:
        """The next of a type."""
        while (event := self.next())["type"] != kind:
            pass
        return event

    @property
    def last_id(self) -> str | None:
        """What it has seen last."""
        return self._decoder.last_id

    def close(self) -> None:
        """Leave."""
        self._file.close()
        self.socket.close()
