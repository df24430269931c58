"""Signals that ask a command to end, while it passes on what a job on another machine prints."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping
from types import FrameType, TracebackType
from typing import Any

from loopsy.client.local import LocalDaemon
from loopsy.errors import ConnectionBroken, JobNotFound, LoopsyError
from loopsy.wire import urls

BY_SIGNAL = 128
"""Plus the signal's number, as shells count."""
CANCEL_S = 5.0
"""How long a cancel may take before the connection is just closed, which ends the job too."""
HEARD_S = 1.0
"""Python runs a signal's handler between two of its own instructions: one that comes just before it waits for something
would be heard when that comes. An alarm interrupts what waits so often."""


def catch(handler: Callable[[int, FrameType | None], None]) -> dict[int, Any]:
    """Take the signals that ask us to end, unless they are ignored (nohup). Returns the handlers before."""
    numbers = [int(getattr(signal, name)) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in numbers}
    before = {number: old for number, old in before.items() if old != signal.SIG_IGN}
    for number in before:
        signal.signal(number, handler)
    if hasattr(signal, "setitimer"):
        before[signal.SIGALRM] = signal.signal(signal.SIGALRM, lambda *_: None)
        signal.setitimer(signal.ITIMER_REAL, HEARD_S, HEARD_S)
    return before


def put_back(before: Mapping[int, Any]) -> None:
    """The handlers that ``catch`` found."""
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_REAL, 0)
    for number, handler in before.items():
        signal.signal(number, handler)


class Interrupts:
    """In a ``with``: the first signal cancels the job, whose end is then awaited; the second leaves at once."""

    def __init__(self, daemon: LocalDaemon, peer: str | None, job_id: Callable[[], str]) -> None:
        """``job_id`` tells the job's, empty while that isn't known."""
        self.by = 0
        """The signal that came."""
        self._daemon = daemon
        self._peer = peer
        self._job_id = job_id
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interrupts:
        self._before = catch(self._interrupt)
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        put_back(self._before)

    def _interrupt(self, number: int, _: FrameType | None) -> None:
        if self.by:
            os._exit(BY_SIGNAL + number)
        self.by = number
        job_id = self._job_id()
        if not job_id:
            raise SystemExit(BY_SIGNAL + number)
        path = urls.on_peer(urls.fill(urls.JOB, job_id=job_id), self._peer)
        try:
            self._daemon.ask("DELETE", path, timeout=CANCEL_S)
        except JobNotFound:
            pass  # it ended by itself in this moment: its exit is on the way
        except LoopsyError:
            raise SystemExit(BY_SIGNAL + number) from None

    def lost(self, label: str) -> LoopsyError:
        """What to say when the connection ends without the job's end.

        :raises SystemExit: that was after a signal.
        """
        if self.by:
            raise SystemExit(BY_SIGNAL + self.by)
        return ConnectionBroken(
            f"the connection to {label} was lost; whether the command ended well is not known",
            hint=f"see whether it still runs: loopsy jobs {label}",
        )
