"""Processes: each the leader of a process group of its own, so that a whole tree can be ended; output in large pieces,
with back-pressure.

``subprocess.Popen`` in a pool thread starts it (vfork: the reactor is not held up). It is not reaped before the job is
over: until then its id can belong to nobody else, so a signal to the group never hits a stranger.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import psutil
from attrs import frozen
from twisted.internet import abstract, fdesc, main
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.threads import deferToThreadPool
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool

from loopsy.errors import CommandFailedToStart
from loopsy.services.exits import watch
from loopsy.wire.execution import KILL_GRACE_S

READ_BYTES = 65536
"""The size of a Linux pipe: one read empties it."""
STRAGGLER_S = 0.05
"""Between looks at whether a group is gone whose leader and outputs are gone."""
AFTER_KILL_S = 1.0
"""What escaped the group may still hold our pipes after KILL; so much later they are closed."""


Reactor = Any
"""IReactorFDSet, IReactorFromThreads and IReactorTime in one; zope's interfaces don't compose as types."""


class Receiver(Protocol):
    """Who gets a process's output and end."""

    def out(self, data: bytes) -> None:
        """Some standard output."""

    def err(self, data: bytes) -> None:
        """Some standard error."""

    def ended(self, status: int) -> None:
        """The process is gone and all its output was handed over. An exit code, or minus a signal's number."""


@frozen(kw_only=True)
class Command:
    """What to start. No shell reads it."""

    argv: Sequence[str]
    cwd: str | None
    env: Mapping[str, str]


class Output(abstract.FileDescriptor):
    """The reading end of a pipe in the reactor."""

    def __init__(self, reactor: Reactor, descriptor: int, group: ProcessGroup, stream: str) -> None:
        super().__init__(reactor)
        fdesc.setNonBlocking(descriptor)
        self._descriptor = descriptor
        self._group = group
        self._deliver = getattr(group.receiver, stream)
        self.connected = True
        self.startReading()

    def fileno(self) -> int:
        """For the reactor; -1 once closed."""
        return self._descriptor

    def doRead(self) -> Exception | None:
        """Hand on what is there."""
        try:
            data = os.read(self._descriptor, READ_BYTES)
        except BlockingIOError:
            return None
        except OSError:
            return main.CONNECTION_LOST
        if not data:
            return main.CONNECTION_DONE
        self._deliver(data)
        return None

    def writeSomeData(self, data: bytes) -> int:
        """Nothing is ever written here."""
        raise NotImplementedError

    def connectionLost(self, reason: Failure) -> None:
        """The other end was closed by all who held it, or we give up on it."""
        if self._descriptor == -1:
            return
        super().connectionLost(reason)
        os.close(self._descriptor)
        self._descriptor = -1
        self._group.output_closed()

    def close(self) -> None:
        """Give up on it."""
        self.stopReading()
        self.connectionLost(Failure(main.CONNECTION_LOST))


class ProcessGroup:
    """A started process, its outputs, and its end."""

    def __init__(self, reactor: Reactor, receiver: Receiver) -> None:
        self.receiver = receiver
        self.pid = 0
        self._reactor = reactor
        self._popen: subprocess.Popen[bytes] | None = None
        self._outputs: list[Output] = []
        self._open = 0
        self._status: int | None = None
        self._over = False
        self._ending = False
        self._killed = False
        self._next_step: IDelayedCall | None = None
        self._next_look: IDelayedCall | None = None

    def _adopt(self, popen: subprocess.Popen[bytes], pipes: Sequence[int]) -> None:
        self._popen, self.pid, self._open = popen, popen.pid, len(pipes)
        watch(self._reactor, popen, self.exited)
        self._outputs = [
            Output(self._reactor, pipe, self, stream) for pipe, stream in zip(pipes, ("out", "err"), strict=True)
        ]

    def exited(self, status: int) -> None:
        """The leader is gone (not reaped yet)."""
        self._status = status
        self._finish_if_over()

    def output_closed(self) -> None:
        """One of the outputs ended."""
        self._open -= 1
        self._finish_if_over()

    def _finish_if_over(self) -> None:
        if self._over or self._open or self._status is None or self._popen is None:
            return
        if self._ending and not self._killed and _has_others(self.pid):
            self._next_look = self._reactor.callLater(STRAGGLER_S, self._finish_if_over)
            return
        self._over = True
        for call in (self._next_step, self._next_look):
            if call is not None and call.active():
                call.cancel()
        self._popen.wait()
        self.receiver.ended(self._status)

    def pause(self) -> None:
        """Read no more output: the process blocks when its pipes are full."""
        for output in self._outputs:
            if output.connected:
                output.stopReading()

    def resume(self) -> None:
        """Read on."""
        for output in self._outputs:
            if output.connected:
                output.startReading()

    def end(self) -> None:
        """TERM to the whole group, KILL five seconds later if anything of it is left."""
        if self._over or self._ending:
            return
        self._ending = True
        self._signal(signal.SIGTERM)
        self._next_step = self._reactor.callLater(KILL_GRACE_S, self.kill)

    def kill(self) -> None:
        """KILL to the whole group, and no longer wait for its output than AFTER_KILL_S."""
        if self._over or self._killed:
            return
        self._ending = self._killed = True
        self._signal(signal.SIGKILL)
        self.resume()
        if self._next_step is not None and self._next_step.active():
            self._next_step.cancel()
        self._next_step = self._reactor.callLater(AFTER_KILL_S, self._close_outputs)
        self._finish_if_over()

    def _signal(self, number: signal.Signals) -> None:
        try:
            os.killpg(self.pid, number)
        except (ProcessLookupError, PermissionError):
            pass  # all of it is gone, or (by sudo) another user's: the outputs are closed in any case

    def _close_outputs(self) -> None:
        for output in self._outputs:
            if output.fileno() != -1:
                output.close()


