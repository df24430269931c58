"""Entries with content, written below a root: many small files in one go.

Files are written without a name, synced together and only then put in their places, so that one journal commit serves
many of them, and no crash leaves half a file under a name that looks whole.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from contextlib import suppress

from attrs import define, field, frozen

from loopsy.core import transfer as rules
from loopsy.core import uploads
from loopsy.core.transfer import MODE_BITS, Parts, PathPolicy
from loopsy.errors import InvalidRequest, LoopsyError, PathDenied, StorageFull, TransferFailed
from loopsy.store import fileio
from loopsy.store.directory import Directory
from loopsy.store.files import Part, check_plain, part_name
from loopsy.store.walk import descend, told
from loopsy.wire.transfer import (
    DELETED,
    DIRECTORY,
    FILE,
    SYMLINK,
    TOUCH,
    Applied,
    EntryFault,
    ManifestEntry,
    name_from_wire,
)

TOGETHER = 64
"""Files that are synced and placed together: each holds two descriptors, of the usual 1024."""
FAULTS = 1000
"""Errors that are told one by one."""


@frozen
class Ready:
    """A file that is written, to be placed with the others."""

    part: Part
    entry: ManifestEntry
    name: str


@define
class Counts:
    """What was done so far."""

    files: int = 0
    directories: int = 0
    symlinks: int = 0
    deleted: int = 0
    bytes: int = 0
    errors: list[EntryFault] = field(factory=list)

    def fault(self, path: str, error: Exception, parts: Parts) -> None:
        """One entry failed."""
        mine = told(error, parts) if isinstance(error, OSError) else error
        if len(self.errors) < FAULTS:
            code = mine.code if isinstance(mine, LoopsyError) else TransferFailed.code
            self.errors.append(EntryFault(path=path, error=str(mine), code=code))

    def answer(self) -> Applied:
        """In the words of the wire."""
        return Applied(
            files=self.files,
            directories=self.directories,
            symlinks=self.symlinks,
            deleted=self.deleted,
            bytes=self.bytes,
            errors=tuple(self.errors),
        )


class Applying:
    """Writes entries below an open root, which it takes over. Call ``entry`` and ``content``, then ``finish``."""

    def __init__(self, policy: PathPolicy, root: Directory, parts: Parts, limit: int) -> None:
        self._policy, self._root, self._parts, self._limit = policy, root, parts, limit
        self.counts = Counts()
        self._ready: list[Ready] = []
        self._open: Ready | None = None
        self._directories: list[tuple[Parts, ManifestEntry]] = []
        self._here: tuple[Parts, Directory] | None = None

    # -- as the stream brings it
    def entry(self, entry: ManifestEntry) -> None:
        """The next entry. What is wrong with it is noted; only a full disk ends the whole.

        :raises StorageFull:
        """
        self._end_file()
        parts = self._parts
        try:
            inside = rules.below(name_from_wire(entry.path))
            parts = (*self._parts, *inside)
            self._policy.check(parts)
            self._does(entry)(entry, inside)
        except (OSError, LoopsyError) as error:
            self._note(entry, error, parts)

    def _note(self, entry: ManifestEntry, error: Exception, parts: Parts) -> None:
        if isinstance(error, StorageFull) or getattr(error, "errno", 0) in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFull(f"the disk there is full, at {entry.path[:200]!r}") from error
        self.counts.fault(entry.path, error, parts)

    def _does(self, entry: ManifestEntry) -> Callable[[ManifestEntry, Parts], None]:
        if entry.error is not None:
            raise TransferFailed(f"the sender could not read it: {entry.error}")
        does = {FILE: self._file, DIRECTORY: self._directory, SYMLINK: self._symlink, DELETED: self._delete}
        found = does.get(entry.type, self._touch if entry.type == TOUCH else None)
        if found is None:
            raise PathDenied("only files, directories and symlinks can be written")
        return found

    def content(self, data: bytes | memoryview) -> None:
        """Some content of the file whose entry came last. Of one that failed it is thrown away.

        :raises StorageFull:
        """
        if self._open is None:
            return
        try:
            self._open.part.write([bytes(data)])
            self.counts.bytes += len(data)
        except OSError as error:
            ready, self._open = self._open, None
            ready.part.discard()
            self._note(ready.entry, error, self._parts)

    def finish(self) -> Applied:
        """All is here: place the last files, set the directories' modes and times."""
        self._end_file()
        self._place_all()
        for inside, entry in reversed(self._directories):
            with suppress(OSError, LoopsyError), descend(self._policy, self._root, self._parts, inside) as directory:
                directory.set_own(entry.mode & MODE_BITS, entry.mtime_ns)
        self.close()
        return self.counts.answer()

    def close(self) -> None:
        """End, whatever was reached. Files that were not placed are gone."""
        if self._open is not None:
            self._open.part.discard()
        for ready in self._ready:
            ready.part.discard()
        self._open, self._ready = None, []
        self._forget_here()
        self._root.close()

    def _forget_here(self) -> None:
        if self._here is not None:
            self._here[1].close()
            self._here = None

    # -- kinds of entries
    def _file(self, entry: ManifestEntry, inside: Parts) -> None:
        if not inside:
            raise InvalidRequest("the root itself can't be a file here")
        rules.check_size(entry.size, self._limit)
        directory = self._parent(inside).copy()
        try:
            part = Part.unnamed(directory)
        except BaseException:
            directory.close()
            raise
        self._open = Ready(part, entry, inside[-1])

    def _end_file(self) -> None:
        """The file in hand has all its content."""
        if self._open is None:
            return
        ready, self._open = self._open, None
        try:
            uploads.check_content(ready.entry.checksum, ready.part.checksum)
        except LoopsyError as error:
            ready.part.discard()
            self.counts.fault(ready.entry.path, error, self._parts)
            return
        self._ready.append(ready)
        if len(self._ready) >= TOGETHER:
            self._place_all()

    def _place_all(self) -> None:
        ready, self._ready = self._ready, []
        try:
            for one in ready:
                one.part.sync()
        except OSError as error:
            for one in ready:
                one.part.discard()
                self._note(one.entry, error, self._parts)
            return
        for one in ready:
            try:
                one.part.publish(one.name, one.entry.mode, one.entry.mtime_ns, synced=False)
                self.counts.files += 1
            except OSError as error:
                one.part.discard()
                self._note(one.entry, error, self._parts)

    def _directory(self, entry: ManifestEntry, inside: Parts) -> None:
        if inside:
            parent, name = self._parent(inside), inside[-1]
            status = parent.status(name)
            if status is not None and not stat.S_ISDIR(status.st_mode):
                parent.remove(name)
                status = None
            if status is None:
                parent.make_directory(name)
                self.counts.directories += 1
        self._directories.append((inside, entry))

    def _symlink(self, entry: ManifestEntry, inside: Parts) -> None:
        target = name_from_wire(entry.target or "")
        if not inside or not target or "\0" in target:
            raise InvalidRequest("a symlink needs a name, and a target without NUL")
        parent, temporary = self._parent(inside), part_name()
        parent.make_symlink(target, temporary)
        try:
            with suppress(OSError):  # not every file system keeps the time of a link
                parent.set_times(temporary, entry.mtime_ns)
            parent.rename(temporary, inside[-1])
        except OSError:
            parent.remove(temporary)
            raise
        self.counts.symlinks += 1

    def _delete(self, entry: ManifestEntry, inside: Parts) -> None:
        if not inside:
            raise InvalidRequest("the root itself is not deleted here")
        self._place_all()
        with descend(self._policy, self._root, self._parts, inside[:-1]) as parent:
            status = parent.status(inside[-1])
            if status is None:
                return
            if stat.S_ISDIR(status.st_mode):
                parent.remove_directory(inside[-1])
            else:
                parent.remove(inside[-1])
        self.counts.deleted += 1
        self._forget_here()

    def _touch(self, entry: ManifestEntry, inside: Parts) -> None:
        self._place_all()
        with descend(self._policy, self._root, self._parts, inside[:-1]) as parent:
            descriptor = parent.open_file(inside[-1] if inside else ".", os.O_RDONLY | fileio.NONBLOCK)
            try:
                check_plain(os.fstat(descriptor), (*self._parts, *inside))
                fileio.set_mode(descriptor, entry.mode & MODE_BITS)
                os.utime(descriptor, ns=(entry.mtime_ns, entry.mtime_ns))
            finally:
                os.close(descriptor)

    # -- where
    def _parent(self, inside: Parts) -> Directory:
        """The directory of an entry, made where it is missing. The last one stays open for the next entry."""
        above = inside[:-1]
        if self._here is not None and self._here[0] == above:
            return self._here[1]
        at = self._root.copy()
        try:
            for depth, step in enumerate(above):
                if at.status(step) is None:
                    at.make_directory(step)
                    self.counts.directories += 1
                with descend(self._policy, at, (*self._parts, *above[:depth]), (step,)) as below:
                    at.close()
                    at = below.copy()
        except BaseException:
            at.close()
            raise
        self._forget_here()
        self._here = (above, at)
        return at
