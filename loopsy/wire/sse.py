"""Server-sent events, as the WHATWG HTML standard describes ``text/event-stream``: writing, and incremental reading."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

CONTENT_TYPE = "text/event-stream"


def encode(event: Mapping[str, Any], event_id: str | None = None) -> bytes:
    """One event, as JSON."""
    return frame(json.dumps(event, ensure_ascii=False, separators=(",", ":")), event_id)


def frame(text: str, event_id: str | None = None) -> bytes:
    """One event of JSON text: a ``data:`` line (JSON never holds a bare line break) and a blank line. Half characters,
    which UTF-8 can't hold, become their JSON escape."""
    head = f"id: {event_id}\n" if event_id is not None else ""
    return f"{head}data: {text}\n\n".encode("utf-8", "backslashreplace")


def still_there(event_id: str) -> bytes:
    """A sign of life: a comment, and how far the reader is though it was told nothing (no event, by the standard)."""
    return f": still there\nid: {event_id}\n\n".encode()


class Decoder:
    """Bytes in any pieces → the data of each event as text; ``last_id`` is that event's meanwhile.

    ``limit`` bounds one event's bytes: 16 MiB is far above any event that a node sends (64 KiB of output, in base64).
    """

    def __init__(self, limit: int = 16 * 1024 * 1024, last_id: str | None = None) -> None:
        self.last_id = self._id = last_id
        """The id that stood last before the end of an event: what a reader that comes back says it has seen."""
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
            if not line:
                yield from self._ended()
            elif line.startswith(b"id:"):
                self._id = line[3:].removeprefix(b" ").decode("utf-8", "replace")
            elif line.startswith(b"data:"):
                self._data.append(line[5:].removeprefix(b" ").decode("utf-8", "replace"))
                self._size += len(line)
                self._check(self._size)
        self._check(self._size + len(self._rest))

    def _ended(self) -> Iterator[str]:
        self.last_id = self._id
        if self._data:
            data, self._data, self._size = self._data, [], 0
            yield "\n".join(data)

    def _check(self, size: int) -> None:
        if size > self._limit:
            raise ValueError(f"an event is larger than {self._limit} bytes")
