"""``daemon.pid``: the running daemon's process id, in a file that it keeps locked for as long as it lives.

The lock, not the number, says whether a daemon runs: a number may have been given to another process since.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from loopsy.errors import DataDirError
from loopsy.store import fileio
from loopsy.store.filelock import try_lock

TRIES, PAUSE_S = 10, 0.02
"""A daemon that runs keeps the lock for longer than that; a question takes microseconds."""


class PidFile:
    """The daemon's side."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    def acquire(self) -> None:
        """Lock the file and write our id into it.

        :raises DataDirError: another daemon holds it.
        """
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | fileio.NOFOLLOW, 0o600)
        except OSError as error:
            raise DataDirError(f"{self._path} can't be used: {error.strerror}") from None
        if not self._lock(descriptor):
            holder = fileio.read_at(descriptor, 32, 0).decode("ascii", "replace").strip()
            os.close(descriptor)
            raise DataDirError(f"a daemon runs in {self._path.parent} already (pid {holder or 'unknown'})")
        os.ftruncate(descriptor, 0)
        fileio.write_at(descriptor, f"{os.getpid()}\n".encode(), 0)
        self._descriptor = descriptor

    def _lock(self, descriptor: int) -> bool:
        """Whoever asks whether a daemon runs holds the lock for a moment too (``running``)."""
        for _ in range(TRIES):
            if try_lock(descriptor):
                return True
            time.sleep(PAUSE_S)
        return False

    def release(self) -> None:
        """Empty the file and let the lock go. The file stays: removing a locked file would let two daemons in."""
        if self._descriptor is not None:
            os.ftruncate(self._descriptor, 0)
            os.close(self._descriptor)
            self._descriptor = None


def running(path: Path) -> int | None:
    """The process id of the daemon that holds the file now, or None."""
    try:
        descriptor = os.open(path, os.O_RDWR | fileio.NOFOLLOW)
    except OSError:
        return None
    try:
        if try_lock(descriptor):
            return None
        text = fileio.read_at(descriptor, 32, 0).decode("ascii", "replace").strip()
        return int(text) if text.isdigit() else None
    finally:
        os.close(descriptor)
