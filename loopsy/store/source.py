"""A file of ours on its way out: read in order, hashed while it is read, and watched for changes."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from loopsy.core.transfer import Parts, PathPolicy, shown
from loopsy.errors import TransferFailed
from loopsy.store import fileio
from loopsy.store.files import digest, open_plain, tag
from loopsy.store.walk import find, telling

PIECE = 512 * 1024
"""Waking a thread takes as long as reading 64 KiB."""


class Source:
    """One open file. ``stat``'s answer when it was opened is what is sent."""

    def __init__(self, descriptor: int, parts: Parts) -> None:
        self._fd, self._parts = descriptor, parts
        status = os.fstat(descriptor)
        self.size, self.mode, self.mtime_ns = status.st_size, status.st_mode & 0o777, status.st_mtime_ns
        self.tag = tag(status)
        self._hash: Any = digest(descriptor, 0)  # hashlib's objects have no public type
        self._at = 0

    @classmethod
    def open(cls, policy: PathPolicy, parts: Parts) -> Source:
        """Open a plain file.

        :raises PathDenied: :raises FileMissing: :raises TransferFailed: it is a directory.
        """
        with find(policy, parts) as place:
            descriptor = open_plain(place.directory, place.name, place.parts)
        return cls(descriptor, parts)

    def seek(self, offset: int, stop: Callable[[], bool]) -> None:
        """Go on from ``offset``, with what is before it hashed. It is known already where the last attempt ended."""
        if offset != self._at:
            self._hash = digest(self._fd, offset, stop)
            self._at = offset

    def read(self) -> bytes:
        """The next piece; b"" at the end.

        :raises TransferFailed: the file changed meanwhile. Told before the last piece is out, so that the peer never
            takes the mixture for the file.
        """
        with telling(self._parts):
            piece = fileio.read_at(self._fd, min(PIECE, self.size - self._at), self._at)
            if len(piece) < min(PIECE, self.size - self._at):
                raise self._changed("became shorter")
            self._at += len(piece)
            if piece and self._at == self.size and tag(os.fstat(self._fd)) != self.tag:
                raise self._changed("changed")
        self._hash.update(piece)
        return piece

    def _changed(self, how: str) -> TransferFailed:
        return TransferFailed(
            f"{shown(self._parts)} {how} while it was sent; what is there is as it was",
            hint="send it again when nobody writes to it",
        )

    @property
    def checksum(self) -> str:
        """SHA-256 of what was read."""
        return str(self._hash.hexdigest())

    def close(self) -> None:
        """Close it. Once more does nothing."""
        descriptor, self._fd = self._fd, -1
        if descriptor >= 0:
            os.close(descriptor)
