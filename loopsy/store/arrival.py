"""A tree of ours, on its way in: everything lies below its root, and no symlink below it is followed."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256

from loopsy.core.transfer import MODE_BITS, Parts, PathPolicy, below
from loopsy.core.uploads import check_content
from loopsy.errors import InvalidRequest, LoopsyError, StorageFull, TransferFailed
from loopsy.store import fileio
from loopsy.store.directory import Directory, opened
from loopsy.store.files import Part, part_name
from loopsy.store.walk import Place, find, telling
from loopsy.wire import entries as wire
from loopsy.wire.transfer import DIRECTORY, FILE, SYMLINK, EntryFault, ManifestEntry, name_from_wire

TOLD = 1000
"""Faults that are remembered."""


class Arrival:
    """One tree. Its root is made where it is missing."""

    def __init__(self, policy: PathPolicy, root: Parts) -> None:
        self._policy = policy
        with find(policy, root, make=True) as place, telling(place.parts):
            if place.status is None:
                place.directory.make_directory(place.name)
            self._root = place.parts
            self._top = place.directory.open_directory(place.name)
        self._at: tuple[Parts, Directory] | None = None
        self._wanted: set[str] = set()
        self._decoder = wire.Decoder()
        self._entry: ManifestEntry | None = None
        self._content: list[bytes] = []
        self._left = 0
        self._bytes = self._files = 0
        self.done: set[str] = set()
        self.faults: list[EntryFault] = []

    # -- directories ------------------------------------------------------------------------------------------------
    def _directory(self, path: Parts) -> Directory:
        """A directory of the tree; mostly the same as the last."""
        if self._at is not None:
            if self._at[0] == path:
                return self._at[1]
            self._at[1].close()
            self._at = None
        with opened(self._top, path) as directory:
            self._at = (path, directory.copy())
        return self._at[1]

    def _above(self, path: str) -> tuple[Directory, str]:
        """The directory that a thing lies in, and its name there.

        :raises PathDenied: it leaves the tree, or lies where nobody may write.
        """
        parts = below(path)
        self._policy.check((*self._root, *parts))
        return self._directory(parts[:-1]), parts[-1]

    def place(self, parts: Parts) -> Place:
        """Where a large file goes."""
        whole = (*self._root, *parts)
        self._policy.check(whole)
        with telling(whole), opened(self._top, parts[:-1]) as directory:
            return Place(directory.copy(), parts[-1], whole, directory.status(parts[-1]))

    @contextmanager
    def _telling(self, path: str) -> Iterator[None]:
        """What fails for one path doesn't stop the others, but for a full disk."""
        try:
            with telling((*self._root, *path.split("/"))):
                yield
        except StorageFull:
            raise
        except LoopsyError as error:
            if len(self.faults) < TOLD:
                self.faults.append(EntryFault(path=path, error=error.message, code=error.code))

    # -- what needs no content --------------------------------------------------------------------------------------
    def remove(self, entries: Sequence[ManifestEntry], excluding: bool) -> None:
        """Remove things, children first. ``excluding``: a directory may hold what isn't looked at, and stays."""
        for entry in entries:
            with self._telling(entry.path):
                directory, name = self._above(entry.path)
                if entry.type != DIRECTORY:
                    directory.remove(name)
                    continue
                try:
                    directory.remove_directory(name)
                except OSError as error:
                    if not excluding or error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                        raise
        self._let_go()

    def make(self, entries: Sequence[ManifestEntry]) -> int:
        """Make directories and symlinks; returns how many symlinks."""
        made = 0
        for entry in entries:
            with self._telling(entry.path):
                if entry.type == DIRECTORY and entry.path:
                    directory, name = self._above(entry.path)
                    if directory.status(name) is None:
                        directory.make_directory(name)
                elif entry.type == SYMLINK and entry.target:
                    directory, name = self._above(entry.path)
                    self._link(directory, name, entry)
                    made += 1
        return made

    def _link(self, directory: Directory, name: str, entry: ManifestEntry) -> None:
        temporary = part_name()
        directory.make_symlink(entry.target or "", temporary)
        try:
            directory.set_times(temporary, entry.mtime_ns)
            directory.rename(temporary, name)
        except BaseException:
            directory.remove(temporary)
            raise

    def mend(self, entries: Sequence[ManifestEntry]) -> None:
        """Set modes and times."""
        for entry in entries:
            with self._telling(entry.path):
                if entry.type == DIRECTORY:
                    parts = below(entry.path)
                    self._policy.check((*self._root, *parts))
                    self._directory(parts).set_own(entry.mode & MODE_BITS, entry.mtime_ns)
                else:
                    self._mend_file(entry)
        self._let_go()

    def _mend_file(self, entry: ManifestEntry) -> None:
        directory, name = self._above(entry.path)
        descriptor = directory.open_file(name, os.O_RDONLY | fileio.NONBLOCK)
        try:
            fileio.set_mode(descriptor, entry.mode & MODE_BITS)
            os.utime(descriptor, ns=(entry.mtime_ns, entry.mtime_ns))
        finally:
            os.close(descriptor)

    # -- small files, in a stream -----------------------------------------------------------------------------------
    def begin(self, paths: Sequence[str]) -> None:
        """These will come."""
        self._wanted = set(paths)
        self._decoder = wire.Decoder()
        self._entry, self._left = None, 0
        self._content.clear()

    def take(self, pieces: Sequence[bytes]) -> None:
        """Some of the stream.

        :raises InvalidRequest: what comes was not asked for. :raises StorageFull:
        """
        for piece in pieces:
            for item in self._decoder.feed(piece):
                if isinstance(item, ManifestEntry):
                    self._head(item)
                else:
                    self._content.append(bytes(item))
                    self._left -= len(item)
                if self._entry is not None and self._left == 0:
                    self._finish(self._entry)

    def _head(self, entry: ManifestEntry) -> None:
        path = name_from_wire(entry.path)
        if path not in self._wanted or entry.type != FILE:
            raise InvalidRequest(f"the peer sent {path!r}, which was not asked for")
        if entry.size > wire.SMALL:
            raise InvalidRequest(f"the peer sent {path!r} of {entry.size} bytes among small files")
        self._wanted.discard(path)
        self._content.clear()
        self._entry, self._left = entry, wire.content_length(entry)

    def _finish(self, entry: ManifestEntry) -> None:
        path, self._entry = name_from_wire(entry.path), None
        with self._telling(path):
            if entry.error is not None:
                raise TransferFailed(entry.error)
            content = b"".join(self._content)
            if entry.checksum is not None:
                check_content(entry.checksum, sha256(content).hexdigest())
            directory, name = self._above(path)
            self._write(directory, name, entry, content)
            self._files += 1
        self._bytes += wire.content_length(entry)
        self.done.add(path)

    def _write(self, directory: Directory, name: str, entry: ManifestEntry, content: bytes) -> None:
        part = Part.unnamed(directory.copy())
        try:
            part.write([content])
            part.publish(name, entry.mode, entry.mtime_ns, synced=False)
        except BaseException:
            part.discard()
            raise

    def end(self) -> None:
        """The stream is over.

        :raises InvalidRequest: in the middle of something.
        """
        self._decoder.end()
        for path in self._wanted:
            with self._telling(path):
                raise TransferFailed("the peer did not send it")

    def news(self) -> tuple[int, int]:
        """Bytes and files since the last time."""
        found = self._bytes, self._files
        self._bytes = self._files = 0
        return found

    def _let_go(self) -> None:
        if self._at is not None:
            self._at[1].close()
            self._at = None

    def close(self) -> None:
        """Let go of the directories."""
        self._let_go()
        self._top.close()
