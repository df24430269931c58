"""A link that is slow, or holds what goes over it: a test finds a transfer in its middle on the quickest machine."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress
from types import TracebackType
from typing import Self


class Gate:
    """What comes to ``port`` is passed on to the target, and back: all of it, or, after ``holds_after``, so many bytes
    and then no more until ``opens``."""

    def __init__(self, target: int, pace_bps: float | None = None) -> None:
        """``pace_bps``: bytes a second that a connection passes on to the target; None: as fast as it can."""
        self._target, self._pace_bps = target, pace_bps
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self._changed = threading.Condition()
        self._left: int | None = None
        """Bytes that may still go; None: any number."""
        self._ends: set[socket.socket] = set()
        """Of the connections that there are."""

    def __enter__(self) -> Self:
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self.opens(cut=True)

    def holds_after(self, size: int) -> None:
        """From now on so many bytes go through."""
        with self._changed:
            self._left = size
            self._changed.notify_all()

    @property
    def is_held(self) -> bool:
        """Whether all have gone that may."""
        return self._left is not None and self._left <= 0

    def opens(self, *, cut: bool = False) -> None:
        """All goes through again. ``cut``: the connections that there are end here, with what is held in them."""
        with self._changed:
            for sock in self._ends if cut else ():
                with suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)
            self._left = None
            self._changed.notify_all()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                near = self._listening.accept()[0]
                threading.Thread(target=self._connect, args=(near,), daemon=True).start()

    def _connect(self, near: socket.socket) -> None:
        with near, suppress(OSError), socket.create_connection(("127.0.0.1", self._target)) as far:
            with self._changed:
                self._ends |= {near, far}
            back = threading.Thread(target=self._pump, args=(far, near), daemon=True)
            back.start()
            self._pump(near, far, self._pace_bps)
            back.join()
            with self._changed:
                self._ends -= {near, far}

    def _pump(self, source: socket.socket, sink: socket.socket, pace_bps: float | None = None) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                self._passes(len(data))
                sink.sendall(data)
                time.sleep(len(data) / pace_bps if pace_bps else 0)
        with suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

    def _passes(self, size: int) -> None:
        with self._changed:
            self._changed.wait_for(lambda: not self.is_held)
            if self._left is not None:
                self._left -= size
