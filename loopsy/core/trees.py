"""What a tree still needs to equal another: two manifests compared into a plan. No I/O.

Paths here are as ``os.fsdecode`` gives them, below the root, with ``/``; '' is the root itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatchcase

from attrs import field, frozen

from loopsy.core.transfer import below
from loopsy.errors import InvalidRequest, TransferFailed
from loopsy.wire.transfer import DIRECTORY, FILE, OTHER, SYMLINK, ManifestEntry

SMALL = 256 * 1024
"""Files up to this travel in a batch: a request of its own would cost more than sending the file again."""
BATCH_BYTES, BATCH_FILES = 8 * 1024 * 1024, 1000
"""A broken batch is sent again whole, so it is bounded; each batch costs a round trip, so it isn't small."""
NEAR_NS = 1_000
"""Times nearer than this are the same: some file systems and formats keep microseconds."""
SECOND_NS = 1_000_000_000
PERMISSIONS = 0o7777
TYPES = (DIRECTORY, FILE, OTHER, SYMLINK)


def check(entries: Iterable[ManifestEntry]) -> None:
    """A manifest that was told by somebody else: each thing once, below the root and below directories alone.

    :raises PathDenied: a path leaves the root. :raises InvalidRequest: it is no tree.
    """
    seen: set[str] = set()
    directories: set[str] = set()
    for entry in entries:
        below(entry.path)
        if entry.path in seen:
            raise InvalidRequest(f"the manifest names {entry.path!r} twice")
        if entry.path and parent(entry.path) not in directories:
            raise InvalidRequest(f"the manifest has {entry.path!r} below what it doesn't call a directory")
        if entry.type not in TYPES or (not entry.path and entry.type != DIRECTORY):
            raise InvalidRequest(f"the manifest has {entry.path!r} as {entry.type}")
        seen.add(entry.path)
        if entry.type == DIRECTORY:
            directories.add(entry.path)


@frozen(kw_only=True)
class Plan:
    """The steps, in the order in which they are taken."""

    remove: tuple[ManifestEntry, ...] = ()
    """What is there and must not be: children before their parents."""
    batches: tuple[tuple[ManifestEntry, ...], ...] = ()
    """New directories, symlinks and small files, parents before children."""
    large: tuple[ManifestEntry, ...] = ()
    mend: tuple[ManifestEntry, ...] = ()
    """Files whose content is right and whose mode or time isn't."""
    directories: tuple[ManifestEntry, ...] = ()
    """Whose mode and time are set last, deepest first: writing into a directory changes its time, and a read-only one
    takes nothing more."""
    skipped: int = 0
    """Files and symlinks that are there already."""
    odd: tuple[ManifestEntry, ...] = ()
    """Devices, sockets and the like, which don't travel."""
    deleted: int = 0
    """How many of ``remove`` go because the source has no such name."""

    @property
    def bytes(self) -> int:
        """Content that must travel."""
        return sum(entry.size for batch in self.batches for entry in batch) + sum(entry.size for entry in self.large)

    @property
    def files(self) -> int:
        """Files and symlinks that must travel."""
        return sum(entry.type != DIRECTORY for batch in self.batches for entry in batch) + len(self.large)

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to do."""
        return not (self.remove or self.batches or self.large or self.mend or self.directories)


@frozen
class Rules:
    """How two trees are compared."""

    delete: bool = False
    """What the source lacks goes, and a directory may make way for a file."""
    checksum: bool = False
    """By content rather than by size and time."""


def plan(source: Iterable[ManifestEntry], there: Iterable[ManifestEntry], rules: Rules) -> Plan:
    """What makes ``there`` equal to ``source``.

    :raises TransferFailed: a directory is in the way of a file, and may not be deleted.
    """
    comparison = _Comparison({entry.path: entry for entry in there}, rules)
    for entry in sorted(source, key=in_order):
        comparison.take(entry)
    return comparison.plan()


def in_order(entry: ManifestEntry) -> tuple[str, ...]:
    """A sort key by which parents come before children, and a directory's content stays together."""
    return tuple(entry.path.split("/")) if entry.path else ()


