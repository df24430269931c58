"""Trees: listed, walked into a manifest, read and written in batches. All by descriptors, never through a symlink."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from functools import partial

from attrs import frozen

from loopsy.core.transfer import Parts, PathPolicy, below
from loopsy.core.trees import excluded
from loopsy.errors import FileTooLarge, LoopsyError
from loopsy.store.directory import Directory
from loopsy.store.files import digest, is_part, open_plain
from loopsy.store.walk import descend, identity, told
from loopsy.wire import entries as wire_entries
from loopsy.wire.transfer import DIRECTORY, FILE, OTHER, SYMLINK, FileEntry, ManifestEntry, name_from_wire, name_to_wire

PIECE = 64 * 1024
"""Bytes of a stream of lines that are handed on at a time."""


def kind(status: os.stat_result) -> str:
    """What a thing is, in the words of the wire."""
    if stat.S_ISREG(status.st_mode):
        return FILE
    if stat.S_ISDIR(status.st_mode):
        return DIRECTORY
    return SYMLINK if stat.S_ISLNK(status.st_mode) else OTHER


def words(error: Exception) -> str:
    """Why something can't be read, short."""
    return (error.strerror or str(error)).lower() if isinstance(error, OSError) else str(error)


# -- one directory ----------------------------------------------------------------------------------------------------
def listing(directory: Directory, parts: Parts, policy: PathPolicy) -> Iterator[FileEntry]:
    """What is in a directory, by name. Closes it."""
    with directory:
        try:
            names = directory.names()
        except OSError as error:
            raise told(error, parts) from error
        for name in names:
            yield _listed(directory, name, (*parts, name), policy)


def _listed(directory: Directory, name: str, parts: Parts, policy: PathPolicy) -> FileEntry:
    make = partial(FileEntry, name=name_to_wire(name), path=name_to_wire("/" + "/".join(parts)))
    try:
        status = directory.status(name)
        if status is None:
            return make(type=OTHER, size=0, modified=0, error="it has just gone")
        what = kind(status)
        return make(
            type=what,
            size=status.st_size,
            modified=status.st_mtime_ns // 1_000_000,
            mode=stat.S_IMODE(status.st_mode),
            target=name_to_wire(directory.target(name)) if what == SYMLINK else None,
            error=_hidden(directory, name, parts, policy, status),
        )
    except OSError as error:
        return make(type=OTHER, size=0, modified=0, error=words(error))


def _hidden(directory: Directory, name: str, parts: Parts, policy: PathPolicy, status: os.stat_result) -> str | None:
    """Why a thing that is there can't be had."""
    if not policy.admits(parts) or identity(status) in policy.denied_identities:
        return "denied"
    if kind(status) in (FILE, DIRECTORY) and not directory.is_readable(name):
        return "permission denied"
    return None


# -- a whole tree -----------------------------------------------------------------------------------------------------
@frozen(kw_only=True)
class Survey:
    """What a manifest shall tell."""

    policy: PathPolicy
    parts: Parts
    """Of the root, resolved."""
    checksum: bool = False
    exclude: tuple[str, ...] = ()
    depth: int | None = None
    """So many levels below the root; None: all."""
    remembered: Callable[[os.stat_result], str | None] = lambda _: None
    """The checksum of a file whose content was hashed before."""
    stop: Callable[[], bool] = lambda: False
    """Asked between two pieces of a large file: whether nobody waits any longer."""


def manifest(directory: Directory, name: str, survey: Survey) -> Iterator[ManifestEntry]:
    """The tree at ``name``, the root first, parents before children. Closes ``directory``.

    Only one directory is open at a time, and only the names of those still to be visited are kept.
    """
    with directory:
        root = _entry(directory, name, (), survey)
        yield root
        if root.type != DIRECTORY or root.error is not None or survey.depth == 0:
            return
        pending: list[Parts] = [()]
        while pending and not survey.stop():
            at = pending.pop()
            inside: list[Parts] = []
            for entry, parts in _level(directory, name, at, survey):
                yield entry
                deeper = survey.depth is None or len(parts) < survey.depth
                if entry.type == DIRECTORY and entry.error is None and parts != at and deeper:
                    inside.append(parts)
            pending.extend(reversed(inside))


