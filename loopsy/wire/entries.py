"""Entries with content: how many small files travel in one stream (docs/decisions/011).

One line of JSON, a ManifestEntry, then as many bytes as its ``size`` says where it is a file; then the next.
"""

from __future__ import annotations

from collections.abc import Iterator

from loopsy.errors import InvalidRequest
from loopsy.wire import codec
from loopsy.wire.transfer import FILE, ManifestEntry

CONTENT_TYPE = "application/x-loopsy-entries"
NDJSON = "application/x-ndjson"
MAX_LINE = 256 * 1024
"""A path has at most 32,768 characters and a target as many, each of at most four bytes."""
SMALL = 1024 * 1024
"""Files up to this are worth batching, and are read whole by whoever sends them, so that size and content agree."""


def head(entry: ManifestEntry) -> bytes:
    """An entry's line. A file's content follows it, unless the entry tells an error."""
    return codec.dump(entry) + b"\n"


def content_length(entry: ManifestEntry) -> int:
    """Bytes that follow an entry's line."""
    return entry.size if entry.type == FILE and entry.error is None else 0


class Decoder:
    """Reads entries from a stream that comes in pieces of any size."""

    def __init__(self) -> None:
        self._line = bytearray()
        self._left = 0

    def feed(self, data: bytes) -> Iterator[ManifestEntry | memoryview]:
        """The entries, each followed by its content in as many pieces as it comes in (none where it is empty).

        :raises InvalidRequest: a line is no entry.
        """
        view, at = memoryview(data), 0
        while at < len(view):
            if self._left:
                piece = view[at : at + self._left]
                self._left -= len(piece)
                at += len(piece)
                yield piece
                continue
            end = data.find(b"\n", at)
            self._line += view[at : end if end >= 0 else len(view)]
            if len(self._line) > MAX_LINE:
                raise InvalidRequest(f"a line has more than {MAX_LINE} bytes")
            if end < 0:
                return
            entry = codec.parse_bytes(ManifestEntry, bytes(self._line))
            self._line.clear()
            self._left = content_length(entry)
            at = end + 1
            yield entry

    def end(self) -> None:
        """The stream is over.

        :raises InvalidRequest: in the middle of an entry.
        """
        if self._left or self._line:
            raise InvalidRequest("the stream ended in the middle of an entry")


class LineDecoder:
    """Reads a manifest (NDJSON) that comes in pieces."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[ManifestEntry]:
        """The entries that are whole.

        :raises InvalidRequest: a line is no entry, or longer than one can be.
        """
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > MAX_LINE or any(len(line) > MAX_LINE for line in lines):
            raise InvalidRequest(f"a line has more than {MAX_LINE} bytes")
        return [codec.parse_bytes(ManifestEntry, line) for line in lines if line]
