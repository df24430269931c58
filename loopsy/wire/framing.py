"""Where in a stream of frames one is, for who reads some of the frames by other means."""

from __future__ import annotations

from collections.abc import Callable


class Framing:
    """Counts along a stream: what comes in pieces, cut anywhere."""

    def __init__(self, size: Callable[[bytes, int], int]) -> None:
        """``size(data, at)``: bytes of the frame that begins there, its head among them; 0: more is needed to know."""
        self._size = size
        self._begun = b""
        """Of a head that is not all here."""
        self._left = 0
        """Bytes that are still to come of the present frame."""
        self.is_between = True
        """Whether a frame begins next. What holds just one whole frame then needs no ``follow``."""

    def follow(self, data: bytes) -> bytes:
        """The next piece; the first byte of each frame of which the head was complete in it."""
        data, self._begun = self._begun + data, b""
        at, firsts = self._left, bytearray()
        while at < len(data):
            size = self._size(data, at)
            if size == 0:
                self._begun, self._left, self.is_between = data[at:], 0, False
                return bytes(firsts)
            firsts.append(data[at])
            at += size
        self._left = at - len(data)
        self.is_between = not self._left
        return bytes(firsts)
