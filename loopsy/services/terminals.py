"""Terminals: opened, watched by any number of viewers, ended; a viewer that comes later sees what the others see."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Mapping
from typing import Any, Protocol

from attrs import evolve
from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from loopsy.core import commands
from loopsy.core.principals import Local, Principal, Scope
from loopsy.errors import CommandFailedToStart, InternalError, JobNotFound, TooManyJobs
from loopsy.services.clock import now_ms
from loopsy.services.events import Events
from loopsy.services.execution import inherited
from loopsy.services.settings import Settings
from loopsy.wire.terminals import ENDED, WRITE, OpenTerminal, Terminal

SHOWN_S = 600.0
"""An ended one is listed for so long, so that its exit status can be read."""
LOOK_S = 30.0
"""Between looks at which ones nobody needs."""
INPUT_BYTES = 64 * 1024
"""Typed and not taken by the program: beyond that the viewer isn't read."""
PATIENCE_S = 10.0
"""A writer that takes nothing for so long no longer holds back the program: it is repainted later, as watchers are."""
FIRST_BYTES = 16 * 1024
"""Who comes before so much was printed gets just that: a new shell doesn't wipe the screen of who opened it."""
READ_S = 0.02
"""Between the emulator's turns: it is read for those who come later, so it can wait."""


class Viewer(Protocol):
    """Somebody's screen."""

    mode: str

    def show(self, data: bytes) -> None:
        """Output."""

    def tell(self, **words: Any) -> None:
        """A change."""

    def end(self) -> None:
        """The program is gone."""


class Seat:
    """A viewer at a terminal, and whether it keeps up."""

    def __init__(self, viewer: Viewer) -> None:
        self.viewer = viewer
        self.is_slow = False
        self.is_behind = True
        """It gets no output: it is to be repainted first."""
        self.is_new = True
        """It was painted never yet."""
        self.missed = 0
        self.patience: IDelayedCall | None = None

    @property
    def holds_back(self) -> bool:
        """Whether the program waits for it."""
        return self.is_slow and not self.is_behind and self.viewer.mode == WRITE


