"""Files: opened to be read, or written beside their place and put there whole."""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Callable, Iterable
from hashlib import sha256
from typing import Any

from loopsy.core.transfer import MODE_BITS, Identity, Parts, etag, shown
from loopsy.errors import FileMissing, PathDenied, TransferFailed
from loopsy.store import fileio
from loopsy.store.directory import Directory
from loopsy.store.walk import Place, identity, told

Hash = Any
"""A hash object of hashlib, whose class has no public name."""
PART_PREFIX, PART_SUFFIX = ".loopsy-", ".part"
UNNAMED = getattr(os, "O_TMPFILE", None)
"""A file without a name: if we die, nothing is left of it (Linux, most file systems)."""
LINKS = 1024
"""Buffers that one writev takes."""
BEHIND = 8 * 1024 * 1024
"""Every so many bytes the kernel is asked to begin writing, so that the last fsync finds little left to do."""
_umask: int | None = None


def umask() -> int:
    """The process's. It can only be read by setting it, so that is done once."""
    global _umask
    if _umask is None:
        _umask = os.umask(0o077)
        os.umask(_umask)
    return _umask


def part_name() -> str:
    """A name for a part that nobody can guess."""
    return f"{PART_PREFIX}{secrets.token_hex(16)}{PART_SUFFIX}"


def is_part(name: str) -> bool:
    """Whether it is the name of a part of ours."""
    return name.startswith(PART_PREFIX) and name.endswith(PART_SUFFIX) and len(name) == 45


def tag(status: os.stat_result) -> str:
    """The entity tag of a file."""
    return etag(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


def version(status: os.stat_result) -> str:
    """The same, and the time of the last change to the file itself, which nobody can set back: for what must not be
    believed of a file that was written into and given its old time again."""
    return f"{tag(status)}{status.st_ctime_ns}"


# -- reading ----------------------------------------------------------------------------------------------------------
def open_plain(directory: Directory, name: str, parts: Parts) -> int:
    """A descriptor to read a plain file with. A fifo or a device is not even waited for.

    :raises FileMissing: :raises PathDenied: it is no plain file, or may not be read.
    """
    status = directory.status(name)
    if status is None:
        raise FileMissing(f"{shown(parts)} does not exist")
    check_plain(status, parts)
    try:
        descriptor = directory.open_file(name, os.O_RDONLY | fileio.NONBLOCK)
    except OSError as error:
        raise told(error, parts) from error
    try:
        check_plain(os.fstat(descriptor), parts)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def check_plain(status: os.stat_result, parts: Parts) -> None:
    """:raises TransferFailed: a directory. :raises PathDenied: a fifo, device or socket."""
    if stat.S_ISDIR(status.st_mode):
        raise TransferFailed(f"{shown(parts)} is a directory")
    if not stat.S_ISREG(status.st_mode):
        raise PathDenied(f"{shown(parts)} is no plain file")


def digest(descriptor: int, length: int | None = None, stop: Callable[[], bool] = lambda: False) -> Hash:
    """The SHA-256 of a file's first ``length`` bytes (None: all), as an object that can go on.

    :raises TransferFailed: it is shorter, or ``stop`` said so.
    """
    found, at, buffer = sha256(), 0, memoryview(bytearray(1024 * 1024))
    while length is None or at < length:
        got = fileio.read_into(descriptor, buffer if length is None else buffer[: length - at], at)
        if stop() or (not got and length is not None):
            raise TransferFailed("the file could not be read to its end")
        if not got:
            break
        found.update(buffer[:got])
        at += got
    return found


class OpenFile:
    """A file that is being sent. Its content is what it was when it was opened, or the sending fails."""

    def __init__(self, descriptor: int, parts: Parts) -> None:
        self.fd = descriptor
        self.parts = parts
        self.status = os.fstat(descriptor)
        self.size = self.status.st_size
        self.tag = tag(self.status)

    def read_now(self, at: int, length: int) -> bytes | None:
        """What of this is in memory already; None: the disk would have to be waited for."""
        try:
            buffer = bytearray(length)
            got = fileio.read_cached(self.fd, buffer, at)
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL):
                return None
            raise
        return bytes(memoryview(buffer)[:got]) if got else None

    def read(self, at: int, length: int) -> bytes:
        """Read, and wait for the disk.

        :raises TransferFailed: the file has become shorter.
        """
        data = fileio.read_at(self.fd, length, at)
        if not data:
            raise TransferFailed("the file became shorter while it was sent")
        return data

    def check_unchanged(self) -> None:
        """:raises TransferFailed: it was written to since it was opened."""
        if tag(os.fstat(self.fd)) != self.tag:
            raise TransferFailed("the file changed while it was sent")

    def digest(self) -> str:
        """Its SHA-256."""
        found: str = digest(self.fd).hexdigest()
        self.check_unchanged()
        return found

    def close(self) -> None:
        """Close it. Once more does nothing."""
        descriptor, self.fd = self.fd, -1
        if descriptor >= 0:
            os.close(descriptor)


