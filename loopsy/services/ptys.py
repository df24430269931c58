"""A program on a pseudo-terminal: its own session and process group, its controlling terminal, its size.

Twisted's own PTY process starts it, since a controlling terminal can only be taken between fork and exec.
"""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import struct
import termios
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from twisted.internet.error import ProcessTerminated
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

from loopsy.errors import CommandFailedToStart
from loopsy.wire.execution import KILL_GRACE_S

HELD_S = 1.0
"""What was left behind by the program may hold its terminal; so much later it is closed."""


class Watcher(Protocol):
    """Who gets what it prints, and its end."""

    def printed(self, data: bytes) -> None:
        """Some output."""

    def ended(self, exit_code: int | None, signal_name: str | None) -> None:
        """The program is gone."""


class PtyProcess(ProcessProtocol):
    """The program; made by ``start``."""

    def __init__(self, reactor: Any, watcher: Watcher) -> None:
        self._reactor = reactor
        self._watcher = watcher
        self._over = False
        self._kill_timer: IDelayedCall | None = None
        self._held: IDelayedCall | None = None
        self.pid = 0

    @property
    def _process(self) -> Any:
        return self.transport

    def connectionMade(self) -> None:
        """It runs."""
        self.pid = self._process.pid

    def outReceived(self, data: bytes) -> None:
        """From the terminal."""
        self._watcher.printed(data)

    def processExited(self, reason: Failure) -> None:
        """The leader is gone; its terminal may still be held by others."""
        self._signal(signal.SIGHUP)
        self._held = self._reactor.callLater(HELD_S, self._process.loseConnection)

    def processEnded(self, reason: Failure) -> None:
        """All of its output is here."""
        self._over = True
        self._signal(signal.SIGKILL)
        for timer in (self._kill_timer, self._held):
            if timer is not None and timer.active():
                timer.cancel()
        value: Any = reason.value
        number = value.signal if isinstance(value, ProcessTerminated) else None
        name = None if number is None else signal.Signals(number).name
        self._watcher.ended(value.exitCode if number is None else None, name)

    def write(self, data: bytes) -> None:
        """As if typed."""
        if not self._over:
            self._process.write(data)

    def resize(self, columns: int, lines: int) -> None:
        """The program is told by WINCH."""
        if not self._over:
            set_size(self._process.fileno(), columns, lines)

    def pause(self) -> None:
        """Read no more: the program blocks when its terminal is full."""
        if not self._over:
            self._process.pauseProducing()

    def resume(self) -> None:
        """Read on."""
        if not self._over:
            self._process.resumeProducing()

    def end(self) -> None:
        """HUP to the group, as if the line broke; KILL five seconds later."""
        if self._over or self._kill_timer is not None:
            return
        self._signal(signal.SIGHUP)
        self._signal(signal.SIGCONT)
        self._kill_timer = self._reactor.callLater(KILL_GRACE_S, self._kill)

    def _kill(self) -> None:
        self._signal(signal.SIGKILL)
        self.resume()

    def _signal(self, number: signal.Signals) -> None:
        try:
            os.killpg(self.pid, number)
        except (ProcessLookupError, PermissionError):
            pass  # all of it is gone, or another user's by now


def set_size(descriptor: int, columns: int, lines: int) -> None:
    """The size of a terminal."""
    fcntl.ioctl(descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))


def start(
    reactor: Any,
    watcher: Watcher,
    argv: Sequence[str],
    executable: str,
    environment: Mapping[str, str],
    cwd: str,
    size: tuple[int, int],
) -> PtyProcess:
    """Start a program on a terminal of ``size`` (columns, lines).

    :raises CommandFailedToStart: no terminal or process is to be had.
    """
    process = PtyProcess(reactor, watcher)
    ends: tuple[int, ...] = ()
    try:
        ends = pty.openpty()
        set_size(ends[0], *size)
        terminal = (*ends, os.ttyname(ends[1]))
        reactor.spawnProcess(process, executable, list(argv), dict(environment), cwd, usePTY=terminal)
    except OSError as error:
        for descriptor in ends:
            os.close(descriptor)
        raise CommandFailedToStart(f"{argv[0]!r} could not be started: {str(error.strerror).lower()}") from None
    return process
