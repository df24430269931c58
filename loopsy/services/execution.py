"""Running commands: admitted by core, started, bounded in time and number, ended as whole groups."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable, Mapping
from typing import Protocol

from attrs import frozen
from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall

from loopsy.core import commands
from loopsy.core import execution as rules
from loopsy.core.execution import Job, JobTable, Reason
from loopsy.core.principals import LOCAL, Principal, Scope, still_may
from loopsy.errors import Forbidden, InternalError
from loopsy.services.clock import now_ms
from loopsy.services.events import Events
from loopsy.services.processes import Command, ProcessGroup, Reactor, Receiver, spawn
from loopsy.services.settings import Settings
from loopsy.services.starters import Starters
from loopsy.wire.execution import ExecuteRequest, ExecuteResult, JobInfo, Outcome

HIDDEN_PREFIX = "LOOPSY_"
"""Our own variables (a key may be among them) are not passed on to what we start."""


class Sink(Protocol):
    """Where a job's output goes."""

    def out(self, data: bytes) -> None:
        """Some standard output."""

    def err(self, data: bytes) -> None:
        """Some standard error."""

    def done(self, outcome: Outcome) -> None:
        """The job is over."""


class RunningJob(Receiver):
    """One job between its process and its sink."""

    def __init__(self, service: Execution, job_id: str, sink: Sink) -> None:
        self.job_id = job_id
        self.sink = sink
        self.group: ProcessGroup | None = None
        self.timeout: IDelayedCall | None = None
        self._service = service
        self._started = time.monotonic()

    def out(self, data: bytes) -> None:
        """From the process."""
        self.sink.out(data)

    def err(self, data: bytes) -> None:
        """From the process."""
        self.sink.err(data)

    def ended(self, status: int) -> None:
        """From the process."""
        duration = round((time.monotonic() - self._started) * 1000)
        self._service.job_ended(self, status, duration)

    def pause(self) -> None:
        """Read no more output."""
        if self.group is not None:
            self.group.pause()

    def resume(self) -> None:
        """Read on."""
        if self.group is not None:
            self.group.resume()


class Execution(Service):
    """The jobs of this machine."""

    name = "execution"

    def __init__(self, reactor: Reactor, settings: Settings, events: Events) -> None:
        self._reactor = reactor
        self._events = events
        self._settings = settings
        self._pool = Starters(reactor)
        self._table = JobTable()
        self._live: dict[str, RunningJob] = {}
        self._all_gone: Deferred[None] | None = None

    def startService(self) -> None:
        """Start the thread pool (threads come with the first job)."""
        super().startService()
        self._pool.start()

    async def stopService(self) -> None:  # our parent awaits it
        """End every job, wait until all are gone, and stop the threads."""
        await self.end_all()
        self._pool.stop()

    async def end_all(self) -> None:
        """Admit no more jobs, end those that run, and wait until all are gone."""
        super().stopService()
        for info in self._table.infos(LOCAL):
            self._end(info.job_id, "stopped")
        if len(self._table):
            self._all_gone = self._all_gone or Deferred()
            await self._all_gone

    # -- jobs -------------------------------------------------------------------------------------------------------
    async def start(
        self,
        request: ExecuteRequest,
        caller: Principal,
        from_node_id: str,
        sink: Sink,
        *,
        has_input: bool = False,
        job_id: str | None = None,
    ) -> RunningJob:
        """Start a command for ``caller``, known to others as ``from_node_id``; its output goes to ``sink``. With
        ``has_input`` its group is written to, else it reads from nothing.

        :raises CommandDenied: :raises TooManyJobs: :raises CommandFailedToStart: :raises Forbidden:
        """
        policy = self._settings.config.execution
        commands.check(request.command, request.args, policy, request.env or ())
        if not self.running:
            raise InternalError("the daemon is stopping")
        if not still_may(self._settings.config.auth, caller.name, Scope.EXECUTE):
            raise Forbidden(f"peer {caller.name} may not use execute here")  # since it asked, and waited for the disk
        info = JobInfo(
            job_id=job_id or str(uuid.uuid4()),
            command=request.command,
            args=request.args,
            started_at=now_ms(),
            from_node_id=from_node_id,
            detached=request.detach,
        )
        self._table.admit(info, caller, policy.max_concurrent)
        job = RunningJob(self, info.job_id, sink)
        try:
            job.group = await spawn(self._reactor, self._pool, self._command(request, has_input), job)
        except BaseException:
            self._table.dropped(info.job_id)
            self._tell_if_all_gone()
            raise
        self._live[info.job_id] = job
        self._table.spawned(info.job_id, job.group.pid)
        self._tell("job.started", self._table.get(info.job_id))
        timeout_ms = request.timeout if request.timeout is not None else policy.default_timeout
        job.timeout = self._reactor.callLater(timeout_ms / 1000, self._end, info.job_id, "timeout")
        if self._table.is_ending(info.job_id):  # it was cancelled while it started
            job.group.end()
        return job

    def _command(self, request: ExecuteRequest, has_input: bool) -> Command:
        return Command(
            argv=(request.command, *request.args),
            cwd=os.path.expanduser(request.cwd) if request.cwd else home(),
            env={**inherited(os.environ), **(request.env or {})},
            has_input=has_input,
        )

    async def run(
        self, request: ExecuteRequest, caller: Principal, from_node_id: str, capture: Capture
    ) -> ExecuteResult:
        """Run a command to its end and answer with its output.

        :raises CommandDenied: :raises TooManyJobs: :raises CommandFailedToStart:
        """
        job = await self.start(request, caller, from_node_id, capture)
        capture.job_id = job.job_id
        if capture.is_abandoned:  # while it was being started
            self.cancel_if_running(job.job_id)
        outcome = await capture.over
        return ExecuteResult(
            job_id=job.job_id,
            exit_code=outcome.exit_code,
            stdout=capture.stdout.text(),
            stderr=capture.stderr.text(),
            duration=outcome.duration,
            killed=outcome.killed,
            truncated=capture.stdout.truncated or capture.stderr.truncated,
            signal=outcome.signal,
            reason=outcome.reason,
        )

    def cancel(self, job_id: str, caller: Principal) -> None:
        """End a job's whole process group.

        :raises JobNotFound: the caller has no such job.
        """
        self._table.seen_by(caller, job_id)
        self._end(job_id, "cancelled")

    def abandon(self, capture: Capture) -> None:
        """Nobody waits for this output any more."""
        capture.is_abandoned = True
        self.cancel_if_running(capture.job_id)

    def cancel_if_running(self, job_id: str) -> None:
        """The same for whoever does not know whether it is over."""
        if job_id in self._live:
            self._end(job_id, "cancelled")

    def end_of(self, is_out: Callable[[str], bool]) -> None:
        """End the jobs of each owner of whom ``is_out`` says that he may run none any more."""
        for info in self._table.infos(LOCAL):
            if is_out(self._table.get(info.job_id).owner):
                self._end(info.job_id, "cancelled")

    def _end(self, job_id: str, reason: Reason) -> None:
        if not self._table.end(job_id, reason):
            return
        job = self._live.get(job_id)
        if job is not None and job.group is not None:
            job.group.end()

    def job_ended(self, job: RunningJob, status: int, duration_ms: int) -> None:
        """A job's process is gone."""
        if job.timeout is not None and job.timeout.active():
            job.timeout.cancel()
        self._live.pop(job.job_id, None)
        was = self._table.get(job.job_id)
        outcome = self._table.gone(job.job_id, status, duration_ms)
        self._tell("job.ended", was, outcome)
        try:
            job.sink.done(outcome)
        finally:
            self._tell_if_all_gone()

    def _tell(self, kind: str, job: Job, outcome: Outcome | None = None) -> None:
        """Of a peer's job that peer may know; of our own user's nobody else."""
        owner = None if job.owner == LOCAL.name else job.owner
        scope = None if owner is None else Scope.EXECUTE
        self._events.publish(kind, rules.in_short(job, outcome), scope=scope, owner=owner)

    def _tell_if_all_gone(self) -> None:
        if not len(self._table) and self._all_gone is not None:
            done, self._all_gone = self._all_gone, None
            done.callback(None)

    def jobs(self, caller: Principal) -> tuple[JobInfo, ...]:
        """What runs now, as far as the caller may see it."""
        return self._table.infos(caller)

    @property
    def active(self) -> int:
        """How many run now."""
        return len(self._table)

    @property
    def total(self) -> int:
        """How many were started since the daemon was."""
        return self._table.total


