"""Processes: each the leader of a process group of its own, so that a whole tree can be ended; output in large pieces,
with back-pressure.

``subprocess.Popen`` in a pool thread starts it (vfork: the reactor is not held up). It is not reaped before the job is
over: until then its id can belong to nobody else, so a signal to the group never hits a stranger.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IPushProducer
from twisted.internet.threads import deferToThreadPool
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool

from loopsy.errors import CommandFailedToStart
from loopsy.groups import Group, group_of
from loopsy.services import pipes
from loopsy.services.exits import watch
from loopsy.services.pipes import Ends, Input, Output
from loopsy.wire.execution import KILL_GRACE_S

STRAGGLER_S = 0.05
"""Between looks at whether a group is gone whose leader and outputs are gone."""
AFTER_LEADER_S = 1.0
"""What a leader's group may still say once it is gone."""
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
    has_input: bool = False
    """Whether it is written to; else it reads from nothing."""
    pty: bool = False
    """A terminal instead of pipes; all its output is then standard output."""
    is_leader: bool = False
    """Once it is gone nobody is to go on for it: the rest of its group is ended."""


class ProcessGroup:
    """A started process, its outputs, and its end."""

    def __init__(self, reactor: Reactor, receiver: Receiver, is_leader: bool = False) -> None:
        self.receiver = receiver
        self._is_leader = is_leader
        self.pid = 0
        self._reactor = reactor
        self._popen: subprocess.Popen[bytes] | None = None
        self._group: Group | None = None
        self._outputs: list[Output] = []
        self._input: Input | None = None
        self._open = 0
        self._status: int | None = None
        self._over = False
        self._ending = False
        self._killed = False
        self._next_step: IDelayedCall | None = None
        self._next_look: IDelayedCall | None = None

    def _adopt(self, popen: subprocess.Popen[bytes], ends: Ends) -> None:
        taken = [(ends.out, self.receiver.out), *([] if ends.err is None else [(ends.err, self.receiver.err)])]
        self._popen, self.pid, self._open = popen, popen.pid, len(taken)
        self._group = group_of(popen.pid)
        watch(self._reactor, popen, self.exited)
        self._input = None if ends.input is None else pipes.input_(self._reactor, ends.input)
        self._outputs = [pipes.output(self._reactor, end, deliver, self._output_closed) for end, deliver in taken]

    def exited(self, status: int) -> None:
        """The leader is gone (not reaped yet)."""
        self._status = status
        self._finish_if_over()
        if self._is_leader and not self._over and not self._ending:
            self._next_step = self._reactor.callLater(AFTER_LEADER_S, self.end)

    def _output_closed(self) -> None:
        self._open -= 1
        self._finish_if_over()

    def _finish_if_over(self) -> None:
        if self._over or self._open or self._status is None or self._popen is None:
            return
        if self._ending and not self._killed and self._group is not None and self._group.has_others():
            self._next_look = self._reactor.callLater(STRAGGLER_S, self._finish_if_over)
            return
        self._over = True
        for call in (self._next_step, self._next_look):
            if call is not None and call.active():
                call.cancel()
        self._popen.wait()
        if self._input is not None:
            self._input.close()
        self.receiver.ended(self._status)

    def write(self, data: bytes) -> None:
        """To its standard input, once it takes it."""
        if self._input is not None and self._input.connected:
            self._input.write(data)

    def feed_from(self, producer: IPushProducer) -> None:
        """Whoever writes is asked to pause while it doesn't take what was written."""
        if self._input is not None and self._input.connected:
            self._input.registerProducer(producer, True)

    def close_input(self) -> None:
        """Nothing more is written: it reads what waits, then the end."""
        if self._input is not None:
            self._input.unregisterProducer()
            self._input.loseConnection()

    @property
    def unread(self) -> int:
        """Bytes written that it has not taken."""
        return 0 if self._input is None else self._input.waiting

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
        if self._group is not None:
            self._group.terminate()
        if self._next_step is not None and self._next_step.active():
            self._next_step.cancel()
        self._next_step = self._reactor.callLater(KILL_GRACE_S, self.kill)

    def kill(self) -> None:
        """KILL to the whole group, and no longer wait for its output than AFTER_KILL_S."""
        if self._over or self._killed:
            return
        self._ending = self._killed = True
        if self._group is not None:
            self._group.kill()
        self.resume()
        if self._next_step is not None and self._next_step.active():
            self._next_step.cancel()
        self._next_step = self._reactor.callLater(AFTER_KILL_S, self._close_outputs)
        self._finish_if_over()

    def _close_outputs(self) -> None:
        for output in self._outputs:
            if output.fileno() != -1:
                output.close()


class Nobody(Receiver):
    """For a process whose starter gave up while it was being started."""

    def out(self, data: bytes) -> None:
        """Throw it away."""

    def err(self, data: bytes) -> None:
        """Throw it away."""

    def ended(self, status: int) -> None:
        """Nobody asks."""


def _start(command: Command, ends: Ends) -> subprocess.Popen[bytes]:
    stdin, stdout, stderr = ends.theirs
    try:
        return subprocess.Popen(
            list(command.argv),
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
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


def spawn(reactor: Reactor, pool: ThreadPool, command: Command, receiver: Receiver) -> Deferred[ProcessGroup]:
    """Start a command. Fires when it runs.

    :raises CommandFailedToStart: there is no such program or directory, or it may not be run.
    """
    started: Deferred[ProcessGroup] = Deferred()
    group = ProcessGroup(reactor, receiver, command.is_leader)
    try:
        ends = pipes.terminal() if command.pty else pipes.pipes(command.has_input)
    except OSError as error:
        raise CommandFailedToStart(f"{command.argv[0]!r} could not be started: {str(error.strerror).lower()}") from None

    def adopt(popen: subprocess.Popen[bytes]) -> None:
        given_up = started.called
        if given_up:
            group.receiver = Nobody()
        group._adopt(popen, ends)
        if given_up:
            group.end()
        else:
            started.callback(group)

    def start() -> None:
        try:
            popen = _start(command, ends)
        finally:
            ends.close_theirs()
        reactor.callFromThread(adopt, popen)

    def failed(failure: Failure) -> None:
        if group.pid:
            failure.raiseException()
        ends.close_ours()
        if not started.called:
            started.errback(failure)

    deferToThreadPool(reactor, pool, start).addErrback(failed)
    return started