def _has_others(group: int) -> bool:
    """Whether the group has members beside its leader (who is not reaped yet, so that the id is still its own)."""
    return any(pid != group and _group_of(pid) == group for pid in psutil.pids())


def _group_of(pid: int) -> int:
    try:
        return os.getpgid(pid)
    except OSError:
        return -1


class Nobody(Receiver):
    """For a process whose starter gave up while it was being started."""

    def out(self, data: bytes) -> None:
        """Throw it away."""

    def err(self, data: bytes) -> None:
        """Throw it away."""

    def ended(self, status: int) -> None:
        """Nobody asks."""


def _start(command: Command, out: int, err: int) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            list(command.argv),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            cwd=command.cwd,
            env=dict(command.env),
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        raise CommandFailedToStart(_why(command, error)) from None


def _why(command: Command, error: Exception) -> str:
    if not isinstance(error, OSError):
        return f"{command.argv[0]!r} could not be started: {error}"
    if command.cwd is not None and error.filename == command.cwd:
        return f"cwd {command.cwd!r}: {(error.strerror or str(error)).lower()}"
    if isinstance(error, PermissionError) and os.path.isdir(command.argv[0]):
        return f"{command.argv[0]!r} could not be started: it is a directory"
    if isinstance(error, FileNotFoundError):
        return f"{command.argv[0]!r} was not found on that machine"
    return f"{command.argv[0]!r} could not be started: {(error.strerror or str(error)).lower()}"


def _two_pipes() -> tuple[int, int, int, int]:
    out = os.pipe()
    try:
        return *out, *os.pipe()
    except OSError:
        for descriptor in out:
            os.close(descriptor)
        raise


def spawn(reactor: Reactor, pool: ThreadPool, command: Command, receiver: Receiver) -> Deferred[ProcessGroup]:
    """Start a command. Fires when it runs.

    :raises CommandFailedToStart: there is no such program or directory, or it may not be run.
    """
    started: Deferred[ProcessGroup] = Deferred()
    group = ProcessGroup(reactor, receiver)
    try:
        out_read, out_write, err_read, err_write = _two_pipes()
    except OSError as error:
        raise CommandFailedToStart(f"{command.argv[0]!r} could not be started: {str(error.strerror).lower()}") from None

    def adopt(popen: subprocess.Popen[bytes]) -> None:
        given_up = started.called
        if given_up:
            group.receiver = Nobody()
        group._adopt(popen, (out_read, err_read))
        if given_up:
            group.end()
        else:
            started.callback(group)

    def start() -> None:
        try:
            popen = _start(command, out_write, err_write)
        finally:
            os.close(out_write)
            os.close(err_write)
        reactor.callFromThread(adopt, popen)

    def failed(failure: Failure) -> None:
        if group.pid:
            failure.raiseException()
        os.close(out_read)
        os.close(err_read)
        if not started.called:
            started.errback(failure)

    deferToThreadPool(reactor, pool, start).addErrback(failed)
    return started
