"""Reading and writing at a place in an open file, and its flags. The platforms differ, so they meet here.

Windows has no reads and writes at a place: there they move the descriptor's position, which nobody else uses, since
each descriptor of ours has one reader or writer at a time.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence

NOFOLLOW: int = getattr(os, "O_NOFOLLOW", 0)
NONBLOCK: int = getattr(os, "O_NONBLOCK", 0)
"""Opening a FIFO or device does not wait."""
DIRECTORY: int = getattr(os, "O_DIRECTORY", 0)
NOCTTY: int = getattr(os, "O_NOCTTY", 0)
PRIVATE: int = getattr(os, "O_CLOEXEC", 0) or getattr(os, "O_NOINHERIT", 0)
"""Programs that are started don't get it."""
RWF_NOWAIT: int = getattr(os, "RWF_NOWAIT", 0)

if hasattr(os, "pread"):

    def read_at(descriptor: int, length: int, at: int) -> bytes:
        """Up to ``length`` bytes."""
        return os.pread(descriptor, length, at)

    def write_at(descriptor: int, data: bytes, at: int) -> int:
        """Write; how much was taken."""
        return os.pwrite(descriptor, data, at)

else:

    def read_at(descriptor: int, length: int, at: int) -> bytes:
        """Up to ``length`` bytes."""
        os.lseek(descriptor, at, os.SEEK_SET)
        return os.read(descriptor, length)

    def write_at(descriptor: int, data: bytes, at: int) -> int:
        """Write; how much was taken."""
        os.lseek(descriptor, at, os.SEEK_SET)
        return os.write(descriptor, data)


if hasattr(os, "preadv"):

    def read_into(descriptor: int, buffer: bytearray | memoryview, at: int) -> int:
        """Fill the buffer as far as there is something; how far."""
        return os.preadv(descriptor, [buffer], at)

    def read_cached(descriptor: int, buffer: bytearray, at: int) -> int:
        """The same, of what is in memory.

        :raises OSError: EAGAIN (the disk would be waited for), or the system can't tell.
        """
        return os.preadv(descriptor, [buffer], at, RWF_NOWAIT)

else:

    def read_into(descriptor: int, buffer: bytearray | memoryview, at: int) -> int:
        """Fill the buffer as far as there is something; how far."""
        data = read_at(descriptor, len(buffer), at)
        buffer[: len(data)] = data
        return len(data)

    def read_cached(descriptor: int, buffer: bytearray, at: int) -> int:
        """Nobody can tell what is in memory.

        :raises OSError: always.
        """
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))


def write_some(descriptor: int, pieces: Sequence[memoryview]) -> int:
    """Write some of the pieces, in order; how many bytes were taken."""
    return os.writev(descriptor, pieces) if hasattr(os, "writev") else os.write(descriptor, pieces[0])


def write_behind(descriptor: int, at: int, length: int) -> None:
    """Ask the kernel to begin writing so much."""
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(descriptor, at, length, os.POSIX_FADV_DONTNEED)


def set_mode(descriptor: int, mode: int) -> None:
    """Set a file's mode, where files have one."""
    if hasattr(os, "fchmod"):
        os.fchmod(descriptor, mode)
