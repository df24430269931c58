"""The output of a detached job on disk: frames (wire/frames.py) in two files; the older goes when the newer is full.

So the last half of the limit, and up to all of it, is there. Offsets count from the first byte that was ever written.
"""

from __future__ import annotations

import os
from pathlib import Path

SUFFIXES = (".old", ".new")


class KeptOutput:
    """One job's, being written."""

    def __init__(self, path: Path, limit: int) -> None:
        """``path`` without suffix; ``limit``: bytes of both files together.

        :raises OSError: it can't be made.
        """
        self._old, self._new = (path.with_name(path.name + suffix) for suffix in SUFFIXES)
        self._half = limit // 2
        self.begin = 0
        """The offset of the first byte that is there."""
        self._middle = 0
        self.end = 0
        self._descriptor = self._made()
        self.is_broken = False
        """The disk was full: from here on nothing is kept."""

    def _made(self) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0)
        return os.open(self._new, flags, 0o600)

    def write(self, frame: bytes) -> None:
        """A whole frame."""
        if self.is_broken:
            return
        try:
            if self.end - self._middle + len(frame) > self._half and self.end > self._middle:
                self._turn()
            self._write_all(frame)
        except OSError:
            self.is_broken = True

    def _write_all(self, frame: bytes) -> None:
        written = os.write(self._descriptor, frame)
        if written != len(frame):
            os.ftruncate(self._descriptor, self.end - self._middle)
            raise OSError("the disk is full")
        self.end += written

    def _turn(self) -> None:
        """The older one's descriptor is let go only when there is another: until then it is the one to close."""
        os.replace(self._new, self._old)
        self.begin, self._middle = self._middle, self.end
        older, self._descriptor = self._descriptor, self._made()
        os.close(older)

    def close(self) -> None:
        """That was all."""
        os.close(self._descriptor)


def sizes(path: Path) -> tuple[int, int]:
    """Bytes of the older and the newer file."""
    return tuple(_size(path.with_name(path.name + suffix)) for suffix in SUFFIXES)  # type: ignore[return-value]


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def read(path: Path, at: int, most: int) -> bytes:
    """At most ``most`` bytes, from place ``at`` of what is there."""
    parts: list[bytes] = []
    for suffix in SUFFIXES:
        file = path.with_name(path.name + suffix)
        size = _size(file)
        if at < size and most:
            with open(file, "rb") as opened:
                opened.seek(at)
                parts.append(opened.read(min(most, size - at)))
            most -= len(parts[-1])
        at = max(0, at - size)
    return b"".join(parts)


def remove(path: Path) -> None:
    """Both files."""
    for suffix in SUFFIXES:
        path.with_name(path.name + suffix).unlink(missing_ok=True)
