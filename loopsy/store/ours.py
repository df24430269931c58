"""Trees of ours, on their way out: listed, and read without ever following a symlink below their root."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256
from typing import Any

from attrs import evolve

from loopsy.core.transfer import Parts, PathPolicy, below
from loopsy.core.trees import excluded
from loopsy.errors import FileMissing, InvalidRequest, LoopsyError, TransferFailed
from loopsy.store.directory import Directory, opened
from loopsy.store.files import check_plain, digest, is_part, open_plain
from loopsy.store.source import Source
from loopsy.store.walk import find, identity, telling
from loopsy.wire import entries as wire
from loopsy.wire.transfer import (
    DIRECTORY,
    FILE,
    OTHER,
    SYMLINK,
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
        if place.name == ".":
            return place.directory.copy()
        return place.open_directory()


def manifest(
    policy: PathPolicy, root: Parts, checksum: bool, exclude: Sequence[str], stop: Callable[[], bool]
) -> list[ManifestEntry]:
    """A tree, parents before children; empty where there is nothing. What can't be read has ``error``.

    :raises PathDenied: :raises TransferFailed: it is no directory, or ``stop`` said so.
    """
    try:
        with find(policy, root) as place:
            parts = place.parts
            top = open_root(policy, root)
    except FileMissing:
        return []
    listing = _Listing(policy, checksum, exclude, stop)
    with top:
        status = top.own_status()
        return [_entry("", DIRECTORY, status), *listing.below(top, parts, "")]


def _entry(path: str, kind: str, status: os.stat_result) -> ManifestEntry:
    size = status.st_size if kind == FILE else 0
    return ManifestEntry(
        path=path, type=kind, size=size, mtime_ns=status.st_mtime_ns, mode=stat.S_IMODE(status.st_mode)
    )


class _Listing:
    """One walk over a tree."""

    def __init__(self, policy: PathPolicy, checksum: bool, exclude: Sequence[str], stop: Callable[[], bool]) -> None:
        self._policy, self._checksum, self._exclude, self._stop = policy, checksum, exclude, stop

    def below(self, directory: Directory, parts: Parts, path: str) -> Iterator[ManifestEntry]:
        """What is in a directory, and below."""
        for name in directory.names():
            if self._stop():
                raise TransferFailed("it was cancelled")
            inside = f"{path}/{name}" if path else name
            if is_part(name) or (self._exclude and excluded(inside, self._exclude)):
                continue
            yield from self._one(directory, (*parts, name), inside)

    def _one(self, directory: Directory, parts: Parts, path: str) -> Iterator[ManifestEntry]:
        name = parts[-1]
        status = directory.status(name)
        if status is None:
            return
        if stat.S_ISREG(status.st_mode):
            yield self._file(directory, parts, _entry(path, FILE, status))
        elif stat.S_ISDIR(status.st_mode):
            yield from self._directory(directory, parts, _entry(path, DIRECTORY, status), identity(status))
        elif stat.S_ISLNK(status.st_mode):
            yield evolve(_entry(path, SYMLINK, status), target=directory.target(name))
        else:
            yield _entry(path, OTHER, status)

    def _file(self, directory: Directory, parts: Parts, entry: ManifestEntry) -> ManifestEntry:
        if not self._policy.admits(parts):
            return evolve(entry, error="denied here (transfer.deniedPaths)")
        if not self._checksum:
            return entry
        try:
            with open(open_plain(directory, parts[-1], parts), "rb") as file:
                found: Any = digest(file.fileno(), None, self._stop)
                return evolve(entry, checksum=found.hexdigest())
        except LoopsyError as error:
            return evolve(entry, error=error.message)

    def _directory(
        self, above: Directory, parts: Parts, entry: ManifestEntry, which: tuple[int, int]
    ) -> Iterator[ManifestEntry]:
        if not self._policy.admits(parts) or which in self._policy.denied_identities:
            yield evolve(entry, error="denied here (transfer.deniedPaths)")
            return
        try:
            directory = above.open_directory(parts[-1])
        except OSError as error:
            yield evolve(entry, error=(error.strerror or str(error)).lower())
            return
        with directory:
            yield entry
            yield from self.below(directory, parts, entry.path)


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
        descriptor = directory.open_file(path[-1], os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
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
