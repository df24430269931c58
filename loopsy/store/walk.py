"""From a path as somebody wrote it to an open directory and a name in it, under a policy.

The walk opens one component after the other by descriptor and resolves each symlink itself, so what the policy has
approved is what is open: a directory that is exchanged for a symlink in the meantime is noticed by the kernel
(O_NOFOLLOW), not by luck.
"""

from __future__ import annotations

import errno
import os
import stat
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

from attrs import define

from loopsy.config import Transfer
from loopsy.core.transfer import Identity, Parts, PathPolicy, absolute, shown, split
from loopsy.errors import FileMissing, LoopsyError, PathDenied, StorageFull, TransferFailed
from loopsy.store import directory as directories
from loopsy.store.directory import Directory

MAX_LINKS = 40
"""As Linux itself."""
MAX_STEPS = 4096
"""A path of 32,768 characters has at most 16,384 steps, but no real one has so many; links make more of them."""


@define
class Place:
    """A name in an open directory, and what it is now (None: nothing)."""

    directory: Directory
    name: str
    parts: Parts
    status: os.stat_result | None

    @property
    def is_directory(self) -> bool:
        """Whether it is a directory."""
        return self.status is not None and stat.S_ISDIR(self.status.st_mode)

    def open_directory(self) -> Directory:
        """Open it as a directory.

        :raises FileMissing: it isn't there. :raises TransferFailed: it is none.
        """
        if self.status is None:
            raise FileMissing(f"{shown(self.parts)} does not exist")
        if not self.is_directory:
            raise TransferFailed(f"{shown(self.parts)} is not a directory")
        with telling(self.parts):
            return self.directory.open_directory(self.name)

    def close(self) -> None:
        """Close the directory."""
        self.directory.close()

    def __enter__(self) -> Place:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()


def identity(status: os.stat_result) -> Identity:
    """Which file it is."""
    return status.st_dev, status.st_ino


def policy(config: Transfer, home: str, data_dir: str, *, everywhere: bool) -> PathPolicy:
    """The policy as the roots lie now, resolved. ``everywhere``: for the machine's own user."""
    denied = [*config.denied_paths, data_dir]
    identities = set()
    for root in denied:
        try:
            identities.add(identity(os.stat(expanded(root, home))))
        except OSError:
            continue  # it is not there: its name is denied all the same
    return PathPolicy(
        allowed=None if everywhere else tuple(real(root, home) for root in config.allowed_paths),
        denied=tuple({parts for root in denied for parts in (real(root, home), itself(root, home))}),
        denied_identities=frozenset(identities),
    )


def open_directory(path: str) -> Directory:
    """A directory of our own, by its path."""
    place = find(PathPolicy(allowed=None, denied=()), split(os.path.abspath(path)))
    with place:
        return place.open_directory()


def expanded(path: str, home: str) -> str:
    """An absolute path."""
    return "/" + "/".join(absolute(path, home))


def real(path: str, home: str) -> Parts:
    """Where a path leads."""
    return split(os.path.realpath(expanded(path, home)))


def itself(path: str, home: str) -> Parts:
    """Where a path lies, be it a link or not."""
    above, _, name = expanded(path, home).rpartition("/")
    return (*split(os.path.realpath(above or "/")), *split(name))


def told(error: OSError, parts: Parts) -> LoopsyError:
    """What the operating system said, as ours."""
    words = f"{shown(parts)}: {(error.strerror or str(error)).lower()}"
    match error.errno:
        case errno.ENOENT | errno.ENOTDIR:
            return FileMissing(words)
        case errno.ENOSPC | errno.EDQUOT:
            return StorageFull(words)
        case errno.EACCES | errno.EPERM | errno.EROFS | errno.ELOOP | errno.ENXIO:
            return PathDenied(words)
        case _:
            return TransferFailed(words)


@contextmanager
def telling(parts: Parts) -> Iterator[None]:
    """What fails inside, fails as one of ours."""
    try:
        yield
    except OSError as error:
        raise told(error, parts) from error


@contextmanager
def descend(policy: PathPolicy, start: Directory, base: Parts, steps: Parts) -> Iterator[Directory]:
    """The directory that lies ``steps`` below ``start`` (which is ``base``), without following any symlink.

    :raises PathDenied: it, or one on the way, may not be touched.
    """
    policy.check((*base, *steps))
    at = start.copy()
    try:
        for step in steps:
            below = at.open_directory(step)
            at.close()
            at = below
            if identity(at.own_status()) in policy.denied_identities:
                policy.check((*base, *steps), through_denied=True)
        yield at
    finally:
        at.close()


