"""AI tasks: what is asked for and shown, and the events of all agents in one vocabulary (docs/protocol/tasks.md)."""

from __future__ import annotations

import re
from typing import Any

from attrs import field, frozen

from loopsy.wire.checks import at_least, at_most, each_no_nul, no_nul, not_empty, one_of, within

CLAUDE, CODEX, GEMINI = "claude", "codex", "gemini"
AGENTS = (CLAUDE, CODEX, GEMINI)
DEFAULT, ACCEPT_EDITS, BYPASS, DONT_ASK = "default", "acceptEdits", "bypassPermissions", "dontAsk"
PERMISSION_MODES = (DEFAULT, ACCEPT_EDITS, BYPASS, DONT_ASK)
PENDING, RUNNING, WAITING, COMPLETED, FAILED, CANCELLED = (
    "pending",
    "running",
    "waiting_approval",
    "completed",
    "failed",
    "cancelled",
)
STATUSES = (PENDING, RUNNING, WAITING, COMPLETED, FAILED, CANCELLED)
FINAL = frozenset({COMPLETED, FAILED, CANCELLED})
TEXT, THINKING, TOOL_USE, TOOL_RESULT = "text", "thinking", "tool_use", "tool_result"
PERMISSION_REQUEST, PERMISSION_ANSWER = "permission_request", "permission_answer"
STATUS, ERROR, RESULT, EXIT, SYSTEM = "status", "error", "result", "exit", "system"
EVENT_TYPES = (
    *(TEXT, THINKING, TOOL_USE, TOOL_RESULT, PERMISSION_REQUEST, PERMISSION_ANSWER),
    *(STATUS, ERROR, RESULT, EXIT, SYSTEM),
)
ONCE, TASK, ALWAYS = "once", "task", "always"
KINDS = ("command", "edit", "read", "network", "tool")
PROMPT_MAX = 256 * 1024
RULE_SHAPE = re.compile(r"(allow|deny)\s+(?:(claude|codex|gemini):)?((?:[\w*.-]|\\.)+)(?:\((.*)\))?", re.DOTALL)
"""``allow|deny [agent:]Tool(pattern)``; core/rules says what it fits."""


@frozen(kw_only=True)
class CreateTask:
    """``POST /ai-tasks``."""

    prompt: str = field(validator=[not_empty, no_nul, at_most(PROMPT_MAX)])
    agent: str = field(default=CLAUDE, validator=one_of(*AGENTS))
    cwd: str | None = field(default=None, validator=[not_empty, no_nul])
    permission_mode: str = field(default=DEFAULT, validator=one_of(*PERMISSION_MODES))
    model: str | None = field(default=None, validator=[not_empty, no_nul, at_most(200)])
    max_budget_usd: float | None = field(default=None, validator=within(0.01, 10_000, "USD"))
    allowed_tools: tuple[str, ...] = field(default=(), validator=[each_no_nul, at_most(200)])
    disallowed_tools: tuple[str, ...] = field(default=(), validator=[each_no_nul, at_most(200)])
    additional_args: tuple[str, ...] = field(default=(), validator=[each_no_nul, at_most(100)])
    resume_session_id: str | None = field(default=None, validator=[not_empty, no_nul, at_most(200)])
    timeout: int | None = field(default=None, validator=within(1000, 7 * 24 * 3600 * 1000, "ms"))
    approval_timeout: int | None = field(default=None, validator=within(1000, 7 * 24 * 3600 * 1000, "ms"))
    queue: bool = False
    worktree: bool = False
    title: str | None = field(default=None, validator=[not_empty, no_nul, at_most(200)])


@frozen(kw_only=True)
class ResumeTask:
    """``POST /ai-tasks/<id>/resume``."""

    prompt: str = field(validator=[not_empty, no_nul, at_most(PROMPT_MAX)])
    timeout: int | None = field(default=None, validator=at_least(1000, "ms"))
    queue: bool = False


@frozen(kw_only=True)
class Approval:
    """What an agent wants to do, whole, so that a person can judge it."""

    request_id: str
    tool_name: str
    tool_input: dict[str, Any]
    kind: str
    cwd: str
    timestamp: int
    expires_at: int
    suggested_rule: str
    description: str | None = None
    command: str | None = None
    path: str | None = None
    diff: str | None = None


@frozen(kw_only=True)
class DiffStat:
    """What changed in the task's repository."""

    files: int
    insertions: int
    deletions: int
    patch: bool = False


@frozen(kw_only=True)
class TaskResult:
    """What an agent ended with."""

    text: str
    is_error: bool = False
    cost_usd: float | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    turns: int | None = None
    duration_ms: int = 0
    diff: DiffStat | None = None


@frozen(kw_only=True)
class Task:
    """A task as everyone sees it."""

    task_id: str
    prompt: str
    title: str
    agent: str
    status: str
    cwd: str
    permission_mode: str
    from_node_id: str
    from_: str
    """The principal's name."""
    started_at: int
    """When it was asked for, ms since the epoch."""
    updated_at: int
    last_seq: int = 0
    completed_at: int | None = None
    pid: int | None = None
    exit_code: int | None = None
    error: str | None = None
    model: str | None = None
    session_id: str | None = None
    pending_approval: Approval | None = None
    """The oldest that waits."""
    pending_approvals: int = 0
    result: TaskResult | None = None
    queue_position: int | None = None
    worktree: str | None = None
    resumes: str | None = None
    """The id of the task whose session it goes on with."""


@frozen(kw_only=True)
class TaskList:
    """``GET /ai-tasks``, newest first."""

    tasks: tuple[Task, ...]


@frozen(kw_only=True)
class TaskEvent:
    """One thing that happened; ``seq`` counts from 1 in each task."""

    type: str
    task_id: str
    timestamp: int
    seq: int
    data: dict[str, Any]


@frozen(kw_only=True)
class TaskEvents:
    """``GET /ai-tasks/<id>/events``."""

    events: tuple[TaskEvent, ...]
    count: int


@frozen(kw_only=True)
class Approve:
    """``POST /ai-tasks/<id>/approve``."""

    request_id: str = field(validator=[not_empty, at_most(200)])
    approved: bool
    message: str | None = field(default=None, validator=at_most(10_000))
    remember: str = field(default=ONCE, validator=one_of(ONCE, TASK, ALWAYS))
    rule: str | None = field(default=None, validator=at_most(10_000))


@frozen(kw_only=True)
class TaskAnswered:
    """What ``approve`` and ``DELETE`` answer with."""

    success: bool
    task_id: str
    deleted: bool | None = None


@frozen(kw_only=True)
class WaitingApproval:
    """One of ``GET /ai-tasks/approvals``."""

    task_id: str
    title: str
    agent: str
    from_: str
    approval: Approval


@frozen(kw_only=True)
class Approvals:
    """What waits for a person on this machine, oldest first."""

    approvals: tuple[WaitingApproval, ...]


@frozen(kw_only=True)
class Rules:
    """``GET /ai-tasks/rules``, in order."""

    rules: tuple[str, ...]


@frozen(kw_only=True)
class RuleChange:
    """``POST`` or ``DELETE /ai-tasks/rules``."""

    rule: str = field(validator=[not_empty, no_nul, at_most(10_000)])
