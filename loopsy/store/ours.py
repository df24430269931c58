"""Trees of ours, on their way out: listed, and read without ever following a symlink below their root."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Sequence
from hashlib import sha256

from attrs import evolve

from loopsy.core.transfer import Parts, PathPolicy, below
from loopsy.errors import FileMissing, InvalidRequest, LoopsyError, TransferFailed
from loopsy.store import fileio, trees
from loopsy.store.directory import Directory, opened
from loopsy.store.files import check_plain, open_plain
from loopsy.store.source import Source
from loopsy.store.walk import find, telling
from loopsy.wire import entries as wire
from loopsy.wire.transfer import (
    FILE,
    EntryFault,
    ManifestEntry,
    name_from_wire,
    name_to_wire,
)

PIECE = 256 * 1024
"""Small files are gathered to so many bytes before they leave."""


def from_wire(entry: ManifestEntry) -> ManifestEntry:
    """The same entry with its path and target as the file system has them.

    :raises InvalidRequest: it could have no such target.
    """
    path, target = name_from_wire(entry.path), entry.target
    if path is entry.path and target is None:
        return entry
    target = None if target is None else name_from_wire(target)
    if "\0" in (target or ""):
        raise InvalidRequest(f"{path!r} leads to a name with a NUL")
    return evolve(entry, path=path, target=target)


def path_from_wire(path: str) -> str:
    """The same for a path."""
    return name_from_wire(path)


def to_wire(entry: ManifestEntry) -> ManifestEntry:
    """The inverse of ``from_wire``."""
    path = name_to_wire(entry.path)
    if path is entry.path and entry.target is None:
        return entry
    return evolve(entry, path=path, target=None if entry.target is None else name_to_wire(entry.target))


# -- listing ----------------------------------------------------------------------------------------------------------
def open_root(policy: PathPolicy, root: Parts) -> Directory:
    """The directory that a tree lies in.

    :raises FileMissing: :raises PathDenied: :raises TransferFailed: it is no directory.
    """
    with find(policy, root) as place:
        return place.open_directory()


def manifest(
    policy: PathPolicy, root: Parts, checksum: bool, exclude: Sequence[str], stop: Callable[[], bool]
) -> list[ManifestEntry]:
    """A tree, parents before children; empty where there is nothing. What can't be read has ``error``.

    :raises PathDenied: :raises TransferFailed: it is no directory, or ``stop`` said so.
    """
    try:
        with find(policy, root) as place:
            place.open_directory().close()
            survey = trees.Survey(
                policy=policy, parts=place.parts, checksum=checksum, exclude=tuple(exclude), stop=stop
            )
            found = list(map(from_wire, trees.manifest(place.directory.copy(), place.name, survey)))
    except FileMissing:
        return []
    if stop():
        raise TransferFailed("it was cancelled")
    return found


# -- reading ----------------------------------------------------------------------------------------------------------
def source(policy: PathPolicy, root: Parts, path: Parts) -> Source:
    """A file of a tree, to be sent by itself.

    :raises FileMissing: :raises PathDenied: it isn't there any more, or is something else.
    """
    with open_root(policy, root) as top, telling((*root, *path)), opened(top, path[:-1]) as directory:
        return Source(open_plain(directory, path[-1], (*root, *path)), (*root, *path))


class Content:
    """Entries with content, as a stream: small files are read whole, so that size and content agree."""

    def __init__(self, policy: PathPolicy, root: Parts, entries: Sequence[ManifestEntry]) -> None:
        self._policy, self._root = policy, root
        self._entries = iter(entries)
        self._top: Directory | None = None
        self._at: tuple[Parts, Directory] | None = None
        self.bytes = 0
        """Of the files' content that were read."""
        self.faults: list[EntryFault] = []

    def read(self) -> bytes:
        """Some entries; b"" at the end."""
        pieces: list[bytes] = []
        size = 0
        for entry in self._entries:
            try:
                pieces += self._pieces(entry)
            except (LoopsyError, OSError) as error:
                told = error.message if isinstance(error, LoopsyError) else (error.strerror or str(error)).lower()
                self.faults.append(EntryFault(path=entry.path, error=told, code=4005))
                continue
            size += len(pieces[-1])
            if size >= PIECE:
                break
        return b"".join(pieces)

    def _pieces(self, entry: ManifestEntry) -> tuple[bytes, ...]:
        if entry.type != FILE:
            return (wire.head(to_wire(entry)),)
        data, status = self._file(below(entry.path))
        self.bytes += len(data)
        read = evolve(
            to_wire(entry),
            size=len(data),
            mode=stat.S_IMODE(status.st_mode),
            mtime_ns=status.st_mtime_ns,
            checksum=sha256(data).hexdigest(),
        )
        return wire.head(read), data

    def _file(self, path: Parts) -> tuple[bytes, os.stat_result]:
        directory = self._directory(path[:-1])
        descriptor = directory.open_file(path[-1], os.O_RDONLY | fileio.NONBLOCK)
        try:
            status = os.fstat(descriptor)
            check_plain(status, (*self._root, *path))
            data = os.read(descriptor, status.st_size)
        finally:
            os.close(descriptor)
        if len(data) != status.st_size:
            raise TransferFailed("became shorter while it was read")
        return data, status

    def _directory(self, path: Parts) -> Directory:
        """The directory of a file; mostly the same as of the last one."""
        if self._at is not None:
            if self._at[0] == path:
                return self._at[1]
            self._at[1].close()
            self._at = None
        if self._top is None:
            self._top = open_root(self._policy, self._root)
        with opened(self._top, path) as directory:
            self._at = (path, directory.copy())
        return self._at[1]

    def close(self) -> None:
        """Let go of the directories."""
        if self._at is not None:
            self._at[1].close()
        if self._top is not None:
            self._top.close()