def _level(directory: Directory, name: str, at: Parts, survey: Survey) -> Iterator[tuple[ManifestEntry, Parts]]:
    """What is in one directory. Where it can't be read after all, its entry comes again, with the error."""
    try:
        with descend(survey.policy, directory, survey.parts[:-1], (name, *at)) as here:
            for child in here.names():
                parts = (*at, child)
                if is_part(child) or excluded("/".join(parts), survey.exclude):
                    continue
                yield _entry(here, child, parts, survey), parts
    except (OSError, LoopsyError) as error:
        yield ManifestEntry(path=name_to_wire("/".join(at)), type=DIRECTORY, error=words(error)), at


def _entry(directory: Directory, name: str, parts: Parts, survey: Survey) -> ManifestEntry:
    make = partial(ManifestEntry, path=name_to_wire("/".join(parts)))
    try:
        status = directory.status(name)
        if status is None:
            return make(type=OTHER, error="it has just gone")
        what = kind(status)
        error = _hidden(directory, name, (*survey.parts, *parts), survey.policy, status)
        return make(
            type=what,
            size=status.st_size if what == FILE else 0,
            mtime_ns=status.st_mtime_ns,
            mode=stat.S_IMODE(status.st_mode),
            target=name_to_wire(directory.target(name)) if what == SYMLINK else None,
            checksum=_checksum(directory, name, status, survey) if what == FILE and error is None else None,
            error=error,
        )
    except (OSError, LoopsyError) as error:
        return make(type=OTHER, error=words(error))


def _checksum(directory: Directory, name: str, status: os.stat_result, survey: Survey) -> str | None:
    known = survey.remembered(status)
    if known is not None or not survey.checksum:
        return known
    descriptor = open_plain(directory, name, (name,))
    try:
        found: str = digest(descriptor, None, survey.stop).hexdigest()
        return found
    finally:
        os.close(descriptor)


# -- many small files -------------------------------------------------------------------------------------------------
def contents(root: Directory, parts: Parts, policy: PathPolicy, paths: tuple[str, ...]) -> Iterator[bytes]:
    """Files below ``root`` as entries with content, in the order asked. Closes ``root``."""
    with root:
        for path in map(name_from_wire, paths):
            try:
                head, data = _whole(root, parts, policy, path)
            except (OSError, LoopsyError) as error:
                head, data = ManifestEntry(path=name_to_wire(path), type=FILE, error=words(error)), b""
            yield wire_entries.head(head)
            if data:
                yield data


def _whole(root: Directory, parts: Parts, policy: PathPolicy, path: str) -> tuple[ManifestEntry, bytes]:
    inside = below(path)
    if not inside:
        raise FileTooLarge("the root itself is no entry to fetch")
    policy.check((*parts, *inside))
    with descend(policy, root, parts, inside[:-1]) as directory:
        descriptor = open_plain(directory, inside[-1], (*parts, *inside))
    try:
        data = os.read(descriptor, wire_entries.SMALL + 1)
        if len(data) > wire_entries.SMALL:
            raise FileTooLarge(f"it has more than {wire_entries.SMALL} bytes: ask for it by itself")
        status = os.fstat(descriptor)
    finally:
        os.close(descriptor)
    mode = stat.S_IMODE(status.st_mode)
    return (
        ManifestEntry(path=name_to_wire(path), type=FILE, size=len(data), mtime_ns=status.st_mtime_ns, mode=mode),
        data,
    )


def gathered(pieces: Iterator[bytes], size: int = PIECE) -> Iterator[bytes]:
    """The same bytes in fewer, larger pieces."""
    held: list[bytes] = []
    count = 0
    for piece in pieces:
        held.append(piece)
        count += len(piece)
        if count >= size:
            yield b"".join(held)
            held, count = [], 0
    if held:
        yield b"".join(held)
