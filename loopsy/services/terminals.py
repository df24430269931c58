"""Terminals: opened, watched by any number of viewers, ended; a viewer that comes later sees what the others see."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterable, Mapping
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from loopsy.core import commands
from loopsy.core.principals import Local, Principal, Scope
from loopsy.errors import CommandFailedToStart, InternalError, InvalidRequest, JobNotFound, TooManyJobs
from loopsy.services.clock import now_ms
from loopsy.services.events import Events
from loopsy.services.execution import inherited
from loopsy.services.live_terminals import LiveTerminal
from loopsy.services.settings import Settings
from loopsy.wire.terminals import CELLS_MAX, OpenTerminal, Terminal

SHOWN_S = 600.0
"""An ended one is listed for so long, so that its exit status can be read."""
LOOK_S = 30.0
"""Between looks at which ones nobody needs."""
ENDED_MOST = 20
"""Of those at most so many: each keeps its screen."""
NOT_PASSED_ON = ("COLUMNS", "LINES", "TMUX", "TMUX_PANE", "STY", "WINDOW")
"""Of the daemon's environment: they describe the terminal that it was started from."""


class Terminals(Service):
    """The terminals of this machine."""

    name = "terminals"
    log = Logger()

    def __init__(self, reactor: Any, settings: Settings, events: Events) -> None:
        self._reactor = reactor
        self._settings = settings
        self._events = events
        self._live: dict[str, LiveTerminal] = {}
        self._all_gone: Deferred[None] | None = None
        self._look = LoopingCall(self._end_idle)
        self._look.clock = reactor

    def startService(self) -> None:
        """Start looking for those that nobody needs."""
        super().startService()
        self._look.start(LOOK_S, now=False).addErrback(lambda why: self.log.failure("idle terminals stay", why))

    async def stopService(self) -> None:  # our parent awaits it
        """End all, and wait until they are gone."""
        super().stopService()
        if self._look.running:
            self._look.stop()
        await self.end_all()
        for live in self._live.values():
            live.close()
        self._live.clear()

    async def end_all(self) -> None:
        """End all, and wait until they are gone."""
        running = [live for live in self._live.values() if not live.is_over]
        if running:
            self._all_gone = self._all_gone or Deferred()
            for live in running:
                live.process.end()
            await self._all_gone

    # -- for the edge ---------------------------------------------------------------------------------------------
    def open(self, asked: OpenTerminal, caller: Principal) -> Terminal:
        """Start a program on a terminal.

        :raises CommandDenied: :raises TooManyJobs: :raises CommandFailedToStart:
        """
        ptys = _ptys()
        if not self.running:
            raise InternalError("the daemon is stopping")
        check_size(asked.cols, asked.rows)
        limits = self._settings.config.terminals
        argv, executable = program(asked, self._settings)
        counted = self._live.values() if not isinstance(caller, Local) else self._of(caller)  # peers leave the user his
        if sum(not live.is_over for live in counted) >= limits.max:
            hint = "end one: loopsy shell --list, loopsy shell --kill ID"
            raise TooManyJobs(f"{limits.max} terminals are open here already (terminals.max)", hint=hint, retry_after=1)
        cwd = os.path.expanduser(asked.cwd or "~")
        if not os.path.isdir(cwd) or not os.access(cwd, os.X_OK):
            raise CommandFailedToStart(f"cwd {cwd!r}: no such directory")
        now = now_ms()
        info = Terminal(
            terminal_id=str(uuid.uuid4()),
            title=asked.title or os.path.basename(executable),
            command=argv[0],
            args=tuple(argv[1:]),
            cwd=cwd,
            pid=0,
            cols=asked.cols,
            rows=asked.rows,
            started_at=now,
            last_activity=now,
            viewers=0,
            from_=caller.name,
        )
        live = LiveTerminal(self._reactor, info, asked.keep_idle or limits.idle, self._ended)
        live.process = ptys.start(
            self._reactor, live, argv, executable, environment(asked.env), cwd, (asked.cols, asked.rows)
        )
        live.note(pid=live.process.pid)
        if asked.record or limits.record:
            self._record(live)
        self._live[info.terminal_id] = live
        self._tell("terminal.opened", live)
        return live.info

    def _of(self, caller: Principal) -> Iterable[LiveTerminal]:
        return (live for live in self._live.values() if live.info.from_ == caller.name)

    def _record(self, live: LiveTerminal) -> None:
        from loopsy.services.recordings import Recording

        path = self._settings.layout.root / "recordings" / f"{live.info.terminal_id}.cast"
        try:
            live.recording = Recording(path, live.info.cols, live.info.rows, live.info.title)
            live.note(recording=str(path))
        except OSError as error:
            self.log.error("a terminal is not recorded: {error}", error=error)

    def list(self, caller: Principal) -> tuple[Terminal, ...]:
        """Those that the caller may see."""
        return tuple(live.info for live in self._live.values() if may_see(live.info, caller))

    def get(self, terminal_id: str, caller: Principal) -> LiveTerminal:
        """One.

        :raises JobNotFound: the caller has none of this id.
        """
        live = self._live.get(terminal_id)
        if live is None or not may_see(live.info, caller):
            raise JobNotFound("there is no such terminal", hint="loopsy shell --list shows those that there are")
        return live

    def end(self, terminal_id: str, caller: Principal) -> None:
        """End one, or strike one that has ended.

        :raises JobNotFound:
        """
        live = self.get(terminal_id, caller)
        if live.is_over:
            self._forget(live)
        else:
            live.process.end()

    # -- life -----------------------------------------------------------------------------------------------------
    def _ended(self, live: LiveTerminal) -> None:
        self._tell("terminal.ended", live)
        for old in [other for other in self._live.values() if other.is_over][:-ENDED_MOST]:
            self._forget(old)
        if self._all_gone is not None and all(other.is_over for other in self._live.values()):
            done, self._all_gone = self._all_gone, None
            done.callback(None)

    def _forget(self, live: LiveTerminal) -> None:
        live.close()
        self._live.pop(live.info.terminal_id, None)

    def _end_idle(self) -> None:
        for live in tuple(self._live.values()):
            if live.is_over:
                if live.idle_s > SHOWN_S:
                    self._forget(live)
            elif not live.info.viewers and live.idle_s * 1000 > live.keep_idle_ms:
                live.process.end()

    def _tell(self, kind: str, live: LiveTerminal) -> None:
        self._events.publish(kind, live.info, scope=Scope.TERMINAL, owner=live.info.from_)