def find(policy: PathPolicy, wanted: Parts, *, make: bool = False) -> Place:
    """Walk to ``wanted``; the place must be closed. ``make``: directories that are missing above it are made.

    :raises PathDenied: it may not be touched. :raises FileMissing: what is above it isn't there.
    """
    walk = Walk(policy, wanted, make)
    try:
        return walk.go()
    except OSError as error:
        policy.check(walk.ahead())  # what lies where nobody may look is denied, whatever else is wrong with it
        raise told(error, walk.ahead()) from error
    finally:
        walk.close()


class Walk:
    """One walk."""

    def __init__(self, policy: PathPolicy, wanted: Parts, make: bool) -> None:
        self._policy = policy
        self._make = make
        self._pending = deque(wanted)
        self._links = 0
        self._at: Directory | None = None
        self._restart(())

    def _restart(self, before: Parts) -> None:
        self.close()
        self._at = directories.root()
        self._resolved: list[str] = []
        self._through_denied = False
        self._pending.extendleft(reversed(before))

    def ahead(self) -> Parts:
        """Where it stands, and what is left to go."""
        return (*self._resolved, *self._pending)

    def close(self) -> None:
        """Let go of the directory."""
        if self._at is not None:
            self._at.close()
            self._at = None

    def go(self) -> Place:
        """To the end."""
        for _ in range(MAX_STEPS):
            if not self._pending:
                return self._root()
            place = self._step(self._pending.popleft())
            if place is not None:
                return place
        raise PathDenied("the path has too many steps")

    def _step(self, name: str) -> Place | None:
        """One component; the place, if it was the last."""
        assert self._at is not None
        if name == "..":
            self._restart(tuple(self._resolved[:-1]))
            return None
        try:
            status = self._at.status(name)
        except OSError:
            self._pending.appendleft(name)
            raise
        if status is not None and stat.S_ISLNK(status.st_mode):
            self._follow(name)
            return None
        if not self._pending:
            return self._arrive(name, status)
        if status is None:
            self._missing(name)
        self._enter(name)
        return None

    def _follow(self, name: str) -> None:
        assert self._at is not None
        self._links += 1
        if self._links > MAX_LINKS:
            raise PathDenied("the path has too many symlinks")
        target = self._at.target(name)
        self._pending.extendleft(reversed(split(target)))
        if target.startswith("/"):
            self._restart(())

    def _missing(self, name: str) -> None:
        """A directory on the way isn't there."""
        assert self._at is not None
        self._policy.check((*self._resolved, name, *self._pending), through_denied=self._through_denied)
        if not self._make or ".." in self._pending:
            raise FileMissing(f"{shown((*self._resolved, name))} does not exist")
        try:
            self._at.make_directory(name)
        except FileExistsError:
            pass  # somebody was quicker
        except OSError:
            self._pending.appendleft(name)
            raise

    def _enter(self, name: str) -> None:
        assert self._at is not None
        try:
            below = self._at.open_directory(name)
        except OSError as error:
            self._pending.appendleft(name)
            if error.errno == errno.ELOOP or self._is_link(name):
                return  # exchanged for a symlink just now: look again
            raise
        self._at.close()
        self._at = below
        self._resolved.append(name)
        self._through_denied |= identity(below.own_status()) in self._policy.denied_identities

    def _is_link(self, name: str) -> bool:
        assert self._at is not None
        status = self._at.status(name)
        return status is not None and stat.S_ISLNK(status.st_mode)

    def _arrive(self, name: str, status: os.stat_result | None) -> Place:
        denied = status is not None and identity(status) in self._policy.denied_identities
        parts = (*self._resolved, name)
        self._policy.check(parts, through_denied=self._through_denied or denied)
        return self._place(name, parts, status)

    def _root(self) -> Place:
        """The root of the file system, or a directory that ended in ``..`` (which the restart left as the root's)."""
        assert self._at is not None
        self._policy.check((), through_denied=self._through_denied)
        return self._place(".", (), self._at.own_status())

    def _place(self, name: str, parts: Parts, status: os.stat_result | None) -> Place:
        assert self._at is not None
        at, self._at = self._at, None
        return Place(at, name, parts, status)
