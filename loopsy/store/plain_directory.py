"""A directory by its path, for platforms without ``*at`` system calls (Windows).

The checks are the same; between a check and its use somebody else on that machine can exchange a directory for a link,
which only descriptors could close.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat

from loopsy.store.directory import FILE_FLAGS, Directory


class PlainDirectory(Directory):
    """One directory, named by its path."""

    def __init__(self, path: str) -> None:
        super().__init__(-1)
        self.path = path

    @classmethod
    def root(cls) -> Directory:
        """The root. On Windows a drive is its first component: ``/C:/Users``."""
        return cls("/" if os.name == "posix" else "")

    def _at(self, name: str) -> str:
        return os.path.join(self.path, name) if self.path else name + os.sep

    def open_directory(self, name: str) -> Directory:
        path = self._at(name)
        if not stat.S_ISDIR(os.lstat(path).st_mode):
            raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
        return type(self)(path)

    def copy(self) -> Directory:
        return type(self)(self.path)

    def open_file(self, name: str, flags: int, mode: int = 0o600) -> int:
        path = self._at(name)
        if os.path.islink(path):
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
        return os.open(path, flags | FILE_FLAGS | getattr(os, "O_BINARY", 0), mode)

    def status(self, name: str) -> os.stat_result | None:
        try:
            return os.lstat(self._at(name))
        except FileNotFoundError:
            return None

    def is_readable(self, name: str) -> bool:
        return os.access(self._at(name), os.R_OK)

    def own_status(self) -> os.stat_result:
        return os.lstat(self.path or os.sep)

    def target(self, name: str) -> str:
        return os.readlink(self._at(name))

    def names(self) -> list[str]:
        return sorted(os.listdir(self.path or os.sep))

    def make_directory(self, name: str) -> None:
        os.mkdir(self._at(name), 0o777)

    def make_symlink(self, target: str, name: str) -> None:
        os.symlink(target, self._at(name))

    def link_descriptor(self, descriptor: int, name: str) -> None:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    def rename(self, name: str, new: str, to: Directory | None = None) -> None:
        target = to if isinstance(to, PlainDirectory) else self
        os.replace(self._at(name), target._at(new))

    def remove(self, name: str) -> None:
        os.unlink(self._at(name))

    def remove_directory(self, name: str) -> None:
        os.rmdir(self._at(name))

    def set_times(self, name: str, mtime_ns: int) -> None:
        if not os.path.islink(self._at(name)):
            os.utime(self._at(name), ns=(mtime_ns, mtime_ns))

    def set_own(self, mode: int, mtime_ns: int) -> None:
        os.chmod(self.path, mode)
        os.utime(self.path, ns=(mtime_ns, mtime_ns))

    def free(self) -> int:
        return shutil.disk_usage(self.path or os.sep).free

    def sync(self) -> None:
        """There is nothing to do it with."""

    def close(self) -> None:
        """There is nothing open."""
