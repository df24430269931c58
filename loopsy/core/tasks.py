"""The life of an AI task, who waits for a slot, and who may see or loosen what.

    Pending ──begin──▶ Running ⇄ Waiting (for approvals)
       │                  │          │ end: cancel, time, stop …
       │                  │          └──▶ Ending ──gone──▶ Over
       └──end──▶ Over ◀───┴──gone───────────────────────────┘

Each state is a type that holds what is known in it alone. A Waiting task that shall end has its approvals denied first.
"""

from __future__ import annotations

from typing import Literal

from attrs import evolve, frozen

from loopsy.core.principals import Local, PeerPrincipal, Principal, Scope
from loopsy.errors import Forbidden, NoPendingApproval, TaskIsOver, TaskNotFound
from loopsy.wire.tasks import (
    ACCEPT_EDITS,
    BYPASS,
    CANCELLED,
    COMPLETED,
    FAILED,
    PENDING,
    RUNNING,
    WAITING,
    Approval,
    CreateTask,
    Task,
    TaskResult,
)

APPROVALS = 64
"""That one task may wait for at once; agents ask for a handful."""
RESTARTED = "the daemon was restarted"

Reason = Literal["cancelled", "distrusted", "timeout", "stopped", "flood", "deaf", "storage"]
"""Why a task is ended before its agent is done."""
ERRORS = {
    "distrusted": "the machine that asked for it may no longer",
    "timeout": "its time was over",
    "stopped": "the daemon was stopped",
    "flood": "it made far more events than are kept",
    "deaf": "it asked on without reading its answers",
    "storage": "the daemon could not write its database",
}


# -- states -----------------------------------------------------------------------------------------------------------
@frozen(kw_only=True)
class Pending:
    """It waits for a slot."""


@frozen(kw_only=True)
class Running:
    """Its agent runs, or is being started (no ``pid`` yet)."""

    pid: int | None = None


@frozen(kw_only=True)
class Waiting:
    """Its agent waits for answers, oldest first; never none."""

    pid: int | None
    approvals: tuple[Approval, ...]


@frozen(kw_only=True)
class Ending:
    """Its process group was told to end."""

    pid: int | None
    reason: Reason


@frozen(kw_only=True)
class Over:
    """Final."""

    status: str
    at: int
    """ms since the epoch."""
    exit_code: int | None = None
    error: str | None = None


State = Pending | Running | Waiting | Ending | Over


@frozen(kw_only=True)
class Plan:
    """What was asked for, by whom; it never changes."""

    task_id: str
    asked: CreateTask
    title: str
    cwd: str
    owner: str
    """The caller's name."""
    from_node_id: str
    at: int
    """When it was asked for, ms since the epoch."""
    worktree: str | None = None
    resumes: str | None = None


@frozen(kw_only=True)
class Life:
    """A task: its plan, its state, and what was learnt on the way."""

    plan: Plan
    state: State
    updated_at: int
    model: str | None = None
    session_id: str | None = None
    result: TaskResult | None = None
    agent_error: str | None = None
    """What the agent said was wrong."""


# -- transitions ------------------------------------------------------------------------------------------------------
def begin(life: Life) -> Life:
    """It has a slot."""
    assert isinstance(life.state, Pending)
    return evolve(life, state=Running())


def spawned(life: Life, pid: int) -> Life:
    """Its agent has a process (and may have been told to end meanwhile)."""
    assert isinstance(life.state, Running | Ending)
    return evolve(life, state=evolve(life.state, pid=pid))


def asked(life: Life, approval: Approval) -> Life:
    """The agent waits for one more answer."""
    match life.state:
        case Running(pid=pid):
            return evolve(life, state=Waiting(pid=pid, approvals=(approval,)))
        case Waiting(approvals=before) as state:
            return evolve(life, state=evolve(state, approvals=(*before, approval)))
    raise AssertionError(f"nothing is asked in {life.state}")


def settled(life: Life, request_id: str) -> Life:
    """One answer less is waited for.

    :raises NoPendingApproval: it does not wait.
    """
    state = life.state
    if not isinstance(state, Waiting) or all(one.request_id != request_id for one in state.approvals):
        raise NoPendingApproval(f"no approval {request_id} waits")
    left = tuple(one for one in state.approvals if one.request_id != request_id)
    return evolve(life, state=evolve(state, approvals=left) if left else Running(pid=state.pid))


def end(life: Life, reason: Reason, now: int) -> Life:
    """It shall end; the first reason stays. What never ran is over at once.

    :raises TaskIsOver: it is.
    """
    match life.state:
        case Pending():
            return evolve(life, state=_ended(reason, now))
        case Running(pid=pid) | Waiting(pid=pid):
            return evolve(life, state=Ending(pid=pid, reason=reason))
        case Over():
            raise TaskIsOver(f"task {life.plan.task_id} is {life.state.status} already")
    return life


