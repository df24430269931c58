"""How many AI tasks run at once here, and who waits for a place."""

from __future__ import annotations

from collections.abc import Collection

from loopsy.core.principals import LOCAL
from loopsy.errors import TooManyTasks

QUEUE = 100
"""Tasks that wait for a slot: a person's list, not a batch system."""


class Slots:
    """Who runs, and who waits to. What peers ask for doesn't keep this machine's user from running, or queueing, as
    much: of the user's tasks only the user's own are counted, and they go first."""

    def __init__(self) -> None:
        self._owners: dict[str, str] = {}
        """Of all that run or wait, by task id."""
        self._taken: set[str] = set()
        self._queue: list[str] = []

    def admit(self, task_id: str, owner: str, limit: int, queue: bool) -> bool:
        """A new task: True, it has a slot; False, it waits for one.

        :raises TooManyTasks: there is none, and it does not want to wait, or too many wait.
        """
        running, waiting = self._counted(self._taken, owner), self._counted(self._queue, owner)
        if running < limit and not waiting:
            self._taken.add(task_id)
        elif not queue:
            raise TooManyTasks(
                f"{running} tasks run here already (aiTasks.maxConcurrent: {limit})",
                retry_after=5,
                hint="ask for queue: true, wait for one to end, or cancel one",
            )
        elif waiting >= QUEUE:
            raise TooManyTasks(f"{waiting} tasks wait here already", retry_after=60)
        else:
            self.enqueue(task_id, owner)
        self._owners[task_id] = owner
        return task_id in self._taken

    def enqueue(self, task_id: str, owner: str) -> None:
        """It waits (one that waited before the daemon's restart, too)."""
        self._owners[task_id] = owner
        self._queue.append(task_id)
        self._queue.sort(key=lambda waiting: self._owners[waiting] != LOCAL.name)

    def gone(self, task_id: str) -> None:
        """It is over, or no longer waits."""
        self._owners.pop(task_id, None)
        self._taken.discard(task_id)
        if task_id in self._queue:
            self._queue.remove(task_id)

    def next(self, limit: int) -> str | None:
        """Whose turn it is: it has a slot now."""
        if not self._queue or self._counted(self._taken, self._owners[self._queue[0]]) >= limit:
            return None
        task_id = self._queue.pop(0)
        self._taken.add(task_id)
        return task_id

    def _counted(self, task_ids: Collection[str], owner: str) -> int:
        """How many of these count for an owner."""
        if owner != LOCAL.name:
            return len(task_ids)
        return sum(self._owners[task_id] == owner for task_id in task_ids)

    def position(self, task_id: str) -> int | None:
        """Its place in the queue, from 1; None: it does not wait."""
        return self._queue.index(task_id) + 1 if task_id in self._queue else None
