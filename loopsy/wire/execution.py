"""Execution: running a command on a machine."""

from __future__ import annotations

from attrs import field, frozen

from loopsy.wire.checks import at_most, each_no_nul, env_names, no_nul, not_empty, one_of, within

DAY_MS = 24 * 3600 * 1000
KILL_GRACE_S = 5.0
"""Between TERM and KILL of a job's process group."""


@frozen(kw_only=True)
class ExecuteRequest:
    """``POST /execute`` and ``/execute/stream``. No shell reads the command."""

    command: str = field(validator=[not_empty, no_nul, at_most(4096)])
    args: tuple[str, ...] = field(default=(), validator=[at_most(100_000), each_no_nul])
    cwd: str | None = field(default=None, validator=[not_empty, no_nul])
    env: dict[str, str] | None = field(default=None, validator=[env_names, each_no_nul])
    """Added to the daemon's own environment."""
    timeout: float | None = field(default=None, validator=within(1, 30 * DAY_MS, "ms"))
    """Milliseconds; without it the machine's ``execution.defaultTimeout``."""
    stream: bool | None = None
    """Older nodes send it; the address decides."""
    encoding: str | None = field(default=None, validator=one_of("utf-8", "base64"))
    """How an event stream holds output: text (with replacement) or base64 (exact)."""
    detach: bool = False
    """The job goes on when its reader disconnects."""


@frozen(kw_only=True)
class Outcome:
    """How a process ended."""

    exit_code: int | None
    """None when a signal ended it."""
    signal: str | None = None
    """``SIGKILL`` …, when a signal ended it."""
    killed: bool = False
    """loopsy ended it, or a signal did."""
    reason: str | None = None
    """``timeout``, ``cancelled`` or ``stopped`` (the daemon was) when loopsy ended it."""
    duration: int = 0
    """Milliseconds."""


@frozen(kw_only=True)
class ExecuteResult:
    """The answer of ``POST /execute``."""

    job_id: str
    exit_code: int | None = field(default=None, metadata={"null": True})
    stdout: str
    stderr: str
    duration: int
    """Milliseconds."""
    killed: bool
    truncated: bool = False
    """One of the two outputs was larger than the machine's ``execution.maxOutput``; the rest was thrown away."""
    signal: str | None = None
    reason: str | None = None


@frozen(kw_only=True)
class JobInfo:
    """A running job, in ``GET /execute/jobs``."""

    job_id: str
    command: str
    args: tuple[str, ...]
    started_at: int
    """ms since the epoch."""
    from_node_id: str
    pid: int | None = None
    detached: bool = False


RUNNING, ENDED, LOST = "running", "ended", "lost"


@frozen(kw_only=True)
class JobRecord:
    """A detached job, while it runs and after."""

    job_id: str
    command: str
    args: tuple[str, ...]
    started_at: int
    from_node_id: str
    status: str
    """``running``; ``ended``, and ``outcome`` says how; ``lost``: the daemon was killed while it ran, so nobody saw."""
    pid: int | None = None
    outcome: Outcome | None = None
    ended_at: int | None = None
    still_runs: bool | None = None
    """Of a lost one: whether its process is there at this moment."""
    output_bytes: int = 0
    """What it printed, of which the last part is kept."""
    dropped_bytes: int = 0
    """Of that, what is no longer kept."""


@frozen(kw_only=True)
class JobRecords:
    """``GET /execute/jobs?all=1``: what runs, and the detached ones that are over, oldest first."""

    jobs: tuple[JobInfo, ...]
    detached: tuple[JobRecord, ...]


@frozen(kw_only=True)
class JobList:
    """``GET /execute/jobs``."""

    jobs: tuple[JobInfo, ...]


@frozen(kw_only=True)
class JobCancelled:
    """``DELETE /execute/<jobId>``."""

    success: bool
    job_id: str
