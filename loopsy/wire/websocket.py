"""The small frames of WebSockets (RFC 6455, 5.2), written and read without a parser.

A key and its echo are one frame of some bytes each. A whole parser that nothing has used for a moment costs more than
their way through the network (docs/decisions/051): so these are dealt with here, and all others by wsproto.
"""

from __future__ import annotations

from itertools import cycle
from operator import xor

from loopsy.wire.framing import Framing

MESSAGE = 0x82
"""The first byte of a binary message in one frame."""
SMALL = 125
"""Bytes of a payload whose length fits into the second byte."""
MASKED = 0x80
KEY_BYTES = 4
_LONGER = {126: 2, 127: 8}
"""Bytes of the length, where it doesn't fit."""


def small_frame(data: bytes, key: bytes = b"") -> bytes:
    """One binary message of at most ``SMALL`` bytes; a client's with its masking ``key`` of four random bytes."""
    if not key:
        return bytes((MESSAGE, len(data))) + data
    return bytes((MESSAGE, MASKED | len(data), *key, *map(xor, data, cycle(key))))


def masked(data: bytes, key: bytes) -> bytes:
    """Some bytes under a masking key, or without it again."""
    return bytes(map(xor, data, cycle(key)))


class SmallFrames:
    """Takes small messages out of a stream of frames; whoever has one for each side's frames asks it first."""

    def __init__(self, *, are_masked: bool) -> None:
        """``are_masked``: they are a client's."""
        self._are_masked = are_masked
        self._shape = MASKED if are_masked else 0
        self._ahead = 2 + (KEY_BYTES if are_masked else 0)
        self._framing = Framing(_frame_size)
        self._is_amid_message = False

    def take(self, data: bytes) -> bytes | None:
        """The message, where ``data`` is just that. None: it is for the parser, as is the rest of what it begins."""
        if self._framing.is_between and not self._is_amid_message and len(data) >= self._ahead:
            size = data[1] ^ self._shape
            if data[0] == MESSAGE and size <= SMALL and len(data) == self._ahead + size:
                return masked(data[self._ahead :], data[2 : self._ahead]) if self._are_masked else data[2:]
        self.follow(data)
        return None

    def follow(self, data: bytes) -> None:
        """The parser gets this: note how far into which frame it is."""
        for first in self._framing.follow(data):
            if not first & 0x08:  # (control frames come between those of a message)
                self._is_amid_message = not first & 0x80


def _frame_size(data: bytes, at: int) -> int:
    """Bytes of the frame that begins there; 0: more is needed to know."""
    if len(data) < at + 2:
        return 0
    size = data[at + 1] & 0x7F
    longer = _LONGER.get(size, 0)
    if longer:
        if len(data) < at + 2 + longer:
            return 0
        size = int.from_bytes(data[at + 2 : at + 2 + longer], "big")
    return 2 + longer + (KEY_BYTES if data[at + 1] & MASKED else 0) + size
