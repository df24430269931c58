"""The life of a job, and the table of those that run.

    Starting ──spawned──▶ Running ──exited──▶ (gone from the table)
        │                    │ cancel, timeout
        └──failed──▶ (gone)  └──▶ Ending ──exited──▶ (gone)

A job counts against ``execution.maxConcurrent`` from its start until its process is gone.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from typing import Any, Literal

from attrs import evolve, frozen

from loopsy.core.principals import Local, Principal
from loopsy.errors import JobNotFound, TooManyJobs
from loopsy.wire import codec
from loopsy.wire.execution import JobInfo, Outcome

TOLD = 4096
"""Characters of a command's arguments in an event."""
Reason = Literal["timeout", "cancelled", "stopped"]
"""Why loopsy ended a job; ``stopped``: the daemon was."""


@frozen(kw_only=True)
class Starting:
    """Admitted; no process yet."""

    info: JobInfo
    owner: str
    """Who started it, by the caller's name: a node id may become known only while it runs."""


@frozen(kw_only=True)
class Running:
    """Its process group is alive."""

    info: JobInfo
    owner: str


@frozen(kw_only=True)
class Ending:
    """Its process group was told to end, and why."""

    info: JobInfo
    owner: str
    reason: Reason


Job = Starting | Running | Ending


class JobTable:
    """The jobs of this machine, by id."""

    def __init__(self) -> None:
        self._jobs: dict[str, Job] = {}
        self.total = 0

    def admit(self, info: JobInfo, owner: Principal, limit: int) -> None:
        """A new job starts for ``owner``. What peers run doesn't keep this machine's user from running as much.

        :raises TooManyJobs: ``limit`` jobs run already.
        """
        running = len(self._jobs)
        if isinstance(owner, Local):
            running = sum(job.owner == owner.name for job in self._jobs.values())
        if running >= limit:
            raise TooManyJobs(
                f"{running} jobs run here already (execution.maxConcurrent: {limit})",
                retry_after=1,
                hint="wait for one to end, or cancel one: loopsy jobs",
            )
        self._jobs[info.job_id] = Starting(info=info, owner=owner.name)
        self.total += 1

    def spawned(self, job_id: str, pid: int) -> None:
        """It has a process now."""
        job = self._jobs[job_id]
        info = evolve(job.info, pid=pid)
        is_ending = isinstance(job, Ending)
        self._jobs[job_id] = evolve(job, info=info) if is_ending else Running(info=info, owner=job.owner)

    def end(self, job_id: str, reason: Reason) -> bool:
        """It shall end for ``reason``; the first reason stays. False: it was ending already.

        :raises JobNotFound: no such job runs.
        """
        job = self.get(job_id)
        if isinstance(job, Ending):
            return False
        self._jobs[job_id] = Ending(info=job.info, owner=job.owner, reason=reason)
        return True

    def is_ending(self, job_id: str) -> bool:
        """Whether it was told to end."""
        return isinstance(self._jobs.get(job_id), Ending)

    def gone(self, job_id: str, status: int, duration_ms: int) -> Outcome:
        """Its process is gone: ``status`` is an exit code, or minus a signal's number, as subprocess gives it."""
        job = self._jobs.pop(job_id)
        reason = job.reason if isinstance(job, Ending) else None
        return outcome(status, duration_ms, reason)

    def dropped(self, job_id: str) -> None:
        """It never got a process."""
        self._jobs.pop(job_id, None)

    def get(self, job_id: str) -> Job:
        """One job.

        :raises JobNotFound: no such job runs.
        """
        job = self._jobs.get(job_id)
        if job is None:
            raise _missing(job_id)
        return job

    def seen_by(self, caller: Principal, job_id: str) -> Job:
        """One job, if it is the caller's: this machine's user has all of them, a peer those that it started.

        :raises JobNotFound: no such job runs, or it is another's: whose, or whether, is nobody else's business.
        """
        job = self.get(job_id)
        if not _is_for(job, caller):
            raise _missing(job_id)
        return job

    def infos(self, caller: Principal) -> tuple[JobInfo, ...]:
        """The jobs that the caller may see, oldest first."""
        return tuple(job.info for job in self._jobs.values() if _is_for(job, caller))

    def __len__(self) -> int:
        return len(self._jobs)


def _is_for(job: Job, caller: Principal) -> bool:
    return isinstance(caller, Local) or job.owner == caller.name


def in_short(job: Job, outcome: Outcome | None = None) -> dict[str, Any]:
    """A job, and how it ended, as an event tells it."""
    shown: dict[str, Any] = codec.plain_value(evolve(job.info, args=tuple(_cut(job.info.args))))
    return shown if outcome is None else {**shown, **codec.plain_value(outcome), "exitCode": outcome.exit_code}


def _cut(args: Sequence[str]) -> Iterator[str]:
    """As many arguments as a notice has room for."""
    room = TOLD
    for arg in args:
        if len(arg) > room:
            yield arg[:room] + "…"
            return
        room -= len(arg) + 1
        yield arg


def _missing(job_id: str) -> JobNotFound:
    return JobNotFound(f"no job {job_id} runs here")


def outcome(status: int, duration_ms: int, reason: Reason | None) -> Outcome:
    """What a process's status means."""
    if status >= 0:
        return Outcome(exit_code=status, killed=reason is not None, reason=reason, duration=duration_ms)
    return Outcome(exit_code=None, signal=signal_name(-status), killed=True, reason=reason, duration=duration_ms)


def signal_name(number: int) -> str:
    """``9`` → ``SIGKILL``."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"SIG{number}"
