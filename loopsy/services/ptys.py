"""A program on a pseudo-terminal: its own session and process group, its controlling terminal, its size. Needs POSIX.

Twisted's own PTY process starts it, since a controlling terminal can only be taken between fork and exec.
"""

from __future__ import annotations

import errno
import fcntl
import os
import pty
import signal
import struct
import termios
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import psutil
from twisted.internet.error import ConnectionDone, ProcessTerminated
from twisted.internet.interfaces import IDelayedCall, IPushProducer
from twisted.internet.main import CONNECTION_LOST
from twisted.internet.process import PTYProcess
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from loopsy.errors import CommandFailedToStart
from loopsy.services import sessions
from loopsy.services.transports import write_now
from loopsy.wire.execution import KILL_GRACE_S

HELD_S = 1.0
"""What was left behind by the program may hold its terminal; so much later it is closed."""
REOPENED_S = 0.1
"""Between looks at whether a program that had closed its terminal, and goes on, has opened it again."""
STRAGGLER_S = 0.05
"""Between looks at whether all that was told to end is gone."""
SHORT_BYTES, PIECE_BYTES, READ_BYTES = 512, 8 * 1024, 64 * 1024
"""The kernel hands out some KiB of a terminal's output at a time; so much is taken in one go. A piece that is much
shorter than what it hands out was all that there was."""


class Watcher(Protocol):
    """Who gets what it prints, and its end."""

    def printed(self, data: bytes) -> None:
        """Some output."""

    def full(self, is_full: bool) -> None:
        """Whether it takes no more input for now."""

    def ended(self, exit_code: int | None, signal_name: str | None) -> None:
        """The program is gone."""


class _Terminal(PTYProcess):
    """Twisted's, read in larger pieces."""

    proto: Any
    pid: Any
    """None once it is gone."""

    def doRead(self) -> Any:
        """What is there, up to READ_BYTES. After a short piece nothing more is expected: if there is, we are called
        again."""
        parts: list[bytes] = []
        size, last = 0, PIECE_BYTES
        end = None
        while last > SHORT_BYTES and size < READ_BYTES and end is None:
            try:
                data = os.read(self.fd, PIECE_BYTES)
            except OSError as error:
                if error.errno in (errno.EAGAIN, errno.EINTR):
                    break
                data = b""  # EIO: nobody has it open any more
            if data:
                parts.append(data)
                last = len(data)
                size += last
            else:
                end = CONNECTION_LOST
        if parts and self.proto is not None:
            self.proto.outReceived(b"".join(parts))
        return end

    def readConnectionLost(self, reason: Failure) -> None:
        """Nobody has it open."""
        self.connectionLost(reason)

    def connectionLost(self, reason: Failure) -> None:
        """Nobody has it open, which is the end of it once the program is gone. While that goes on (most close it just
        before they exit) it is kept: to close our end would be HUP to it."""
        if self.pid is None:
            super().connectionLost(reason)
        else:
            self.proto.outLeft()

    def write(self, data: bytes) -> None:
        """What is typed."""
        write_now(self, self._send, data)

    def _send(self, data: bytes) -> int:
        return os.write(self.fd, data)


