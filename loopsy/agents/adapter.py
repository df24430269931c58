"""What the daemon knows of an agent CLI while it runs one: bytes in, happenings out, no I/O.

Each CLI has a module with a ``Session`` of its own; services/tasks drives any of them the same way. A session raises
``InvalidRequest`` when it is made, if the run asks for what its CLI doesn't know or must not be told.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from attrs import frozen


@frozen(kw_only=True)
class Run:
    """What a session is asked to do."""

    executable: str
    """Absolute path of the CLI."""
    prompt: str
    cwd: str
    trusted_as: str | None = None
    """The directory that the user may have told the CLI to trust, where that isn't ``cwd``: a worktree is trusted as
    the directory from which it was made."""
    environment: Mapping[str, str]
    """The daemon's own; ``environment.cleaned`` makes the child's of it."""
    permission_mode: str = "default"
    model: str | None = None
    max_budget_usd: float | None = None
    allowed_tools: tuple[str, ...] = ()
    disallowed_tools: tuple[str, ...] = ()
    additional_args: tuple[str, ...] = ()
    resume_session_id: str | None = None


@frozen(kw_only=True)
class Launch:
    """The process to start, and what to write to it first."""

    argv: tuple[str, ...]
    environment: Mapping[str, str]
    pty: bool = False
    """Whether the CLI must have a terminal because it holds its output back on a pipe."""
    first: bytes = b""
    keep_stdin: bool = True
    """False: close its input after ``first``."""


# -- happenings -------------------------------------------------------------------------------------------------------
@frozen(kw_only=True)
class Began:
    """The agent is up."""

    session_id: str | None = None
    model: str | None = None


@frozen(kw_only=True)
class Event:
    """An event for the task's log: ``type`` and ``data`` of docs/protocol/tasks.md."""

    type: str
    data: Mapping[str, Any]


@frozen(kw_only=True)
class Asked:
    """The agent waits for leave to use a tool."""

    request_id: str
    tool_name: str
    tool_input: Mapping[str, Any]
    kind: str
    description: str | None = None
    command: str | None = None
    path: str | None = None
    """None also where several files are meant: see ``paths``."""
    paths: tuple[str, ...] = ()
    """All files that an edit or a read touches: an allow rule must fit each of them, a deny rule one."""
    diff: str | None = None


@frozen(kw_only=True)
class Withdrawn:
    """It no longer waits."""

    request_id: str


@frozen(kw_only=True)
class Ended:
    """Its last word; the process follows."""

    text: str
    is_error: bool = False
    error: str | None = None
    cost_usd: float | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    turns: int | None = None
    duration_ms: int | None = None


Happening = Began | Event | Asked | Withdrawn | Ended


@frozen(kw_only=True)
class Step:
    """What came of some input: happenings in order, and what to write back at once."""

    happenings: Sequence[Happening] = ()
    write: bytes = b""
    close_stdin: bool = False


class Session(Protocol):
    """One run of one CLI."""

    def launch(self) -> Launch:
        """The process to start."""

    def feed(self, data: bytes) -> Step:
        """Its standard output, in any pieces. A line that is no JSON, or is huge, never fails."""

    def feed_error(self, data: bytes) -> Step:
        """Its standard error."""

    def answer(self, request_id: str, approved: bool, message: str | None = None) -> Step:
        """Answer what was asked."""

    def interrupt(self) -> Step:
        """Ask it kindly to stop (the process group is ended anyway, a little later)."""

    def ended(self, exit_code: int | None) -> Step:
        """The process is gone: what was still unfinished; an ``Ended`` if there was none."""
