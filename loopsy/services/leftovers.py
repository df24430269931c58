"""What a task's agent has started beyond the process group that it leads: agents give each tool a session of its own,
so that a signal to the group doesn't reach it.

They are found as the leader's descendants, and by ``LOOPSY_TASK=<id>`` in their environment, which nothing else has:
the first misses what was detached, the second what has cleared its environment.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import Any

import psutil
from twisted.internet.defer import DeferredLock
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThreadPool

from loopsy.agents.environment import TASK_ID

GRACE_S = 5.0
"""Between TERM and KILL, as for a process group."""
SETTLE_S = 1.0
"""After an agent's end, what was told to end with it (its MCP servers) is given so long before it counts as left."""
LOOK_S = 0.05
"""Between two looks: one costs some milliseconds of a thread."""
NAMED = 5
"""Processes that a notice names."""


def of(task_id: str) -> Iterator[psutil.Process]:
    """The processes of a task that live. Blocks for some milliseconds: call it in a thread."""
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and process.environ().get(TASK_ID) == task_id:
                yield process
        except (psutil.Error, OSError):
            continue  # another user's, or gone


def tell(task_id: str, number: signal.Signals) -> int:
    """Send a signal to each; how many there were. Blocks, too."""
    found = list(of(task_id))
    for process in found:
        send(process, number)
    return len(found)


def send(process: psutil.Process, number: signal.Signals) -> None:
    """A signal to that process, unless it is gone (and its number another's)."""
    try:
        process.send_signal(number)
    except (psutil.Error, OSError):
        pass


def lives(process: psutil.Process) -> bool:
    """Whether it still runs."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except (psutil.Error, OSError):
        return False


class Leftovers:
    """Those of one task. What was seen once is remembered: when its parent is gone, nothing may lead to it any more."""

    def __init__(self, reactor: Any, task_id: str) -> None:
        self._reactor = reactor
        self._task_id = task_id
        self._leader: psutil.Process | None = None
        self._seen: set[psutil.Process] = set()
        self._asked_at: float | None = None
        self._one_at_a_time = DeferredLock()

    def led_by(self, pid: int) -> None:
        """The agent itself. Its group is somebody else's business."""
        try:
            self._leader = psutil.Process(pid)
        except psutil.Error:
            self._leader = None

    async def look(self) -> None:
        """See who is there, before anything is told to end."""
        await self._in_thread(self._look, True)

    async def ask_tree(self) -> None:
        """TERM to the leader's descendants."""
        await self._in_thread(self._ask, False)

    async def ask_all(self) -> None:
        """TERM to all of them, once: what one of them starts to tidy up with is let be."""
        if self._asked_at is None:
            self._asked_at = self._reactor.seconds()
            await self._in_thread(self._ask, True)

    async def end(self) -> None:
        """TERM to all of them unless they had it, KILL to what is there five seconds after that."""
        await self.ask_all()
        while await self._in_thread(self._look, True):
            if self._reactor.seconds() >= (self._asked_at or 0) + GRACE_S:
                await self._in_thread(self._kill)
                return
            await self._pause()

    async def left(self) -> str:
        """Those that outlive the agent, in words; nothing if there are none."""
        until = self._reactor.seconds() + SETTLE_S
        while (words := await self._in_thread(self._words)) and self._reactor.seconds() < until:
            await self._pause()
        return str(words)

    def _pause(self) -> Any:
        return deferLater(self._reactor, LOOK_S, lambda: None)

    def _in_thread(self, work: Any, *arguments: Any) -> Any:
        return self._one_at_a_time.run(
            deferToThreadPool, self._reactor, self._reactor.getThreadPool(), work, *arguments
        )

    # -- in a thread ------------------------------------------------------------------------------------------------
    def _look(self, by_name: bool) -> set[psutil.Process]:
        found = set(of(self._task_id)) if by_name else set()
        try:
            found |= set(self._leader.children(recursive=True)) if self._leader is not None else set()
        except (psutil.Error, OSError):
            pass
        self._seen |= found
        return {process for process in (self._seen if by_name else found) if lives(process) and not self._led(process)}

    def _led(self, process: psutil.Process) -> bool:
        try:
            return self._leader is not None and os.getpgid(process.pid) == self._leader.pid
        except OSError:
            return True

    def _ask(self, by_name: bool) -> None:
        for process in self._look(by_name):
            send(process, signal.SIGTERM)

    def _kill(self) -> None:
        for process in self._look(True):
            send(process, signal.SIGKILL)

    def _words(self) -> str:
        found = sorted(of(self._task_id), key=lambda process: process.pid)
        named = ", ".join(f"{process.pid} {name_of(process)}" for process in found[:NAMED])
        more = f" and {len(found) - NAMED} more" if len(found) > NAMED else ""
        return named + more


def name_of(process: psutil.Process) -> str:
    """Its program, as far as it still can be told."""
    try:
        return str(process.name())
    except (psutil.Error, OSError):
        return "?"
