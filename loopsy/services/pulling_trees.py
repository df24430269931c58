"""Pulling a tree: what we lack, small files in one stream, large ones a few at once, directories' times last.

What the peer says of its tree is not trusted: every path stays below the root, and no symlink below it is followed.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from attrs import define, field
from twisted.internet.defer import Deferred

from loopsy.core import trees
from loopsy.core.transfer import below
from loopsy.core.transfers import Move, Step
from loopsy.core.trees import Plan, Rules
from loopsy.errors import FileMissing
from loopsy.services.pulling_files import FilePulling
from loopsy.services.sending_trees import LARGE_AT_ONCE, decoded, expect, faults_of, our_manifest, tell_faults
from loopsy.services.together import together
from loopsy.services.transferring import Job, parts_of
from loopsy.services.turns import InTurn, ThreadedTaker
from loopsy.store.arrival import Arrival
from loopsy.wire.transfer import FILE, EntryFault, ManifestEntry


async def pull_tree(job: Job, move: Move) -> None:
    """Make our tree equal to the peer's.

    :raises TransferFailed: something could not be pulled; the rest is here.
    """
    request = job.request
    coming = Deferred.fromCoroutine(job.files.manifest(move.source, request.checksum, request.exclude))
    try:
        here = await job.turns().run(lambda: our_manifest(job, move.target))
    except BaseException:
        coming.addErrback(lambda _: None)
        coming.cancel()
        raise
    theirs = decoded(await coming)
    if not theirs:
        raise FileMissing(f"{move.source} does not exist on {job.peer}")
    plan = trees.plan([entry for entry in theirs if entry.error is None], here, Rules(request.delete, request.checksum))
    expect(job, theirs, plan)
    if request.dry_run:
        job.tell(Step(deleted=plan.deleted))
        return
    work = TreePulling(job, move)
    try:
        await work.go(plan)
    finally:
        await work.close()
    tell_faults([*faults_of(theirs), *work.faults], "pulled")


@define(eq=False)
class TreePulling:
    """One tree on its way."""

    _job: Job
    _move: Move
    faults: list[EntryFault] = field(factory=list)
    _turns: InTurn = field(init=False)
    _arrival: Arrival | None = None

    def __attrs_post_init__(self) -> None:
        self._turns = self._job.turns()

    async def go(self, plan: Plan) -> None:
        """Take the steps of a plan."""
        arrival = await self._turns.run(lambda: Arrival(self._job.policy, parts_of(self._move.target)))
        self._arrival = arrival
        kept = bool(self._job.request.exclude)
        await self._turns.run(lambda: arrival.remove(plan.remove, kept))
        self._job.tell(Step(deleted=plan.deleted))
        for batch in plan.batches:
            await self._batch(arrival, batch)
        await together((partial(self._pull_large, arrival, entry) for entry in plan.large), LARGE_AT_ONCE)
        await self._turns.run(lambda: arrival.mend([*plan.mend, *plan.directories]))
        self._job.tell(Step(files=len(plan.mend)))
        self.faults += arrival.faults

    async def _batch(self, arrival: Arrival, batch: Sequence[ManifestEntry]) -> None:
        made = await self._turns.run(lambda: arrival.make([entry for entry in batch if entry.type != FILE]))
        self._job.tell(Step(files=made))
        wanted = [entry.path for entry in batch if entry.type == FILE]
        await self._job.insist(lambda: self._fetch(arrival, wanted))

    async def _fetch(self, arrival: Arrival, paths: Sequence[str]) -> None:
        """One stream of small files; those that came before it broke off are not asked for again."""
        left = [path for path in paths if path not in arrival.done]
        if not left:
            return
        arrival.begin(left)
        self._job.tell(Step(current=left[0]))
        taker = ThreadedTaker(self._turns, arrival.take, lambda _: self._went(arrival))
        try:
            await self._job.files.fetch(self._move.source, left, taker.receiver)
        finally:
            await taker.rest()
        arrival.end()

    def _went(self, arrival: Arrival) -> None:
        size, files = arrival.news()
        self._job.went(size)
        self._job.tell(Step(files=files))

    async def _pull_large(self, arrival: Arrival, entry: ManifestEntry) -> None:
        parts = below(entry.path)
        pulling = FilePulling(self._job, f"{self._move.source.rstrip('/')}/{entry.path}", lambda: arrival.place(parts))
        try:
            await self._job.insist(pulling.go)
            self._job.tell(Step(files=1))
        finally:
            await pulling.close()

    async def close(self) -> None:
        """Let go of the directories."""
        if self._arrival is not None:
            await self._turns.run(self._arrival.close)
