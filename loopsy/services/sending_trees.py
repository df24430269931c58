"""Sending a tree: what the peer lacks, small things in batches, large files a few at once, directories' times last."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from attrs import define, evolve, field
from twisted.internet.defer import Deferred

from loopsy.core import trees
from loopsy.core.transfer import below
from loopsy.core.transfers import Move, Step
from loopsy.core.trees import Plan, Rules
from loopsy.errors import TransferFailed
from loopsy.services.sending_files import FileSending
from loopsy.services.together import together
from loopsy.services.transferring import Job, parts_of
from loopsy.services.turns import PieceBody
from loopsy.store import ours
from loopsy.wire.transfer import DELETED, DIRECTORY, TOUCH, Applied, EntryFault, ManifestEntry

FAULTS_TOLD = 5
"""In the message; all are counted."""
LARGE_AT_ONCE = 3
"""While one is verified and synced the others move: measured, a third more than one by one (docs/decisions/013)."""


async def send_tree(job: Job, move: Move) -> None:
    """Make the peer's tree equal to ours.

    :raises TransferFailed: something could not be sent; the rest is there.
    """
    request = job.request
    theirs = Deferred.fromCoroutine(job.files.manifest(move.target, request.checksum, request.exclude))
    try:
        mine = await job.turns().run(lambda: our_manifest(job, move.source))
    except BaseException:
        theirs.addErrback(lambda _: None)
        theirs.cancel()
        raise
    there = decoded(await theirs)
    faults = faults_of(mine)
    plan = trees.plan([entry for entry in mine if entry.error is None], there, Rules(request.delete, request.checksum))
    expect(job, mine, plan)
    if request.dry_run:
        job.tell(Step(deleted=plan.deleted))
        return
    work = TreeSending(job, move)
    await work.go(plan)
    tell_faults([*faults, *work.faults], "sent")


def our_manifest(job: Job, source: str) -> list[ManifestEntry]:
    """Our tree."""
    return ours.manifest(job.policy, parts_of(source), job.request.checksum, job.request.exclude, lambda: job.cancelled)


def decoded(entries: Sequence[ManifestEntry]) -> list[ManifestEntry]:
    """A manifest from the wire, its paths as ours; one that leaves the root, or is no tree, is refused.

    :raises PathDenied: :raises InvalidRequest:
    """
    found = [ours.from_wire(entry) for entry in entries]
    trees.check(found)
    return found


def faults_of(entries: Sequence[ManifestEntry]) -> list[EntryFault]:
    """What could not be read of a tree, and what no file system could take."""
    told = [EntryFault(path=entry.path, error=entry.error, code=4005) for entry in entries if entry.error is not None]
    odd = [EntryFault(path=entry.path, error="no plain file", code=4001) for entry in entries if entry.type == "other"]
    return [*told, *(fault for fault in odd if fault.path not in {one.path for one in told})]


def expect(job: Job, source: Sequence[ManifestEntry], plan: Plan) -> None:
    """Tell how much there is, and how much of it is there already."""
    files = [entry for entry in source if entry.type in ("file", "symlink") and entry.error is None]
    size = sum(entry.size for entry in files if entry.type == "file")
    job.expect(size, len(files))
    job.tell(Step(skipped=plan.skipped, done=size - plan.bytes))


def tell_faults(faults: Sequence[EntryFault], verb: str) -> None:
    """:raises TransferFailed: there are any; names the first few."""
    if not faults:
        return
    first = "; ".join(f"{fault.path or '.'}: {fault.error}" for fault in faults[:FAULTS_TOLD])
    more = f"; and {len(faults) - FAULTS_TOLD} more" if len(faults) > FAULTS_TOLD else ""
    raise TransferFailed(f"{len(faults)} could not be {verb}: {first}{more}", hint="all else is there")


@define(eq=False)
class TreeSending:
    """One tree on its way."""

    _job: Job
    _move: Move
    faults: list[EntryFault] = field(factory=list)

    async def go(self, plan: Plan) -> None:
        """Take the steps of a plan."""
        before = [evolve(entry, type=DELETED, size=0, checksum=None) for entry in plan.remove]
        after = [*(evolve(entry, type=TOUCH, size=0) for entry in plan.mend), *plan.directories]
        requests = [list(batch) for batch in plan.batches] or [[]]
        requests[0] = [*before, *requests[0]]
        if not plan.large:
            requests[-1] += after
        for entries in requests:
            await self._apply(entries)
        await together((partial(self._send_large, entry) for entry in plan.large), LARGE_AT_ONCE)
        if plan.large:
            await self._apply(after)
        self._job.tell(Step(files=len(plan.mend)))

    async def _apply(self, entries: Sequence[ManifestEntry]) -> None:
        if not entries:
            return
        batch = BatchSending(self._job, self._move, entries)
        applied = await self._job.insist(batch.attempt)
        self._job.tell(Step(files=applied.files + applied.symlinks, deleted=batch.gone(applied.deleted)))
        kept = {entry.path for entry in entries if entry.type == DELETED} if self._job.request.exclude else set()
        self.faults += batch.unread
        self.faults += [fault for fault in applied.errors if ours.path_from_wire(fault.path) not in kept]

    async def _send_large(self, entry: ManifestEntry) -> None:
        job, path = self._job, f"{self._move.source.rstrip('/')}/{entry.path}"
        turns = job.turns()
        source = await turns.run(lambda: ours.source(job.policy, parts_of(self._move.source), below(entry.path)))
        try:
            await FileSending(job, source, path, f"{self._move.target.rstrip('/')}/{entry.path}").go()
            job.tell(Step(files=1))
        finally:
            await turns.run(source.close)


class BatchSending:
    """Some entries in one request, as often as it takes."""

    def __init__(self, job: Job, move: Move, entries: Sequence[ManifestEntry]) -> None:
        self._job, self._move, self._entries = job, move, entries
        self._turns = job.turns()
        self._counted = 0
        self.unread: list[EntryFault] = []

    async def attempt(self) -> Applied:
        """One request."""
        job = self._job
        job.tell(Step(done=-self._counted, current=self._entries[0].path or self._move.source))
        self._counted = 0
        content = ours.Content(job.policy, parts_of(self._move.source), self._entries)
        body = PieceBody(self._turns, content.read, None, self._went)
        try:
            applied = await job.files.apply(self._move.target, body)
        finally:
            body.stopProducing()
            await self._turns.run(content.close)
        job.tell(Step(done=content.bytes - self._counted))
        self._counted, self.unread = content.bytes, content.faults
        return applied

    def _went(self, size: int) -> None:
        self._counted += size
        self._job.went(size)

    def gone(self, deleted: int) -> int:
        """Deletions as a person counts them: what makes way for something of the same name isn't one."""
        named = {entry.path for entry in self._entries if entry.type not in (DELETED, DIRECTORY)}
        return max(0, deleted - sum(entry.type == DELETED and entry.path in named for entry in self._entries))
