"""Readers that wait for something to come, and don't poll."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall

from loopsy.errors import RateLimited

MOST = 256
"""Readers that wait at once: far more than agents on one machine, far below what would hold the daemon up."""


class Turn:
    """One reader's wait, from the moment in which it asked."""

    def __init__(self, room: WaitingRoom) -> None:
        self._room = room
        self._timer: IDelayedCall | None = None
        self._waiting: Deferred[bool] | None = None

    def begin(self, timer: IDelayedCall) -> None:
        """It lasts until ``timer`` ends it."""
        self._timer = timer

    @property
    def is_over(self) -> bool:
        """It has left, or its time is up."""
        return self._timer is None

    def wait(self) -> Deferred[bool]:
        """Fires with True when it is worth looking again, with False when the wait is over."""
        if self.is_over:
            return succeed(False)
        self._waiting = Deferred()
        return self._waiting

    def call(self, is_worth_it: bool) -> None:
        """Look again."""
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.callback(is_worth_it)

    def leave(self, *_: Any) -> None:
        """The reader is gone, was answered, or its time is up."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None
        self._room.turns.discard(self)
        self.call(False)


class WaitingRoom:
    """Those that wait."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self.turns: set[Turn] = set()

    def turn(self, seconds: float) -> Turn:
        """A turn that ends after some seconds; with 0 it is over at once.

        :raises RateLimited: too many wait already.
        """
        if seconds <= 0:
            return Turn(self)
        if len(self.turns) >= MOST:
            raise RateLimited(f"{len(self.turns)} readers wait here already", retry_after=1)
        turn = Turn(self)
        turn.begin(self._reactor.callLater(seconds, turn.leave))
        self.turns.add(turn)
        return turn

    def wake(self) -> None:
        """Something came."""
        for turn in tuple(self.turns):
            turn.call(True)

    def end(self) -> None:
        """Send everybody home."""
        for turn in tuple(self.turns):
            turn.leave()
