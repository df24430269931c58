"""What sending and pulling share: the job, the local policy, and trying again."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.task import deferLater

from loopsy.client.files import PeerFiles
from loopsy.core.transfer import Parts, PathPolicy, absolute
from loopsy.core.transfers import Step
from loopsy.errors import OffsetConflict, PeerTimeout, PeerUnreachable, TransferFailed, UploadMissing
from loopsy.services.settings import Settings
from loopsy.services.threads import Threads
from loopsy.services.turns import InTurn
from loopsy.store import walk
from loopsy.store.begun import Begun
from loopsy.wire.transfer import TransferRequest, name_from_wire

T = TypeVar("T")
WAITS_S = (0.3, 1.0, 2.0, 4.0, 8.0)
"""Between tries after a broken connection: a restarted daemon is back within the first two, a sleeping laptop's
network within the last. Whenever it came further than ever before they begin anew."""
AGAIN = (PeerUnreachable, PeerTimeout, OffsetConflict, UploadMissing)


@define(eq=False, kw_only=True)
class Job:
    """One transfer under way."""

    reactor: Any
    threads: Threads
    files: PeerFiles
    policy: PathPolicy
    request: TransferRequest
    node_id: str
    """Ours."""
    peer: str
    """What the peer is called: with its path it names a source."""
    secret: bytes
    """Makes the names of our parts such that others can't guess them."""
    notes: str
    """The directory of the notes about unfinished pulls."""
    _tell: Callable[[Step], None]
    work: Deferred[Any] = field(factory=lambda: succeed(None))
    cancelled: bool = False
    moved: int = field(default=0, init=False)
    _bytes: int = field(default=0, init=False)
    _files: int = field(default=0, init=False)
    _done: int = field(default=0, init=False)
    _reached: int = field(default=0, init=False)
    """The most that was done; after a broken connection some of it may have to be done again."""

    def turns(self) -> InTurn:
        """A line of blocking work of its own."""
        return InTurn(self.threads.quick)

    def bulk_turns(self) -> InTurn:
        """The same for the content of a large file."""
        return InTurn(self.threads.bulk)

    def cancel(self) -> None:
        """End it."""
        self.cancelled = True
        self.work.cancel()

    def tell(self, step: Step) -> None:
        """How it goes."""
        self._done += step.done
        self._reached = max(self._reached, self._done)
        self._tell(step)

    def expect(self, size: int, files: int) -> None:
        """So much more there is to do."""
        self._bytes += size
        self._files += files
        self.tell(Step(bytes_total=self._bytes, files_total=self._files))

    def went(self, size: int) -> None:
        """Content crossed the wire."""
        self.moved += size
        self.files.felt()
        self.tell(Step(done=size, sent=size))

    def sources(self) -> tuple[str, ...]:
        """The request's, as paths."""
        return tuple(map(name_from_wire, self.request.sources))

    @property
    def destination(self) -> str:
        """The request's, as a path."""
        return name_from_wire(self.request.destination)

    def begun(self) -> Begun:
        """The note that says what a new destination's name meant."""
        request = self.request
        return Begun(self.notes, request.direction, self.peer, request.destination, *request.sources)

    async def insist(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """Try until it works: a connection that broke in the middle is no reason to give up at once.

        :raises PeerUnreachable: it never moved, or did not come back in time. :raises LoopsyError: anything else.
        """
        tries, reached = 0, self._reached
        while True:
            try:
                return await attempt()
            except AGAIN as error:
                if self.cancelled:
                    raise CancelledError from None
                tries = 0 if self._reached > reached else tries
                if self.moved == 0 or tries >= len(WAITS_S):
                    raise
                reached = self._reached
                self.tell(Step(current=f"waiting for {self.peer}: {error.message}"))
            await deferLater(self.reactor, WAITS_S[tries], lambda: None)
            tries += 1


def local_policy(settings: Settings) -> PathPolicy:
    """What this machine's own user may not transfer: deniedPaths and the data directory, nothing else."""
    return walk.policy(settings.config.transfer, home(), str(settings.layout.root), everywhere=True)


def home() -> str:
    """Where relative paths begin."""
    return os.path.expanduser("~")


def parts_of(path: str) -> Parts:
    """A path of ours as its components."""
    return absolute(path, home())


def is_a_directory(path: str, verb: str) -> TransferFailed:
    """A directory was named, and not ``-r``."""
    return TransferFailed(f"{path} is a directory", hint=f"with -r all that is in it: loopsy {verb} -r …")
