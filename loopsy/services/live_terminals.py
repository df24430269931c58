"""One open terminal: its program, its emulator, and those who watch it, each at a pace of their own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from attrs import evolve
from twisted.internet.interfaces import IDelayedCall

from loopsy.services.clock import now_ms
from loopsy.wire.terminals import ENDED, WRITE, Terminal

PATIENCE_S = 10.0
"""A writer that takes nothing for so long no longer holds back the program: it is repainted later, as watchers are."""
FIRST_BYTES = 16 * 1024
"""Who opened it gets just what was printed till then, up to so much: a new shell doesn't wipe the screen of who opened
it, and is answered what it asks the terminal. Nobody else: such questions would be answered again."""
READ_S = 0.02
"""Between the emulator's turns: it is read for those who come later, so it can wait."""


class Viewer(Protocol):
    """Somebody's screen."""

    mode: str

    def show(self, data: bytes) -> None:
        """Output."""

    def tell(self, **words: Any) -> None:
        """A change."""

    def hold(self, is_held: bool) -> None:
        """Whether it is to type nothing for now: what was typed is still to be taken."""

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
        self._untold: dict[str, dict[str, Any]] = {}

    @property
    def holds_back(self) -> bool:
        """Whether the program waits for it."""
        return self.is_slow and not self.is_behind and self.viewer.mode == WRITE

    def tell(self, **words: Any) -> None:
        """A change. Of each kind whoever is slow is told the last one."""
        if self.is_slow:
            self._untold[words["type"]] = words
        else:
            self.viewer.tell(**words)

    def catch_up(self) -> None:
        """What it was not told yet."""
        untold, self._untold = self._untold, {}
        for words in untold.values():
            self.viewer.tell(**words)


class LiveTerminal:
    """One terminal."""

    def __init__(self, reactor: Any, info: Terminal, keep_idle_ms: int, ended: Callable[[LiveTerminal], None]) -> None:
        from loopsy.core.screen import Screen  # only when one is opened: the emulator takes a while to load

        self.keep_idle_ms = keep_idle_ms
        self.process: Any = None
        self.recording: Any = None
        self._info = info
        self._active_ms = info.last_activity
        self._active_at = reactor.seconds()
        self._reactor = reactor
        self._screen = Screen(info.cols, info.rows)
        self._seats: list[Seat] = []
        self._turn: IDelayedCall | None = None
        self._ended = ended
        self._unsettled: list[Seat] = []
        self._is_full = False
        self._first: bytes | None = b""
        """All that was printed, while that is little, the size is the first one, and nobody was shown it."""

    @property
    def info(self) -> Terminal:
        """As others see it."""
        if self._info.last_activity != self._active_ms:
            self._info = evolve(self._info, last_activity=self._active_ms)
        return self._info

    def note(self, **changes: Any) -> None:
        """Something of it is another now."""
        self._info = evolve(self.info, **changes)

    @property
    def is_over(self) -> bool:
        """Whether its program is gone."""
        return self._info.status == ENDED

    @property
    def idle_s(self) -> float:
        """For so long nothing was written and nobody came or went."""
        return float(self._reactor.seconds() - self._active_at)

    def _was_used(self) -> None:
        self._active_ms, self._active_at = now_ms(), self._reactor.seconds()

    # -- from the program -----------------------------------------------------------------------------------------
    def printed(self, data: bytes) -> None:
        """Some output: to those who wait for it first."""
        for seat in tuple(self._seats):
            if seat.is_behind:
                seat.missed += 0 if seat.is_new else len(data)
            elif seat.is_slow and seat.viewer.mode != WRITE:
                seat.is_behind, seat.missed = True, len(data)
            else:
                seat.viewer.show(data)
        self._was_used()
        self._screen.feed(data)
        if self._first is not None:
            self._first = self._first + data if len(self._first) + len(data) <= FIRST_BYTES else None
        if self.recording is not None:
            self.recording.printed(data)
        self._read_later()

    def full(self, is_full: bool) -> None:
        """The program takes no more of what is typed for now, or does again."""
        self._is_full = is_full
        for seat in tuple(self._seats):
            if seat.viewer.mode == WRITE:
                seat.viewer.hold(is_full)

    def ended(self, exit_code: int | None, signal_name: str | None) -> None:
        """The program is gone. Who is behind is still to be painted."""
        if self.recording is not None:
            self.recording.close()
        self._was_used()
        self.note(status=ENDED, exit_code=exit_code, signal=signal_name)
        for seat in tuple(self._seats):
            self._lose_patience(seat, False)
            if seat.is_behind:
                self._repaint(seat)
            else:
                self._farewell(seat)
        self._ended(self)

    def _farewell(self, seat: Seat) -> None:
        seat.viewer.tell(type="exit", exitCode=self._info.exit_code, signal=self._info.signal)
        seat.viewer.end()

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
        self.close()
        self._turn = self._reactor.callLater(0, self._read)

    def _paint(self, seat: Seat) -> None:
        if seat.is_behind:
            if seat.missed:
                seat.viewer.tell(type="skipped", bytes=seat.missed)
            first, self._first = self._first, None
            seat.is_behind = seat.is_new = False
            seat.missed = 0
            seat.viewer.show(self._screen.repaint() if first is None else first)
        if self.is_over:
            self._farewell(seat)

    # -- viewers --------------------------------------------------------------------------------------------------
    def join(self, viewer: Viewer, size: tuple[int, int] | None) -> Seat:
        """Somebody comes: first a greeting, then the repaint, then what comes."""
        if size is not None and viewer.mode == WRITE and not self.is_over:
            self.resize(*size)
        seat = Seat(viewer)
        self._count([*self._seats, seat])
        viewer.tell(type="hello", terminal=self.info, mode=viewer.mode)
        for other in self._seats[:-1]:
            other.tell(type="viewers", count=len(self._seats))
        if viewer.mode == WRITE and self._is_full:
            viewer.hold(True)
        self._repaint(seat)
        return seat

    def leave(self, seat: Seat) -> None:
        """Somebody goes."""
        if seat in self._seats:
            self._lose_patience(seat, False)
            self._count([other for other in self._seats if other is not seat])
            for other in self._seats:
                other.tell(type="viewers", count=len(self._seats))
            self._pace()

    def _count(self, seats: list[Seat]) -> None:
        self._seats = seats
        self._was_used()
        self.note(viewers=len(seats))

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
        seat.catch_up()
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
        self.process.write(data)
        self._was_used()

    def resize(self, columns: int, lines: int) -> None:
        """Another size."""
        if (columns, lines) == (self._info.cols, self._info.rows):
            return
        self.note(cols=columns, rows=lines)
        self._first = None if self._first else self._first
        self._screen.resize(columns, lines)
        self.process.resize(columns, lines)
        if self.recording is not None:
            self.recording.resized(columns, lines)
        for seat in self._seats:
            seat.tell(type="resize", cols=columns, rows=lines)

    def close(self) -> None:
        """The emulator takes no more turns."""
        if self._turn is not None:
            self._turn.cancel()
            self._turn = None