# -- writing ----------------------------------------------------------------------------------------------------------
class Part:
    """A file on its way to its place. Hashes what is written. Either ``publish`` or ``discard`` ends it."""

    def __init__(self, directory: Directory, descriptor: int, name: str | None) -> None:
        self.directory = directory
        self.fd = descriptor
        self.name = name
        self.size = 0
        self.hash: Hash = sha256()
        self._asked = 0

    @classmethod
    def unnamed(cls, directory: Directory) -> Part:
        """A part that vanishes with us, where the file system can do that. Takes over ``directory``."""
        if UNNAMED is not None:
            try:
                return cls(directory, directory.open_file(".", os.O_RDWR | UNNAMED), None)
            except OSError as error:
                if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT, errno.EINVAL):
                    raise
        return cls.named(directory)

    @classmethod
    def named(cls, directory: Directory) -> Part:
        """A part that outlives us. Takes over ``directory``."""
        name = part_name()
        return cls(directory, directory.open_file(name, os.O_RDWR | os.O_CREAT | os.O_EXCL), name)

    def keep(self, name: str) -> None:
        """Give it that name, so that it outlives us; one that has a name keeps that."""
        if self.name is None:
            self.directory.link_descriptor(self.fd, name)
            self.name = name

    @classmethod
    def again(cls, directory: Directory, name: str, expected: Identity, longest: int) -> Part:
        """A part that an earlier run left, to go on with. Reads it all, to go on hashing.

        :raises FileMissing: it isn't there, or is another file.
        """
        try:
            descriptor = directory.open_file(name, os.O_RDWR | fileio.NONBLOCK)
        except OSError as error:
            raise FileMissing("what had arrived of the upload is gone") from error
        part = cls(directory, descriptor, name)
        try:
            status = os.fstat(descriptor)
            if identity(status) != expected or not stat.S_ISREG(status.st_mode) or status.st_size > longest:
                raise FileMissing("what had arrived of the upload is gone")
            part.hash, part.size = digest(descriptor, status.st_size), status.st_size
            os.fsync(descriptor)  # so that what we are about to call durable is
            os.lseek(descriptor, 0, os.SEEK_END)
        except BaseException:
            os.close(descriptor)
            raise
        return part

    @property
    def identity(self) -> Identity:
        """Which file it is."""
        return identity(os.fstat(self.fd))

    def write(self, chunks: list[bytes]) -> None:
        """Write at the end: all of it, or nothing (a full disk)."""
        try:
            for start in range(0, len(chunks), LINKS):
                write_all(self.fd, chunks[start : start + LINKS])
        except OSError:
            self.rewind(self.size, self.hash)
            raise
        for chunk in chunks:
            self.hash.update(chunk)
        self.size += sum(map(len, chunks))
        if self.size - self._asked >= BEHIND:
            fileio.write_behind(self.fd, self._asked, self.size - self._asked)
            self._asked = self.size

    def rewind(self, size: int, hash_then: Hash) -> None:
        """Forget what came after ``size``."""
        os.ftruncate(self.fd, size)
        os.lseek(self.fd, size, os.SEEK_SET)
        self.size, self.hash, self._asked = size, hash_then, min(self._asked, size)

    @property
    def checksum(self) -> str:
        """The SHA-256 of what was written so far."""
        return str(self.hash.hexdigest())

    def sync(self) -> None:
        """What was written is on disk when this returns."""
        os.fsync(self.fd)

    def publish(self, name: str, mode: int | None, mtime_ns: int | None, *, synced: bool = True) -> os.stat_result:
        """Put it in its place, over what is there (but a directory), and end.

        ``mode`` None: the old file's, or as the umask has it. ``synced`` false: the caller has seen to that.
        """
        fileio.set_mode(self.fd, self._mode(name) if mode is None else mode & MODE_BITS)
        if mtime_ns is not None:
            os.utime(self.fd, ns=(mtime_ns, mtime_ns))
        if synced:
            self.sync()
        self._name_it(name)
        if synced:
            self.directory.sync()
        status = os.fstat(self.fd)
        self.close()
        return status

    def _mode(self, name: str) -> int:
        old = self.directory.status(name)
        if old is not None and stat.S_ISREG(old.st_mode):
            return stat.S_IMODE(old.st_mode) & MODE_BITS
        return 0o666 & ~umask()

    def _name_it(self, name: str) -> None:
        if self.name is None:
            try:
                self.directory.link_descriptor(self.fd, name)
                return
            except FileExistsError:
                temporary = part_name()
                self.directory.link_descriptor(self.fd, temporary)
                self.name = temporary
        self.directory.rename(self.name, name)
        self.name = None

    def discard(self) -> None:
        """Leave nothing, and end. Once more does nothing."""
        if self.name is not None:
            status = self.directory.status(self.name)
            if status is not None and self.fd >= 0 and identity(status) == self.identity:
                self.directory.remove(self.name)
            self.name = None
        self.close()

    def close(self) -> None:
        """Close the descriptors; a named part stays."""
        descriptor, self.fd = self.fd, -1
        if descriptor >= 0:
            os.close(descriptor)
        self.directory.close()


def write_all(descriptor: int, chunks: Iterable[bytes]) -> None:
    """writev until all is written."""
    left = [memoryview(chunk) for chunk in chunks if chunk]
    while left:
        written = fileio.write_some(descriptor, left)
        while left and written >= len(left[0]):
            written -= len(left.pop(0))
        if left and written:
            left[0] = left[0][written:]


def copied(part: Part, directory: Directory) -> Part:
    """A part with the same content in another file system. The old one is over."""
    new = Part.unnamed(directory)
    try:
        os.lseek(part.fd, 0, os.SEEK_SET)
        while piece := os.read(part.fd, 1024 * 1024):
            new.write([piece])
    except BaseException:
        new.discard()
        raise
    finally:
        part.discard()
    return new


def moved(part: Part, place: Place) -> Part:
    """A part as one of ``place``'s directory, which it takes over: as it is, or copied from another file system."""
    if part.identity[0] == place.directory.own_status().st_dev:
        if part.name is None:
            part.directory.close()
            part.directory = place.directory
            return part
        name = part_name()
        try:
            part.directory.rename(part.name, name, place.directory)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
        else:
            part.directory.close()
            part.directory, part.name = place.directory, name
            return part
    return copied(part, place.directory)
