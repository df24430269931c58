"""The records of TLS (RFC 8446, 5.1), of which only the heads are read: whose content is whose is OpenSSL's to know."""

from __future__ import annotations

from loopsy.wire.framing import Framing

HEAD_BYTES = 5
SHORT = 512
"""Of a record with its head: a key or its echo, with what two layers add to them."""


class Records:
    """Follows what comes of one side's records."""

    def __init__(self) -> None:
        self._framing = Framing(_size)

    def is_one(self, data: bytes) -> bool:
        """Whether the next piece of the stream is just one whole record, and a short one."""
        size = len(data)
        if self._framing.is_between and HEAD_BYTES < size <= SHORT and size == HEAD_BYTES + (data[3] << 8) + data[4]:
            return True
        self._framing.follow(data)
        return False


def _size(data: bytes, at: int) -> int:
    """Bytes of the record that begins there; 0: more is needed to know."""
    if len(data) < at + HEAD_BYTES:
        return 0
    return HEAD_BYTES + (data[at + 3] << 8) + data[at + 4]
