"""One call of a tool: its way to the daemon, and the progress that it reports to whoever called."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple, TypeVar

import anyio
from anyio import to_thread
from attrs import frozen

from loopsy.client.local import LocalDaemon
from loopsy.mcp.outputs import Outputs

T = TypeVar("T")
ANSWER_S = 60.0
"""For what is answered at once, on a peer too. A wait or a command has its own time."""
PROGRESS_S = 1.0
"""Between two reports: people read them, and they keep a client's patience alive."""
THREADS = 64
"""Calls under way at once; a further one waits. An agent has a handful."""


class Step(NamedTuple):
    """How far it is. ``progress`` only grows, in whatever unit."""

    progress: float
    total: float | None
    message: str


Report = Callable[[float, float | None, str | None], Awaitable[None]]


@frozen(eq=False)
class Call:
    """What a tool works with. Every request is on a client of its own that has just read the config: nothing is kept
    that a restart of the daemon could make wrong."""

    connect: Callable[[], LocalDaemon]
    report: Report
    threads: anyio.CapacityLimiter
    outputs: Outputs

    async def ask(self, method: str, path: str, body: object = None, timeout: float = ANSWER_S) -> Any:
        """One question to this machine's daemon; the parsed JSON of its answer. ``timeout`` is in seconds.

        :raises LoopsyError: the daemon's, or that it isn't there.
        """
        return await self.work(lambda daemon: daemon.ask(method, path, body, timeout=timeout))

    async def work(self, job: Callable[[LocalDaemon], T]) -> T:
        """``job`` in a thread. When the call is cancelled, the job's connection is cut, which ends both the job and
        what the daemon does for it.

        :raises LoopsyError: as the job does.
        """
        daemon = self.connect()
        try:
            return await to_thread.run_sync(job, daemon, abandon_on_cancel=True, limiter=self.threads)
        except anyio.get_cancelled_exc_class():
            daemon.break_off()
            raise

    async def watch(self, job: Callable[[LocalDaemon], T], step: Callable[[], Step | None]) -> T:
        """``work`` with a report of its progress every second.

        :raises LoopsyError: as the job does.
        """
        return await self.telling(lambda: self.work(job), step)

    async def telling(self, doing: Callable[[], Awaitable[T]], step: Callable[[], Step | None]) -> T:
        """Anything with a report of its progress every second.

        :raises LoopsyError: as what is done does.
        """
        done: list[T] = []
        failed: list[Exception] = []
        async with anyio.create_task_group() as group:
            group.start_soon(self._tell, step)
            try:
                done.append(await doing())
            except Exception as error:  # raised in here, it would leave as a group
                failed.append(error)
            group.cancel_scope.cancel()
        if failed:
            raise failed[0]
        return done[0]

    async def _tell(self, step: Callable[[], Step | None]) -> None:
        last = 0.0
        while True:
            await anyio.sleep(PROGRESS_S)
            now = step()
            if now is not None and now.progress > last:
                last = now.progress
                await self.report(*now)
