"""An open directory. What is named in it can't be exchanged for something elsewhere while we look away.

Where the platform has the ``*at`` system calls, everything goes through a descriptor; elsewhere ``plain_directory``
does the same by path, with the race that this leaves.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import TracebackType

from loopsy.store import fileio

DIRECTORY_FLAGS = os.O_RDONLY | fileio.DIRECTORY | fileio.NOFOLLOW | fileio.PRIVATE
FILE_FLAGS = fileio.NOFOLLOW | fileio.NOCTTY | fileio.PRIVATE
HAS_DESCRIPTORS = os.open in os.supports_dir_fd and os.scandir in os.supports_fd


class Directory:
    """One open directory; close it, or use ``with``."""

    def __init__(self, descriptor: int) -> None:
        self.fd = descriptor

    @classmethod
    def root(cls) -> Directory:
        """The root of the file system."""
        return cls(os.open("/", DIRECTORY_FLAGS))

    def open_directory(self, name: str) -> Directory:
        """A directory in it; never through a symlink."""
        return type(self)(os.open(name, DIRECTORY_FLAGS, dir_fd=self.fd))

    def copy(self) -> Directory:
        """The same directory, to be closed by itself."""
        return type(self)(os.dup(self.fd))

    def open_file(self, name: str, flags: int, mode: int = 0o600) -> int:
        """A descriptor of a file in it; never through a symlink."""
        return os.open(name, flags | FILE_FLAGS, mode, dir_fd=self.fd)

    def status(self, name: str) -> os.stat_result | None:
        """What ``name`` itself is, None where it is nothing."""
        try:
            return os.stat(name, dir_fd=self.fd, follow_symlinks=False)
        except FileNotFoundError:
            return None

    def is_readable(self, name: str) -> bool:
        """Whether we may read ``name`` (a file or directory)."""
        return os.access(name, os.R_OK, dir_fd=self.fd)

    def own_status(self) -> os.stat_result:
        """What this directory is."""
        return os.fstat(self.fd)

    def target(self, name: str) -> str:
        """Where a symlink leads."""
        return os.readlink(name, dir_fd=self.fd)

    def names(self) -> list[str]:
        """What is in it, sorted."""
        with os.scandir(self.fd) as entries:
            return sorted(entry.name for entry in entries)

    def make_directory(self, name: str) -> None:
        """Make a directory, as open as the umask lets it be."""
        os.mkdir(name, 0o777, dir_fd=self.fd)

    def make_symlink(self, target: str, name: str) -> None:
        """Make a symlink."""
        os.symlink(target, name, dir_fd=self.fd)

    def link_descriptor(self, descriptor: int, name: str) -> None:
        """Give a file without a name (O_TMPFILE) one."""
        os.link(f"/proc/self/fd/{descriptor}", name, dst_dir_fd=self.fd, follow_symlinks=True)

    def rename(self, name: str, new: str, to: Directory | None = None) -> None:
        """Rename, over what is there, perhaps into another directory."""
        os.replace(name, new, src_dir_fd=self.fd, dst_dir_fd=(to or self).fd)

    def remove(self, name: str) -> None:
        """Remove a file or symlink."""
        os.unlink(name, dir_fd=self.fd)

    def remove_directory(self, name: str) -> None:
        """Remove an empty directory."""
        os.rmdir(name, dir_fd=self.fd)

    def set_times(self, name: str, mtime_ns: int) -> None:
        """Set the time of a thing itself, not of what it leads to."""
        os.utime(name, ns=(mtime_ns, mtime_ns), dir_fd=self.fd, follow_symlinks=False)

    def set_own(self, mode: int, mtime_ns: int) -> None:
        """Set this directory's mode and time."""
        fileio.set_mode(self.fd, mode)
        os.utime(self.fd, ns=(mtime_ns, mtime_ns))

    def free(self) -> int:
        """Bytes that are left to us on its file system."""
        found = os.fstatvfs(self.fd)
        return found.f_bavail * found.f_frsize

    def sync(self) -> None:
        """Make its names durable."""
        with suppress(OSError):  # some file systems can't, and have nothing better
            os.fsync(self.fd)

    def close(self) -> None:
        """Close it. Once more does nothing."""
        descriptor, self.fd = self.fd, -1
        if descriptor >= 0:
            os.close(descriptor)

    def __enter__(self) -> Directory:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()


def root() -> Directory:
    """The root of the file system, as this platform can hold it."""
    if HAS_DESCRIPTORS:
        return Directory.root()
    from loopsy.store.plain_directory import PlainDirectory

    return PlainDirectory.root()


@contextmanager
def opened(start: Directory, parts: tuple[str, ...]) -> Iterator[Directory]:
    """The directory that lies ``parts`` below ``start``, without following any symlink."""
    at = start.copy()
    try:
        for part in parts:
            below = at.open_directory(part)
            at.close()
            at = below
        yield at
    finally:
        at.close()
