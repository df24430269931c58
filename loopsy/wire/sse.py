"""Server-sent events, as the WHATWG HTML standard describes ``text/event-stream``: writing, and incremental reading."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

CONTENT_TYPE = "text/event-stream"


def encode(event: Mapping[str, Any], event_id: int | None = None) -> bytes:
    """One event: its JSON on a ``data:`` line (JSON never holds a bare line break) and a blank line."""
    head = f"id: {event_id}\n" if event_id is not None else ""
    return f"{head}data: {json.dumps(event, ensure_ascii=False, separators=(',', ':'))}\n\n".encode()


class Decoder:
    """Bytes in any pieces → the data of each event as text.

    ``limit`` bounds one event's bytes: 16 MiB is far above any event that a node sends (64 KiB of output, in base64).
    """

    def __init__(self, limit: int = 16 * 1024 * 1024) -> None:
        self._rest = b""
        self._data: list[str] = []
        self._size = 0
        self._limit = limit

    def feed(self, piece: bytes) -> Iterator[str]:
        """The events that ``piece`` completes.

        :raises ValueError: one event is larger than the limit.
        """
        *lines, self._rest = (self._rest + piece).replace(b"\r\n", b"\n").split(b"\n")
        for line in lines:
            if not line and self._data:
                yield "\n".join(self._data)
                self._data, self._size = [], 0
            elif line.startswith(b"data:"):
                self._data.append(line[5:].removeprefix(b" ").decode("utf-8", "replace"))
                self._size += len(line)
                self._check(self._size)
        self._check(self._size + len(self._rest))

    def _check(self, size: int) -> None:
        if size > self._limit:
            raise ValueError(f"an event is larger than {self._limit} bytes")