def _ptys() -> Any:
    """:raises CommandFailedToStart: this system has no pseudo-terminals."""
    try:
        from loopsy.services import ptys
    except ImportError:
        raise CommandFailedToStart("terminals need a POSIX system; this machine's has no pseudo-terminals") from None
    return ptys


def check_size(columns: int, lines: int) -> None:
    """:raises InvalidRequest: the emulator would need much memory for so large a screen."""
    if columns * lines > CELLS_MAX:
        raise InvalidRequest(f"cols × rows: at most {CELLS_MAX:,} characters")


def environment(more: Mapping[str, str] | None) -> dict[str, str]:
    """Of a program on a terminal."""
    ours = {name: value for name, value in inherited(os.environ).items() if name not in NOT_PASSED_ON}
    return {**ours, "TERM": "xterm-256color", "COLORTERM": "truecolor", **(more or {})}


def may_see(info: Terminal, caller: Principal) -> bool:
    """The own key sees all, a peer those that it opened."""
    return isinstance(caller, Local) or info.from_ == caller.name


def program(asked: OpenTerminal, settings: Settings) -> tuple[list[str], str]:
    """The words of a program and the file that it is; without one the login shell.

    :raises CommandDenied: :raises CommandFailedToStart: there is none of this name.
    """
    command = asked.command or login_shell(os.environ)
    commands.check(command, asked.args, settings.config.execution, asked.env or ())
    search = (asked.env or {}).get("PATH") or os.environ.get("PATH")
    found = shutil.which(os.path.expanduser(command), path=search)
    if found is None:
        raise CommandFailedToStart(f"{command!r} was not found on that machine")
    name = command if asked.command else f"-{os.path.basename(command)}"
    return [name, *asked.args], found


def login_shell(environment: Mapping[str, str]) -> str:
    """The shell that the user logs in with."""
    import pwd

    try:
        return pwd.getpwuid(os.getuid()).pw_shell or "/bin/sh"
    except KeyError:
        return environment.get("SHELL") or "/bin/sh"
