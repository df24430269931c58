"""Pulling one file: by ranges, into a part that a later pull goes on with."""

from __future__ import annotations

import stat
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.web.iweb import IResponse

from loopsy.client.files import RemoteFile
from loopsy.core import trees
from loopsy.core.transfer import SPARE
from loopsy.core.transfers import Move, Step
from loopsy.errors import ChecksumMismatch, FileMissing, StorageFull
from loopsy.services.transferring import Job, parts_of
from loopsy.services.turns import ThreadedTaker
from loopsy.store.files import Part, digest, open_plain
from loopsy.store.pulls import Pulls
from loopsy.store.walk import Place, find, telling
from loopsy.wire.transfer import FILE, ManifestEntry


async def pull_file(job: Job, move: Move, found: ManifestEntry) -> None:
    """Pull one file, unless it is here already."""
    job.expect(found.size, 1)
    job.tell(Step(current=move.source))
    if await is_here(job, move, found):
        job.tell(Step(skipped=1, done=found.size))
        return
    if job.request.dry_run:
        return
    pulling = FilePulling(job, move.source, lambda: find(job.policy, parts_of(move.target), make=True))
    try:
        job.tell(Step(files=1, checksum=await job.insist(pulling.go)))
    finally:
        await pulling.close()


async def is_here(job: Job, move: Move, found: ManifestEntry) -> bool:
    """Whether we have it, by size and time or by content."""
    ours = await job.bulk_turns().run(lambda: our_file(job, move.target, job.request.checksum and found.type == FILE))
    if ours is None or found.type != FILE or ours.size != found.size:
        return False
    if job.request.checksum:
        return ours.checksum == await job.files.checksum(move.source)
    return trees.same_time(ours.mtime_ns, found.mtime_ns)


def our_file(job: Job, path: str, hashed: bool) -> ManifestEntry | None:
    """A plain file of ours, None where there is none."""
    try:
        with find(job.policy, parts_of(path)) as place:
            if place.status is None or not stat.S_ISREG(place.status.st_mode):
                return None
            checksum = checksum_of(place, job) if hashed else None
            status = place.status
    except FileMissing:
        return None
    return ManifestEntry(path="", type=FILE, size=status.st_size, mtime_ns=status.st_mtime_ns, checksum=checksum)


def checksum_of(place: Place, job: Job) -> str:
    """The SHA-256 of a file of ours."""
    with open(open_plain(place.directory, place.name, place.parts), "rb") as file:
        found: Any = digest(file.fileno(), None, lambda: job.cancelled)
    return str(found.hexdigest())


class FilePulling:
    """One file on its way."""

    def __init__(self, job: Job, source: str, locate: Callable[[], Place]) -> None:
        """``locate`` opens the directory that the file shall lie in, in a thread."""
        self._job, self._source, self._locate = job, source, locate
        self._turns = job.bulk_turns()
        self._pulls = Pulls(job.notes, job.secret)
        self._place: Place | None = None
        self._part: Part | None = None
        self._counted = self._size = 0

    async def go(self) -> str:
        """One attempt; its SHA-256.

        :raises ChecksumMismatch: something else arrived; it is thrown away. :raises LoopsyError: it failed.
        """
        remote, response = await self._open()
        part = self._part
        assert part is not None
        expected = self._expected(remote)
        taker = ThreadedTaker(self._turns, self._write, self._went)
        try:
            await self._job.files.receive(response, taker.receiver)
        finally:
            expected.addErrback(lambda _: None)  # the other failure tells enough
            await taker.rest()
        await self._verify(part, remote, await expected)
        return await self._turns.run(lambda: self._publish(remote))

    async def _open(self) -> tuple[RemoteFile, IResponse]:
        """Ask for the file, from where a part of the same version ends."""
        remote, response = await self._job.files.file(self._source, 0, None)
        name, held = await self._turns.run(lambda: self._look_for_part(remote))
        if held and remote.size:
            start = min(held, remote.size - 1)
            self._job.files.drop(response)
            remote, response = await self._job.files.file(self._source, start, remote.etag)
            name, held = await self._turns.run(lambda: self._look_for_part(remote))
        await self._turns.run(lambda: self._open_part(name, remote))
        self._job.tell(Step(done=remote.start - self._counted, current=self._source))
        self._counted = remote.start
        return remote, response

    def _look_for_part(self, remote: RemoteFile) -> tuple[str, int]:
        if self._place is None:
            self._place = self._locate()
        name = self._pulls.name(self._place, f"{self._job.peer}:{self._source}", remote.etag)
        return name, self._pulls.held(self._place, name)

    def _open_part(self, name: str, remote: RemoteFile) -> None:
        self._close_part()
        assert self._place is not None
        held = self._pulls.held(self._place, name)
        needed, free = remote.size - min(held, remote.size), self._place.directory.free() - SPARE
        if needed > free:
            raise StorageFull(f"the disk here has {max(0, free)} bytes left, {needed} are needed")
        self._size = remote.size
        self._part = self._pulls.open(self._place, name, remote.start, self._is_over)

    def _expected(self, remote: RemoteFile) -> Deferred[str | None]:
        """What the content must hash to. The peer computes it while it sends, on another core where it has one."""
        known: Deferred[str | None] = Deferred()
        if remote.checksum is not None:
            known.callback(remote.checksum)
            return known
        return Deferred.fromCoroutine(self._job.files.checksum(self._source))

    async def _verify(self, part: Part, remote: RemoteFile, expected: str | None) -> None:
        if part.size == remote.size and expected in (None, part.checksum):
            return
        await self._turns.run(self._throw_away)
        raise ChecksumMismatch(f"what arrived of {self._source} is not what {self._job.peer} has; it was thrown away")

    def _write(self, pieces: list[bytes]) -> None:
        assert self._part is not None
        assert self._place is not None
        if self._part.size + sum(map(len, pieces)) > self._size:
            self._throw_away()
            raise ChecksumMismatch(f"{self._job.peer} sends more of {self._source} than there is; it was thrown away")
        try:
            with telling(self._place.parts):
                self._part.write(pieces)
        except StorageFull:
            self._throw_away()  # it can't be gone on with, and whoever else needs the disk has it back
            raise

    def _publish(self, remote: RemoteFile) -> str:
        assert self._part is not None
        assert self._place is not None
        checksum, name = self._part.checksum, self._part.name
        with telling(self._place.parts):
            self._part.publish(self._place.name, remote.mode, remote.mtime_ns)
        if name is not None:
            self._pulls.forget(name)
        return checksum

    def _went(self, size: int) -> None:
        self._counted += size
        self._job.went(size)

    def _is_over(self) -> bool:
        return self._job.cancelled

    def _throw_away(self) -> None:
        if self._part is not None:
            name = self._part.name
            self._part.discard()
            if name is not None:  # after it: without the note nobody would sweep the part
                self._pulls.forget(name)

    def _close_part(self) -> None:
        if self._part is not None:
            self._part.close()
            self._part = None

    def _close(self) -> None:
        self._close_part()
        if self._place is not None:
            self._place.close()
            self._place = None

    async def close(self) -> None:
        """Let go of the files; an unfinished part stays."""
        await self._turns.run(self._close)
