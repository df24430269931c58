"""Terminals: programs on a pseudo-terminal that outlive those who watch them (docs/protocol/terminals.md)."""

from __future__ import annotations

from attrs import field, frozen

from loopsy.wire.checks import at_least, at_most, each_no_nul, env_names, no_nul, not_empty, one_of, within

SUBPROTOCOL = "loopsy.terminal.1"
WRITE, WATCH = "write", "watch"
MODES = (WRITE, WATCH)
RUNNING, ENDED = "running", "ended"
SIDE_MAX = 1000
"""Columns or lines; no screen has as many."""
CELLS_MAX = 200_000
"""Columns × lines: the emulator needs some 100 bytes for each. A screen of 4K with tiny letters has about 120,000."""


@frozen(kw_only=True)
class OpenTerminal:
    """``POST /terminals``."""

    command: str | None = field(default=None, validator=[not_empty, no_nul])
    """None: the user's login shell."""
    args: tuple[str, ...] = field(default=(), validator=each_no_nul)
    cwd: str | None = field(default=None, validator=[not_empty, no_nul])
    env: dict[str, str] | None = field(default=None, validator=[each_no_nul, env_names])
    cols: int = field(default=80, validator=within(1, SIDE_MAX, "columns"))
    rows: int = field(default=24, validator=within(1, SIDE_MAX, "lines"))
    title: str | None = field(default=None, validator=[not_empty, no_nul, at_most(200)])
    record: bool = False
    keep_idle: int | None = field(default=None, validator=at_least(1000, "ms"))
    """It is ended when nobody watched and nothing was written for so long."""


@frozen(kw_only=True)
class Terminal:
    """One as everyone who may see it does."""

    terminal_id: str
    title: str
    command: str
    args: tuple[str, ...]
    cwd: str
    pid: int
    cols: int
    rows: int
    started_at: int
    last_activity: int
    viewers: int
    from_: str
    """Who opened it."""
    status: str = field(default=RUNNING, validator=one_of(RUNNING, ENDED))
    exit_code: int | None = None
    signal: str | None = None
    recording: str | None = None
    """A file on that machine."""


@frozen(kw_only=True)
class TerminalList:
    """``GET /terminals``, oldest first."""

    terminals: tuple[Terminal, ...]


@frozen(kw_only=True)
class TerminalRemoved:
    """``DELETE /terminals/<id>``."""

    success: bool
    terminal_id: str