def gone(life: Life, exit_code: int | None, now: int, fault: str | None = None) -> Life:
    """Its process is gone, or never came to be because of ``fault``."""
    state = life.state
    if isinstance(state, Ending):
        over = _ended(state.reason, now)
    elif life.result is not None and not life.result.is_error:
        over = Over(status=COMPLETED, at=now)
    else:
        error = fault or life.agent_error or _without_result(life, exit_code)
        over = Over(status=FAILED, at=now, error=error)
    return evolve(life, state=evolve(over, exit_code=exit_code))


def _ended(reason: Reason, now: int) -> Over:
    status = CANCELLED if reason in ("cancelled", "distrusted") else FAILED
    return Over(status=status, at=now, error=ERRORS.get(reason))


def _without_result(life: Life, exit_code: int | None) -> str:
    if life.result is not None:
        return life.result.text[:1000] or f"{life.plan.asked.agent} ended with an error"
    how = "was ended by a signal" if exit_code is None else f"exited with status {exit_code}"
    return f"{life.plan.asked.agent} {how} before it gave a result"


def restarted(task: Task, last_seq: int, now: int) -> Task:
    """A task that was found running when the daemon started."""
    return evolve(
        task,
        status=FAILED,
        error=RESTARTED,
        completed_at=now,
        updated_at=now,
        pid=None,
        pending_approval=None,
        pending_approvals=0,
        last_seq=last_seq,
    )


# -- as others see it -------------------------------------------------------------------------------------------------
def status_of(state: State) -> str:
    """The word for a state."""
    match state:
        case Pending():
            return PENDING
        case Waiting():
            return WAITING
        case Over(status=status):
            return status
    return RUNNING


def view(life: Life, last_seq: int, queue_position: int | None = None) -> Task:
    """A task as the wire shows it."""
    plan, state = life.plan, life.state
    over = state if isinstance(state, Over) else None
    waiting = state.approvals if isinstance(state, Waiting) else ()
    return Task(
        task_id=plan.task_id,
        prompt=plan.asked.prompt,
        title=plan.title,
        agent=plan.asked.agent,
        status=status_of(state),
        cwd=plan.cwd,
        permission_mode=plan.asked.permission_mode,
        from_node_id=plan.from_node_id,
        from_=plan.owner,
        started_at=plan.at,
        updated_at=max(life.updated_at, over.at if over else 0),
        last_seq=last_seq,
        completed_at=over.at if over else None,
        pid=state.pid if isinstance(state, Running | Waiting | Ending) else None,
        exit_code=over.exit_code if over else None,
        error=over.error if over else None,
        model=life.model or plan.asked.model,
        session_id=life.session_id,
        pending_approval=waiting[0] if waiting else None,
        pending_approvals=len(waiting),
        result=life.result,
        queue_position=queue_position,
        worktree=plan.worktree,
        resumes=plan.resumes,
    )


def title_of(asked: CreateTask) -> str:
    """What lists call it: as asked, or the prompt's first line that says anything."""
    lines = (line.strip() for line in asked.prompt.splitlines())
    return asked.title or next((line[:80] for line in lines if line), "(no words)")


# -- who may ----------------------------------------------------------------------------------------------------------
def check_may_ask(caller: Principal, asked: CreateTask) -> None:
    """Whether the caller may have a task with so few questions.

    :raises Forbidden: only this machine's user, or whom he lets approve, may loosen what is asked.
    """
    if isinstance(caller, Local):
        return
    if asked.additional_args:
        raise Forbidden("additionalArgs: only this machine's own key may do this")
    loose = [
        *(["permissionMode"] if asked.permission_mode in (BYPASS, ACCEPT_EDITS) else []),
        *(["allowedTools"] if asked.allowed_tools else []),
    ]
    if loose and not (isinstance(caller, PeerPrincipal) and Scope.APPROVE in caller.scopes):
        raise Forbidden(
            f"{loose[0]}: peer {caller.name} may not approve what its own tasks ask, nor have them ask less",
            hint="that machine's user can change that: loopsy peers scope <this machine> all,approve",
        )


def check_is_for(caller: Principal, owner: str, task_id: str) -> None:
    """A task is its owner's, and this machine's user's.

    :raises TaskNotFound: it is another's: whether there is one is nobody else's business.
    """
    if not isinstance(caller, Local) and owner != caller.name:
        raise missing(task_id)


def missing(task_id: str) -> TaskNotFound:
    """The error for a task that isn't there."""
    return TaskNotFound(f"there is no task {task_id[:80]!r} here")