def home() -> str | None:
    """Where commands start, as with ssh: the user's home, where there is one."""
    path = os.path.expanduser("~")
    try:
        return None if os.path.samefile(path, ".") else path
    except OSError:
        return None


def inherited(environment: Mapping[str, str]) -> dict[str, str]:
    """The daemon's environment as its children may see it."""
    return {name: value for name, value in environment.items() if not name.startswith(HIDDEN_PREFIX)}


class Kept:
    """The first bytes of an output; the rest is counted as thrown away."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._parts: list[bytes] = []
        self._size = 0
        self.truncated = False

    def add(self, data: bytes) -> None:
        """Some more."""
        room = self._limit - self._size
        if len(data) > room:
            self.truncated = True
            data = data[:room]
        if data:
            self._parts.append(data)
            self._size += len(data)

    def text(self) -> str:
        """As UTF-8, with replacement; a character cut by the limit is left out."""
        data = b"".join(self._parts)
        self._parts.clear()
        if self.truncated:
            data = data[: _whole_characters(data)]
        return data.decode("utf-8", "replace")


def _whole_characters(data: bytes) -> int:
    """The length of ``data`` without a last character that is not all there."""
    for back in range(1, min(4, len(data)) + 1):
        byte = data[-back]
        if byte & 0xC0 != 0x80:
            need = 2 if byte >> 5 == 6 else 3 if byte >> 4 == 14 else 4 if byte >> 3 == 30 else 1
            return len(data) - back if need > back else len(data)
    return len(data)


class Capture(Sink):
    """Keeps what a job prints, up to a limit each, until it is over."""

    def __init__(self, limit: int) -> None:
        self.job_id = ""
        self.is_abandoned = False
        self.stdout, self.stderr = Kept(limit), Kept(limit)
        self.over: Deferred[Outcome] = Deferred()

    def out(self, data: bytes) -> None:
        """Keep it."""
        self.stdout.add(data)

    def err(self, data: bytes) -> None:
        """Keep it."""
        self.stderr.add(data)

    def done(self, outcome: Outcome) -> None:
        """Tell."""
        self.over.callback(outcome)


@frozen
class Discard(Sink):
    """For a detached job that nobody reads any more."""

    def out(self, data: bytes) -> None:
        """Throw it away."""

    def err(self, data: bytes) -> None:
        """Throw it away."""

    def done(self, outcome: Outcome) -> None:
        """Nobody asks."""
