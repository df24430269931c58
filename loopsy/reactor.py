"""Twisted's epoll reactor with less to do for each event; where there is no epoll, Twisted's own choice is left alone.

Twisted calls every descriptor within a logging context of its own, made for that one call, so that log lines can name
the connection: ours name services, and the context takes longer to make than most calls take (docs/decisions/051).
"""

from __future__ import annotations

import sys
from select import EPOLLIN
from typing import Any

from twisted.internet.epollreactor import EPollReactor
from twisted.internet.main import installReactor
from twisted.python import log


class Reactor(EPollReactor):
    """As Twisted's, but for that context where there is something to read."""

    def doPoll(self, timeout: float | None) -> None:
        """Wait for events, for so many seconds at most, and deal with each."""
        ready = self._poller.poll(-1 if timeout is None else timeout, len(self._selectables))
        for fd, event in ready:
            selectable = self._selectables.get(fd)
            if selectable is not None:
                try:
                    why = selectable.doRead() if event == EPOLLIN else self._deal_with(selectable, fd, event)
                except BaseException as error:
                    log.err()
                    why = error
                if why:
                    self._lose(selectable, why)

    doIteration = doPoll

    def _deal_with(self, selectable: Any, fd: int, event: int) -> Any:
        """All but mere reading is rare: as Twisted does it."""
        return log.callWithLogger(selectable, self._doReadOrWrite, selectable, fd, event)

    def _lose(self, selectable: Any, why: Any) -> None:
        """What goes wrong with one descriptor's farewell is no other's business."""
        log.callWithLogger(selectable, self._disconnectSelectable, selectable, why, True)


def install() -> None:
    """Make it this process's, unless there is one already (``twistd --reactor``)."""
    if "twisted.internet.reactor" not in sys.modules:
        installReactor(Reactor())
