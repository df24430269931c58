"""The pipes of a new process, and who reads and writes our ends of them: the reactor where it can, else threads."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import Any, Protocol

from attrs import frozen
from twisted.internet.interfaces import IPushProducer


class Output(Protocol):
    """The reading end of a pipe. Starts to read when it is made."""

    connected: Any

    def fileno(self) -> int:
        """-1 once closed."""

    def startReading(self) -> None:
        """Read on."""

    def stopReading(self) -> None:
        """Read no more: whoever writes is held up when the pipe is full."""

    def close(self) -> None:
        """Give up on it."""


class Input(Protocol):
    """The writing end of a pipe. Holds what the process has not taken yet."""

    connected: Any

    @property
    def waiting(self) -> int:
        """Bytes that the process has not taken."""

    def write(self, data: bytes) -> None:
        """Once it is taken."""

    def registerProducer(self, producer: IPushProducer, streaming: bool) -> None:
        """Whoever writes is asked to pause while it isn't taken."""

    def unregisterProducer(self) -> None:
        """Nobody is."""

    def loseConnection(self) -> None:
        """Close it when all was taken."""

    def close(self) -> None:
        """Now, whatever waits."""


def output(reactor: Any, descriptor: int, deliver: Callable[[bytes], None], closed: Callable[[], None]) -> Output:
    """Read ``descriptor``: ``deliver`` gets what comes, ``closed`` is told of the end."""
    made: Output = _KINDS.Output(reactor, descriptor, deliver, closed)
    return made


def input_(reactor: Any, descriptor: int) -> Input:
    """Write to ``descriptor``."""
    made: Input = _KINDS.Input(reactor, descriptor)
    return made


@frozen
class Ends:
    """The descriptors of a new process: ours, and those that it gets as its standard ones."""

    out: int
    err: int | None
    input: int | None
    theirs: tuple[int, int, int]

    def close_theirs(self) -> None:
        """The process has them, or never will."""
        _close(set(self.theirs))

    def close_ours(self) -> None:
        """There is no process."""
        _close({end for end in (self.out, self.err, self.input) if end is not None})


def pipes(has_input: bool) -> Ends:
    """Pipes; without input, the process reads from nothing.

    :raises OSError: no descriptor is left.
    """
    opened: list[int] = []
    try:
        opened += os.pipe()
        opened += os.pipe()
        opened += os.pipe()[::-1] if has_input else (-1, os.open(os.devnull, os.O_RDONLY))
    except OSError:
        _close(set(opened))
        raise
    out, their_out, err, their_err, input_, their_input = opened
    return Ends(out, err, None if input_ == -1 else input_, (their_input, their_out, their_err))


def terminal() -> Ends:
    """A terminal as all three, that hands on just what is written to it. What the process sees is not its controlling
    terminal: it is there so that output is not held back.

    :raises OSError: none is to be had.
    """
    try:
        import tty
    except ImportError:
        raise OSError(errno.ENOTSUP, "this machine's system has no terminals of that kind") from None
    ours, theirs = os.openpty()
    tty.setraw(theirs)
    return Ends(ours, None, os.dup(ours), (theirs, theirs, theirs))


def _close(descriptors: set[int]) -> None:
    for descriptor in descriptors:
        if descriptor != -1:
            os.close(descriptor)


def _kinds() -> Any:
    try:
        import fcntl  # noqa: F401 - where it is, the reactor takes pipes
    except ImportError:
        from loopsy.services import pipes_in_threads

        return pipes_in_threads
    from loopsy.services import pipes_in_reactor

    return pipes_in_reactor


_KINDS = _kinds()