@implementer(IPushProducer)
class PtyProcess(ProcessProtocol):
    """The program; made by ``start``. For its input it is a producer: it passes on how fast that is taken."""

    def __init__(self, reactor: Any, watcher: Watcher) -> None:
        self._reactor = reactor
        self._watcher = watcher
        self._over = False
        self._paused = False
        self._end: Any = None
        self._victims: set[psutil.Process] | None = None
        self._killed = False
        self._timers: dict[str, IDelayedCall] = {}
        self.pid = 0

    @property
    def _process(self) -> Any:
        return self.transport

    def _later(self, name: str, seconds: float, call: Any) -> None:
        self._timers[name] = self._reactor.callLater(seconds, call)

    # -- from the program -----------------------------------------------------------------------------------------
    def connectionMade(self) -> None:
        """It runs."""
        self.pid = self._process.pid
        self._process.registerProducer(self, True)

    def outReceived(self, data: bytes) -> None:
        """From the terminal."""
        self._watcher.printed(data)

    def outLeft(self) -> None:
        """Nobody has the terminal open, and the program goes on."""
        if not (self._timers.get("reopened") and self._timers["reopened"].active()):
            self._later("reopened", REOPENED_S, self._read_on)

    def _read_on(self) -> None:
        if not (self._over or self._paused):
            self._process.startReading()

    def processExited(self, reason: Failure) -> None:
        """The leader is gone (the kernel tells its foreground group); its terminal may still be held by others."""
        self._later("held", HELD_S, self._let_go)
        self._read_on()

    def _let_go(self) -> None:
        """Not while it isn't read: there may be the leader's last words in it."""
        if self._over:
            return
        if self._paused:
            self._later("held", HELD_S, self._let_go)
        else:
            self._process.connectionLost(Failure(ConnectionDone()))  # whatever was still to be typed

    def processEnded(self, reason: Failure) -> None:
        """All of its output is here."""
        self._over = True
        self._end = reason.value
        self._finish()

    def _finish(self) -> None:
        if self._victims is not None and not self._killed and sessions.living(self._victims):
            self._later("look", STRAGGLER_S, self._finish)
            return
        for timer in self._timers.values():
            if timer.active():
                timer.cancel()
        number = self._end.signal if isinstance(self._end, ProcessTerminated) else None
        name = None if number is None else signal.Signals(number).name
        self._watcher.ended(self._end.exitCode if number is None else None, name)

    # -- its input ------------------------------------------------------------------------------------------------
    def write(self, data: bytes) -> None:
        """As if typed."""
        if not self._over:
            self._process.write(data)

    def pauseProducing(self) -> None:
        """It takes no more."""
        self._watcher.full(True)

    def resumeProducing(self) -> None:
        """It does again."""
        self._watcher.full(False)

    def stopProducing(self) -> None:
        """It is gone: what is typed is thrown away."""
        self._watcher.full(False)

    def resize(self, columns: int, lines: int) -> None:
        """The program is told by WINCH."""
        if not self._over:
            set_size(self._process.fileno(), columns, lines)

    # -- its output -----------------------------------------------------------------------------------------------
    def pause(self) -> None:
        """Read no more: the program blocks when its terminal is full."""
        if not (self._over or self._paused or self._killed):
            self._paused = True
            self._process.stopReading()

    def resume(self) -> None:
        """Read on."""
        if self._paused and not self._over:
            self._process.startReading()
        self._paused = False

    # -- its end --------------------------------------------------------------------------------------------------
    def end(self) -> None:
        """HUP to all that it started, as if the line broke; KILL five seconds later to what is left of it."""
        if self._over or self._victims is not None:
            return
        self._victims = sessions.members(self.pid)
        sessions.send(self._victims, signal.SIGHUP, signal.SIGCONT)
        self._later("kill", KILL_GRACE_S, self._kill)

    def _kill(self) -> None:
        sessions.send(sessions.members(self.pid) | (self._victims or set()), signal.SIGKILL)
        self._killed = True
        self.resume()
        if self._end is not None:
            self._finish()


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
    words = [os.fsencode(word) for word in argv]
    variables = {os.fsencode(name): os.fsencode(value) for name, value in environment.items()}
    ends: tuple[int, ...] = ()
    try:
        ends = pty.openpty()
        set_size(ends[0], *size)
        terminal = (*ends, "")
        _Terminal(reactor, os.fsencode(executable), words, variables, os.fsencode(cwd), process, usePTY=terminal)
    except OSError as error:
        for descriptor in ends:
            os.close(descriptor)
        raise CommandFailedToStart(f"{argv[0]!r} could not be started: {str(error.strerror).lower()}") from None
    return process
