"""Detached jobs: they go on without a reader, their output is kept, and what became of them is told truthfully, after a
restart of the daemon too."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import psutil
from attrs import evolve
from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from loopsy.core.principals import LOCAL, Local, Principal
from loopsy.errors import JobNotFound, StorageFull
from loopsy.services.clock import now_ms
from loopsy.services.execution import Sink
from loopsy.services.settings import Settings
from loopsy.services.storage import Storage
from loopsy.store import jobs as table
from loopsy.store import kept_output
from loopsy.store.kept_output import KeptOutput
from loopsy.wire import codec, frames
from loopsy.wire.execution import ENDED, LOST, RUNNING, ExecuteRequest, JobRecord, Outcome

PIECE = 64 * 1024
"""Bytes of kept output that are read at once."""


class Kept(Sink):
    """A detached job's sink: to disk, and to its first reader while he is there."""

    def __init__(self, service: Detached, record: JobRecord, owner: str, output: KeptOutput) -> None:
        self.record = record
        self.owner = owner
        self.output = output
        self.born: float | None = None
        self.reader: Sink | None = None
        self.watchers: list[Callable[[], None]] = []
        """Called when there is more, or the end."""
        self._service = service

    def out(self, data: bytes) -> None:
        """Standard output."""
        self._keep(frames.OUT, data)
        if self.reader is not None:
            self.reader.out(data)

    def err(self, data: bytes) -> None:
        """Standard error."""
        self._keep(frames.ERR, data)
        if self.reader is not None:
            self.reader.err(data)

    def _keep(self, kind: int, data: bytes) -> None:
        self.output.write(frames.encode(kind, data))
        for watcher in tuple(self.watchers):
            watcher()

    def done(self, outcome: Outcome) -> None:
        """It is over."""
        self._service.ended(self, outcome)
        if self.reader is not None:
            self.reader.done(outcome)

    def shown(self) -> JobRecord:
        """The record as it stands."""
        return evolve(self.record, output_bytes=self.output.end, dropped_bytes=self.output.begin)


