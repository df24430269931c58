"""Sending one file: an upload that goes on where it stopped."""

from __future__ import annotations

from loopsy.client.files import Upload, UploadOffer
from loopsy.core import trees
from loopsy.core.transfers import Move, Step
from loopsy.errors import ChecksumMismatch, TransferFailed
from loopsy.services.transferring import Job, parts_of
from loopsy.services.turns import PieceBody
from loopsy.store.source import Source
from loopsy.wire.transfer import FILE, ManifestEntry, Pushed

WHOLE = 1024 * 1024
"""A file up to this goes in one request, from its beginning each time: to ask first would take longer."""


async def send_file(job: Job, move: Move, there: ManifestEntry | None) -> None:
    """Send one file, unless it is there already."""
    turns = job.turns()
    source = await turns.run(lambda: Source.open(job.policy, parts_of(move.source)))
    try:
        job.expect(source.size, 1)
        job.tell(Step(current=move.source))
        sending = FileSending(job, source, move.source, move.target)
        if there is not None and await sending.is_there(there):
            job.tell(Step(skipped=1, done=source.size))
        elif not job.request.dry_run:
            pushed = await sending.go()
            job.tell(Step(files=1, checksum=pushed.checksum))
    finally:
        await turns.run(source.close)


class FileSending:
    """One file on its way."""

    def __init__(self, job: Job, source: Source, path: str, target: str) -> None:
        self._job, self._source, self._path, self._target = job, source, path, target
        self._turns = job.bulk_turns()
        self._counted = 0

    async def is_there(self, there: ManifestEntry) -> bool:
        """Whether the peer has it, by size and time or by content."""
        source = self._source
        if there.type != FILE or there.size != source.size:
            return False
        if not self._job.request.checksum:
            return trees.same_time(there.mtime_ns, source.mtime_ns)
        theirs = await self._job.files.checksum(self._target)
        await self._turns.run(lambda: source.seek(source.size, self._is_over))
        return theirs == source.checksum

    async def go(self) -> Pushed:
        """Send it.

        :raises ChecksumMismatch: something else arrived. :raises LoopsyError: it failed.
        """
        pushed = await self._job.insist(self._whole if self._source.size <= WHOLE else self._resumable)
        if pushed.checksum != self._source.checksum:
            raise ChecksumMismatch(
                f"{self._target} has the SHA-256 {pushed.checksum} there, {self._source.checksum} here"
            )
        return pushed

    async def _whole(self) -> Pushed:
        body = await self._body(0)
        try:
            begun = await self._begin(source=None, body=body)
        finally:
            body.stopProducing()  # a refusal may come before the body's end
        if isinstance(begun, Upload):
            raise TransferFailed("the peer took a whole file and did not finish it")
        return begun

    async def _resumable(self) -> Pushed:
        source = f"{self._job.node_id}:{self._path}:{self._source.tag}"
        begun = await self._begin(source=source, body=None)
        if isinstance(begun, Pushed):
            return begun
        body = await self._body(begun.offset)
        try:
            return await self._job.files.go_on(begun, body)
        finally:
            body.stopProducing()

    async def _begin(self, source: str | None, body: PieceBody | None) -> Upload | Pushed:
        offer = UploadOffer(
            path=self._target,
            filename=self._path.rstrip("/").rpartition("/")[2],
            length=self._source.size,
            source=source,
            mode=self._source.mode,
            mtime_ns=self._source.mtime_ns,
        )
        return await self._job.files.begin(offer, body)

    async def _body(self, offset: int) -> PieceBody:
        """The content from ``offset`` on. A first seek may read a long way, to hash what the peer has already."""
        await self._turns.run(lambda: self._source.seek(offset, self._is_over))
        self._job.tell(Step(done=offset - self._counted, current=self._path))
        self._counted = offset
        return PieceBody(self._turns, self._source.read, self._source.size - offset, self._went)

    def _went(self, size: int) -> None:
        self._counted += size
        self._job.went(size)

    def _is_over(self) -> bool:
        return self._job.cancelled