@frozen(eq=False)
class _Comparison:
    """One comparison on its way."""

    there: Mapping[str, ManifestEntry]
    rules: Rules
    named: set[str] = field(factory=set)
    cleared: set[str] = field(factory=set)
    """What must make way for something of another type."""
    touched: set[str] = field(factory=set)
    """Directories in which a name appears or goes."""
    directories: list[ManifestEntry] = field(factory=list)
    moving: list[ManifestEntry] = field(factory=list)
    large: list[ManifestEntry] = field(factory=list)
    mend: list[ManifestEntry] = field(factory=list)
    odd: list[ManifestEntry] = field(factory=list)
    skipped: list[str] = field(factory=list)

    def take(self, entry: ManifestEntry) -> None:
        """Decide about one thing of the source."""
        self.named.add(entry.path)
        if entry.type == OTHER:
            self.odd.append(entry)
            return
        old = self.there.get(entry.path)
        if old is not None and old.type != entry.type:
            self._clear(old, entry)
            old = None
        if entry.type == DIRECTORY:
            self._directory(entry, old)
        elif old is None or not same_content(entry, old, self.rules):
            self._move(entry)
        elif entry.type == FILE and not same_attributes(entry, old):
            self.mend.append(entry)
        else:
            self.skipped.append(entry.path)

    def _clear(self, old: ManifestEntry, entry: ManifestEntry) -> None:
        if old.type == DIRECTORY and not self.rules.delete:
            raise TransferFailed(
                f"{entry.path!r} is a {entry.type} here and a directory there",
                hint="with --delete the directory is replaced",
            )
        self.cleared.add(old.path)

    def _directory(self, entry: ManifestEntry, old: ManifestEntry | None) -> None:
        self.directories.append(entry)
        if old is None:
            self.moving.append(entry)
            self.touched.update((entry.path, parent(entry.path)))
        elif not same_attributes(entry, old):
            self.touched.add(entry.path)

    def _move(self, entry: ManifestEntry) -> None:
        self.touched.add(parent(entry.path))
        (self.large if entry.type == FILE and entry.size > SMALL else self.moving).append(entry)

    def plan(self) -> Plan:
        """All decisions."""
        remove = sorted(self._removals(), key=in_order, reverse=True)
        self.touched.update(parent(entry.path) for entry in remove)
        return Plan(
            remove=tuple(remove),
            batches=tuple(batches(self.moving)),
            large=tuple(self.large),
            mend=tuple(self.mend),
            directories=tuple(entry for entry in reversed(self.directories) if entry.path in self.touched),
            skipped=len(self.skipped),
            odd=tuple(self.odd),
            deleted=sum(entry.path not in self.named for entry in remove),
        )

    def _removals(self) -> Iterator[ManifestEntry]:
        for entry in self.there.values():
            if entry.path in self.cleared or (entry.path not in self.named and self._may_go(entry.path)):
                yield entry

    def _may_go(self, path: str) -> bool:
        return self.rules.delete or any(above in self.cleared for above in parents(path))


def same_content(entry: ManifestEntry, old: ManifestEntry, rules: Rules) -> bool:
    """Whether what is there need not travel again."""
    if entry.type == SYMLINK:
        return entry.target == old.target
    if entry.size != old.size:
        return False
    if rules.checksum:
        return entry.checksum is not None and entry.checksum == old.checksum
    return same_time(entry.mtime_ns, old.mtime_ns)


def same_attributes(entry: ManifestEntry, old: ManifestEntry) -> bool:
    """Whether mode and time are right."""
    return (entry.mode ^ old.mode) & PERMISSIONS == 0 and same_time(entry.mtime_ns, old.mtime_ns)


def same_time(one: int, other: int) -> bool:
    """Whether two times are the same as far as both file systems can tell: one may keep whole seconds only."""
    if abs(one - other) < NEAR_NS:
        return True
    whole = one % SECOND_NS == 0 or other % SECOND_NS == 0
    return whole and one // SECOND_NS == other // SECOND_NS


def batches(entries: Iterable[ManifestEntry]) -> Iterator[tuple[ManifestEntry, ...]]:
    """Entries in order, in groups of bounded number and size."""
    batch: list[ManifestEntry] = []
    size = 0
    for entry in entries:
        if batch and (len(batch) >= BATCH_FILES or size + entry.size > BATCH_BYTES):
            yield tuple(batch)
            batch, size = [], 0
        batch.append(entry)
        size += entry.size
    if batch:
        yield tuple(batch)


def parent(path: str) -> str:
    """The directory that a path lies in ('' for those below the root)."""
    return path.rpartition("/")[0]


def parents(path: str) -> Iterator[str]:
    """Every directory above a path, without the root."""
    while path := parent(path):
        yield path


def excluded(path: str, patterns: Iterable[str]) -> bool:
    """Whether a shell pattern matches the path below the root, or its last name."""
    name = path.rpartition("/")[2]
    return any(fnmatchcase(name, pattern) or fnmatchcase(path, pattern) for pattern in patterns)
