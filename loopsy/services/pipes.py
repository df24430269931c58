"""The ends of a process's pipes (or of its terminal) in the reactor."""

from __future__ import annotations

import os
import tty
from collections.abc import Callable
from typing import Any

from attrs import frozen
from twisted.internet import abstract, fdesc, main
from twisted.python.failure import Failure

READ_BYTES = 65536
"""The size of a Linux pipe: one read empties it."""


class Output(abstract.FileDescriptor):
    """The reading end of a pipe in the reactor."""

    def __init__(
        self, reactor: Any, descriptor: int, deliver: Callable[[bytes], None], closed: Callable[[], None]
    ) -> None:
        super().__init__(reactor)
        fdesc.setNonBlocking(descriptor)
        self._descriptor = descriptor
        self._deliver = deliver
        self._closed = closed
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
            return main.CONNECTION_LOST  # of a terminal: its other end is closed
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
        self._closed()

    def close(self) -> None:
        """Give up on it."""
        self.stopReading()
        self.connectionLost(Failure(main.CONNECTION_LOST))


class Input(abstract.FileDescriptor):
    """The writing end of a pipe in the reactor. Holds what the process has not taken yet."""

    def __init__(self, reactor: Any, descriptor: int) -> None:
        super().__init__(reactor)
        fdesc.setNonBlocking(descriptor)
        self._descriptor = descriptor
        self.connected = True

    def fileno(self) -> int:
        """For the reactor; -1 once closed."""
        return self._descriptor

    def writeSomeData(self, data: bytes) -> Any:
        """What the pipe takes now."""
        return fdesc.writeToFD(self._descriptor, data)

    @property
    def waiting(self) -> int:
        """Bytes that the process has not taken."""
        return len(self.dataBuffer) - self.offset + self._tempDataLen

    def connectionLost(self, reason: Failure) -> None:
        """The process closed it, or it was told to close."""
        if self._descriptor == -1:
            return
        super().connectionLost(reason)
        os.close(self._descriptor)
        self._descriptor = -1

    def close(self) -> None:
        """Now, whatever waits."""
        self.stopWriting()
        self.connectionLost(Failure(main.CONNECTION_LOST))


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
    ours, theirs = os.openpty()
    tty.setraw(theirs)
    return Ends(ours, None, os.dup(ours), (theirs, theirs, theirs))


def _close(descriptors: set[int]) -> None:
    for descriptor in descriptors:
        if descriptor != -1:
            os.close(descriptor)