class LiveTerminal:
    """One terminal."""

    def __init__(self, reactor: Any, info: Terminal, keep_idle_ms: int, ended: Any) -> None:
        from loopsy.core.screen import Screen  # only when one is opened: the emulator takes a while to load

        self.info = info
        self.keep_idle_ms = keep_idle_ms
        self.process: Any = None
        self.recording: Any = None
        self._reactor = reactor
        self._screen = Screen(info.cols, info.rows)
        self._seats: list[Seat] = []
        self._turn: IDelayedCall | None = None
        self._ended = ended
        self._unsettled: list[Seat] = []
        self._first: bytes | None = b""
        """All that was printed, while that is little and the size is the first one."""

    # -- from the program -----------------------------------------------------------------------------------------
    def printed(self, data: bytes) -> None:
        """Some output."""
        self.info = evolve(self.info, last_activity=now_ms())
        self._screen.feed(data)
        if self._first is not None:
            self._first = self._first + data if len(self._first) + len(data) <= FIRST_BYTES else None
        if self.recording is not None:
            self.recording.printed(data)
        for seat in tuple(self._seats):
            if seat.is_behind:
                seat.missed += 0 if seat.is_new else len(data)
            elif seat.is_slow and seat.viewer.mode != WRITE:
                seat.is_behind, seat.missed = True, len(data)
            else:
                seat.viewer.show(data)
        self._read_later()

    def ended(self, exit_code: int | None, signal_name: str | None) -> None:
        """The program is gone."""
        if self.recording is not None:
            self.recording.close()
        while self._screen.step():
            pass
        self.info = evolve(self.info, status=ENDED, exit_code=exit_code, signal=signal_name, last_activity=now_ms())
        for seat in tuple(self._seats):
            self._paint(seat)
            seat.viewer.tell(type="exit", exitCode=exit_code, signal=signal_name)
            seat.viewer.end()
        self._ended(self)

    # -- the emulator ---------------------------------------------------------------------------------------------
    def _read_later(self) -> None:
        if self._turn is None and self._screen.is_behind:
            self._turn = self._reactor.callLater(0 if self._unsettled else READ_S, self._read)

    def _read(self) -> None:
        self._turn = None
        if self._screen.step():
            self._read_later()
            return
        waiting, self._unsettled = self._unsettled, []
        for seat in waiting:
            if seat in self._seats:
                self._paint(seat)
        self._pace()

    def _repaint(self, seat: Seat) -> None:
        """As soon as the emulator is up to date; the program waits for that."""
        if seat not in self._unsettled:
            self._unsettled.append(seat)
        self._pace()
        if self._turn is not None:
            self._turn.cancel()
            self._turn = None
        self._turn = self._reactor.callLater(0, self._read)

    def _paint(self, seat: Seat) -> None:
        if seat.is_behind:
            if seat.missed:
                seat.viewer.tell(type="skipped", bytes=seat.missed)
            first = self._first if seat.is_new else None
            seat.is_behind = seat.is_new = False
            seat.missed = 0
            seat.viewer.show(self._screen.repaint() if first is None else first)

    # -- viewers --------------------------------------------------------------------------------------------------
    def join(self, viewer: Viewer, size: tuple[int, int] | None) -> Seat:
        """Somebody comes: first the repaint, then what comes."""
        seat = Seat(viewer)
        self._seats.append(seat)
        if size is not None and viewer.mode == WRITE:
            self.resize(*size)
        self._count()
        viewer.tell(type="hello", terminal=self.info, mode=viewer.mode)
        if self.info.status == ENDED:
            self._paint(seat)
            viewer.tell(type="exit", exitCode=self.info.exit_code, signal=self.info.signal)
            viewer.end()
        else:
            self._repaint(seat)
        return seat

    def leave(self, seat: Seat) -> None:
        """Somebody goes."""
        if seat in self._seats:
            self._seats.remove(seat)
            self._lose_patience(seat, False)
            self._count()
            self._pace()

    def _count(self) -> None:
        self.info = evolve(self.info, viewers=len(self._seats), last_activity=now_ms())
        for seat in self._seats:
            seat.viewer.tell(type="viewers", count=len(self._seats))

    def slow(self, seat: Seat) -> None:
        """A viewer's connection is full."""
        seat.is_slow = True
        if seat.patience is None and seat.viewer.mode == WRITE:
            seat.patience = self._reactor.callLater(PATIENCE_S, self._lose_patience, seat, True)
        self._pace()

    def ready(self, seat: Seat) -> None:
        """It takes more."""
        seat.is_slow = False
        self._lose_patience(seat, False)
        if seat.is_behind and seat.missed:
            self._repaint(seat)
        self._pace()

    def _lose_patience(self, seat: Seat, for_good: bool) -> None:
        timer, seat.patience = seat.patience, None
        if timer is not None and timer.active():
            timer.cancel()
        if for_good and seat.is_slow:
            seat.is_behind, seat.missed = True, max(seat.missed, 1)
            self._pace()

    def _pace(self) -> None:
        """The program prints as fast as the slowest writer takes it, and not while somebody is painted."""
        if self._unsettled or any(seat.holds_back for seat in self._seats):
            self.process.pause()
        else:
            self.process.resume()

    # -- to the program -------------------------------------------------------------------------------------------
    def type(self, data: bytes) -> None:
        """Input."""
        self.info = evolve(self.info, last_activity=now_ms())
        self.process.write(data)

    def resize(self, columns: int, lines: int) -> None:
        """Another size."""
        if (columns, lines) == (self.info.cols, self.info.rows):
            return
        self.info = evolve(self.info, cols=columns, rows=lines)
        self._first = None if self._first else self._first
        self._screen.resize(columns, lines)
        self.process.resize(columns, lines)
        if self.recording is not None:
            self.recording.resized(columns, lines)
        for seat in self._seats:
            seat.viewer.tell(type="resize", cols=columns, rows=lines)

    def close(self) -> None:
        """The daemon forgets it."""
        if self._turn is not None:
            self._turn.cancel()
            self._turn = None


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
        running = [live for live in self._live.values() if live.info.status != ENDED]
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
        from loopsy.services import ptys

        if not self.running:
            raise InternalError("the daemon is stopping")
        limits = self._settings.config.terminals
        argv, executable = program(asked, self._settings)
        if sum(live.info.status != ENDED for live in self._live.values()) >= limits.max:
            hint = "end one: loopsy shell --list, loopsy shell --kill ID"
            raise TooManyJobs(f"{limits.max} terminals are open here already (terminals.max)", hint=hint, retry_after=1)
        cwd = os.path.expanduser(asked.cwd or "~")
        if not os.path.isdir(cwd):
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
        environment = {**inherited(os.environ), "TERM": "xterm-256color", "COLORTERM": "truecolor", **(asked.env or {})}
        live.process = ptys.start(self._reactor, live, argv, executable, environment, cwd, (asked.cols, asked.rows))
        live.info = evolve(live.info, pid=live.process.pid)
        if asked.record or limits.record:
            self._record(live)
        self._live[info.terminal_id] = live
        self._tell("terminal.opened", live)
        return live.info

    def _record(self, live: LiveTerminal) -> None:
        from loopsy.services.recordings import Recording

        path = self._settings.layout.root / "recordings" / f"{live.info.terminal_id}.cast"
        try:
            live.recording = Recording(path, live.info.cols, live.info.rows, live.info.title)
            live.info = evolve(live.info, recording=str(path))
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
        if live.info.status == ENDED:
            self._forget(live)
        else:
            live.process.end()

    # -- life -----------------------------------------------------------------------------------------------------
    def _ended(self, live: LiveTerminal) -> None:
        live.close()
        self._tell("terminal.ended", live)
        if self._all_gone is not None and all(other.info.status == ENDED for other in self._live.values()):
            done, self._all_gone = self._all_gone, None
            done.callback(None)

    def _forget(self, live: LiveTerminal) -> None:
        live.close()
        self._live.pop(live.info.terminal_id, None)

    def _end_idle(self) -> None:
        now = now_ms()
        for live in tuple(self._live.values()):
            idle = now - live.info.last_activity
            if live.info.status == ENDED:
                if idle > SHOWN_S * 1000:
                    self._forget(live)
            elif not live.info.viewers and idle > live.keep_idle_ms:
                live.process.end()

    def _tell(self, kind: str, live: LiveTerminal) -> None:
        self._events.publish(kind, live.info, scope=Scope.TERMINAL, owner=live.info.from_)


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
