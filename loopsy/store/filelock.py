"""A lock on an open file that the kernel releases when its holder dies. The platforms differ, so they meet here."""

from __future__ import annotations

import os

try:
    import fcntl
except ImportError:  # Windows
    import msvcrt

    def try_lock(descriptor: int) -> bool:
        """Take the lock if nobody has it. (Windows locks bytes: one far beyond the text, so that it can be read.)"""
        try:
            os.lseek(descriptor, 1 << 30, os.SEEK_SET)
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        except OSError:
            return False
        return True

else:

    def try_lock(descriptor: int) -> bool:
        """Take the lock if nobody has it."""
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