class Detached(Service):
    """All detached jobs: those that run, and those that are over and not yet forgotten."""

    name = "detached"
    log = Logger()

    def __init__(self, settings: Settings, storage: Storage) -> None:
        self._settings = settings
        self._storage = storage
        self._live: dict[str, Kept] = {}
        self._over: dict[str, tuple[str, float | None, JobRecord]] = {}
        """By id: owner, birth of the process, record."""
        self._pending: set[Deferred[Any]] = set()

    def startService(self) -> None:
        """What ran when the daemon was killed is lost: nobody saw its end."""
        super().startService()
        for row in table.load(self._storage.reader):
            record = codec.parse_bytes(JobRecord, row.record.encode())
            if record.status == RUNNING:
                record = self._lost(record)
                self._store(row.owner, row.born, record)
            self._over[row.job_id] = (row.owner, row.born, record)
        self._forget_old()

    async def stopService(self) -> None:  # our parent awaits it
        """The jobs were ended by then; wait until that is on disk."""
        super().stopService()
        for done in tuple(self._pending):
            await done

    def _lost(self, record: JobRecord) -> JobRecord:
        old, new = kept_output.sizes(self._path(record.job_id))
        return evolve(record, status=LOST, output_bytes=max(record.output_bytes, old + new))

    def _path(self, job_id: str) -> Path:
        return self._settings.layout.jobs / job_id

    # -- life -----------------------------------------------------------------------------------------------------
    async def begin(self, request: ExecuteRequest, caller: Principal, from_node_id: str) -> Kept:
        """A detached job is about to start; on disk when this returns.

        :raises StorageFull: its output can't be kept.
        """
        job_id = str(uuid.uuid4())
        record = JobRecord(
            job_id=job_id,
            command=request.command,
            args=request.args,
            started_at=now_ms(),
            from_node_id=from_node_id,
            status=RUNNING,
        )
        try:
            self._settings.layout.jobs.mkdir(mode=0o700, exist_ok=True)
            output = KeptOutput(self._path(job_id), self._settings.config.execution.keep_output)
        except OSError as error:
            raise StorageFull(f"the output of a detached job can't be kept: {error.strerror}") from None
        kept = Kept(self, record, caller.name, output)
        try:
            await self._store(kept.owner, None, record)
        except BaseException:
            self._discard(kept)
            raise
        self._live[job_id] = kept
        return kept

    def started(self, kept: Kept, pid: int) -> None:
        """It has a process."""
        kept.record = evolve(kept.record, pid=pid)
        with suppress(psutil.Error):
            kept.born = psutil.Process(pid).create_time()
        if kept.record.status == RUNNING:
            self._store(kept.owner, kept.born, kept.record)

    def failed(self, kept: Kept) -> None:
        """It could not be started: there is nothing to tell of."""
        self._live.pop(kept.record.job_id, None)
        self._discard(kept)
        self._write(partial(table.delete, job_id=kept.record.job_id))

    def _discard(self, kept: Kept) -> None:
        kept.output.close()
        kept_output.remove(self._path(kept.record.job_id))

    def ended(self, kept: Kept, outcome: Outcome) -> None:
        """Its process is gone, and all of its output is here."""
        kept.output.write(frames.encode(frames.EXIT, codec.dump(outcome)))
        kept.output.close()
        kept.record = evolve(kept.shown(), status=ENDED, outcome=outcome, ended_at=now_ms())
        self._live.pop(kept.record.job_id, None)
        self._over[kept.record.job_id] = (kept.owner, kept.born, kept.record)
        self._store(kept.owner, kept.born, kept.record)
        self._forget_old()
        for watcher in tuple(kept.watchers):
            watcher()

    def _forget_old(self) -> None:
        """The oldest of whoever has most: a peer that starts many doesn't push out those of others."""
        while len(self._over) > self._settings.config.execution.keep_jobs:
            ((most, _),) = Counter(owner for owner, _, _ in self._over.values()).most_common(1)
            job_id = next(job_id for job_id, (owner, _, _) in self._over.items() if owner == most)
            del self._over[job_id]
            kept_output.remove(self._path(job_id))
            self._write(partial(table.delete, job_id=job_id))

    def _store(self, owner: str, born: float | None, record: JobRecord) -> Deferred[Any]:
        row = table.Row(record.job_id, owner, born, codec.dump(record).decode())
        return self._write(partial(table.put, row=row, started_at=record.started_at))

    def _write(self, operation: Any) -> Deferred[Any]:
        done = self._storage.write(operation)
        self._pending.add(done)

        def settled(result: Any) -> Any:
            self._pending.discard(done)
            return result

        return done.addBoth(settled)

    def disown(self, is_out: Callable[[str], bool]) -> None:
        """What is known of the jobs of each owner who, as ``is_out`` says, is trusted no longer, is this machine's
        user's from now on: who comes after him under his name doesn't inherit it."""
        for kept in self._live.values():
            if is_out(kept.owner):
                kept.owner = LOCAL.name
                self._store(kept.owner, kept.born, kept.record)
        for job_id, (owner, born, record) in self._over.items():
            if is_out(owner):
                self._over[job_id] = (LOCAL.name, born, record)
                self._store(LOCAL.name, born, record)

    # -- for whoever asks -----------------------------------------------------------------------------------------
    def records(self, caller: Principal) -> tuple[JobRecord, ...]:
        """Those that the caller may see: its own, and for the own key all; oldest first."""
        over = [record for owner, _, record in self._over.values() if _is_for(owner, caller)]
        live = [kept.shown() for kept in self._live.values() if _is_for(kept.owner, caller)]
        return (*over, *live)

    def record(self, job_id: str, caller: Principal) -> JobRecord:
        """One.

        :raises JobNotFound: the caller has none of this id.
        """
        kept = self._live.get(job_id)
        if kept is not None and _is_for(kept.owner, caller):
            return kept.shown()
        owner, born, record = self._over.get(job_id, ("", None, None))
        if record is None or not _is_for(owner, caller):
            raise JobNotFound(f"no detached job {job_id} is known here", hint="loopsy jobs --all shows them")
        return evolve(record, still_runs=still_runs(record.pid, born)) if record.status == LOST else record

    def live(self, job_id: str) -> Kept | None:
        """One that runs."""
        return self._live.get(job_id)

    def read(self, job_id: str, at: int) -> bytes:
        """Some of the kept output from offset ``at`` (of what was ever printed).

        :raises JobNotFound: that is no longer kept.
        """
        kept, over = self._live.get(job_id), self._over.get(job_id)
        begin = kept.output.begin if kept is not None else over[2].dropped_bytes if over is not None else at + 1
        if at < begin:
            raise JobNotFound("this part of the output is no longer kept")
        return kept_output.read(self._path(job_id), at - begin, PIECE)


def still_runs(pid: int | None, born: float | None) -> bool:
    """Whether the process of a lost job is there: of this id, and begun at the same moment. (Where nobody reaps it, it
    stays as a zombie.)"""
    if pid is None or born is None:
        return False
    try:
        process = psutil.Process(pid)
        return abs(process.create_time() - born) < 0.01 and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _is_for(owner: str, caller: Principal) -> bool:
    return isinstance(caller, Local) or owner == caller.name
