"""A command's output: enough of it in memory to show, and all of it in a file once a model can't take the whole."""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import IO

KEEP = 64 * 1024
"""Bytes kept of the beginning and of the end: more than is ever shown."""
MAX_FILE = 256 * 1024 * 1024
"""Bytes of an output that are saved."""
MAX_FILES, MAX_TOTAL = 200, 10 * 1024 * 1024 * 1024
"""Files and bytes saved at once; older ones go. Two files for a command on one machine."""


class Outputs:
    """The files, in a directory that only this user can read. It lives as long as the server."""

    def __init__(self) -> None:
        self._directory: Path | None = None
        self._number = 0

    def open(self, name: str) -> tuple[IO[bytes], Path]:
        """A new file.

        :raises OSError: there is no place for it.
        """
        if self._directory is None:
            self._directory = Path(tempfile.mkdtemp(prefix="loopsy-output-"))
        self._number += 1
        path = self._directory / f"{self._number:04d}.{name}"
        file = os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")
        left = MAX_TOTAL
        for number, old in enumerate(sorted(self._directory.iterdir(), reverse=True)):
            left -= old.stat().st_size
            if number >= MAX_FILES or left < 0:
                old.unlink()
        return file, path

    def remove(self) -> None:
        """All of them."""
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)
            self._directory = None


class Capture:
    """What one of a command's two outputs has been so far. Written by one thread, its counts read by another."""

    def __init__(self, outputs: Outputs, name: str, most: int = MAX_FILE) -> None:
        """``most``: bytes of it that are saved."""
        self._most = most
        self._outputs, self._name = outputs, name
        self._file: IO[bytes] | None = None
        self._begun = False
        self.size = 0
        """Bytes."""
        self.lines = 0
        self.path: Path | None = None
        """Where all of it is, once it is too large for memory, or ``save`` was called."""
        self.saved = 0
        """Bytes in the file: fewer than ``size`` where it was too large, or the disk was full."""
        self.head = bytearray()
        self._tail = bytearray()

    @property
    def tail(self) -> bytes:
        """The last bytes, as far as they aren't in ``head``."""
        return bytes(self._tail[-KEEP:])

    @property
    def gap(self) -> int:
        """Bytes between head and tail."""
        return self.size - len(self.head) - len(self.tail)

    def add(self, data: bytes | memoryview) -> None:
        """More of it."""
        piece = bytes(data)
        self.size += len(piece)
        self.lines += piece.count(b"\n")
        if self.size > KEEP:
            self._begin()
        self._write(piece)
        room = KEEP - len(self.head)
        self.head += piece[:room]
        self._tail += piece[max(room, 0) :]
        if len(self._tail) > 16 * KEEP:
            del self._tail[:-KEEP]

    def save(self) -> None:
        """See to it that there is a file, and that all is in it."""
        self._begin()
        self._close()

    def _begin(self) -> None:
        """Once: later the beginning may be gone from memory."""
        if self._begun:
            return
        self._begun = True
        with suppress(OSError):
            self._file, self.path = self._outputs.open(self._name)
            self._write(bytes(self.head))

    def _write(self, piece: bytes) -> None:
        if self._file is None:
            return
        try:
            self.saved += self._file.write(piece[: self._most - self.saved])
        except OSError:
            self._close()

    def _close(self) -> None:
        if self._file is not None:
            with suppress(OSError):
                self._file.close()
            self._file = None
