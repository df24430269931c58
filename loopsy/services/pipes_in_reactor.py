"""The ends of a process's pipes (or of its terminal) in the reactor, where it takes such descriptors (POSIX)."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

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
