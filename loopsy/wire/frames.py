"""The framed body of ``POST /execute/stream`` (``Accept: application/vnd.loopsy.frames``): output byte for byte.

A frame is a kind (1 byte), a length (4 bytes, big-endian) and that many bytes. ``OUT`` and ``ERR`` hold output as it
came; ``EXIT`` holds the JSON of an Outcome and ``ERROR`` an error body, and is the last. A stream that ends without one
of those two was cut. Docker's attach stream and SSH's data packets have the same shape.
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct

CONTENT_TYPE = "application/vnd.loopsy.frames"
OUT, ERR, EXIT, ERROR = 1, 2, 3, 4
HEAD = Struct(">BI")
LIMIT = 16 * 1024 * 1024
"""No frame is larger: output comes in pieces of 64 KiB, an error body is small."""


def head(kind: int, length: int) -> bytes:
    """The five bytes before a frame's payload."""
    return HEAD.pack(kind, length)


def encode(kind: int, payload: bytes) -> bytes:
    """A whole frame."""
    return HEAD.pack(kind, len(payload)) + payload


class Decoder:
    """Bytes in any pieces → (kind, payload); payloads are handed on as they come in, so none is copied twice.

    Output frames may be yielded in several parts; ``EXIT`` and ``ERROR`` are always whole.
    """

    def __init__(self) -> None:
        self._head = b""
        self._kind = 0
        self._left = 0
        self._whole = bytearray()

    def feed(self, piece: bytes) -> Iterator[tuple[int, bytes | memoryview]]:
        """The frames, or parts of output frames, that ``piece`` brings.

        :raises ValueError: what comes is not this format.
        """
        view = memoryview(piece)
        at = 0
        while at < len(view):
            if self._left == 0:
                at = self._read_head(view, at)
                if self._left == 0 and not self._head and self._kind in (EXIT, ERROR):
                    yield self._kind, b""
                continue
            part = view[at : at + self._left]
            at += len(part)
            self._left -= len(part)
            if self._left == 0:
                self._head = b""
            if self._kind in (OUT, ERR):
                yield self._kind, part
                continue
            self._whole += part
            if self._left == 0:
                yield self._kind, bytes(self._whole)
                self._whole.clear()

    def _read_head(self, view: memoryview, at: int) -> int:
        need = HEAD.size - len(self._head)
        self._head += bytes(view[at : at + need])
        at += need
        if len(self._head) == HEAD.size:
            self._kind, self._left = HEAD.unpack(self._head)
            if self._kind not in (OUT, ERR, EXIT, ERROR) or self._left > LIMIT:
                raise ValueError(f"not a frame: kind {self._kind}, {self._left} bytes")
            if self._left == 0:
                self._head = b""
        return at
