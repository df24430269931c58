"""Looking at tasks: those that run as they are now, the others as they are stored."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

from attrs import frozen

from loopsy.core import tasks
from loopsy.core.principals import Local, Principal
from loopsy.errors import FileMissing, Forbidden
from loopsy.services.storage import Storage
from loopsy.services.task_runs import TaskRun
from loopsy.store import tasks as table
from loopsy.store.tasks import Row
from loopsy.wire import codec


@frozen(kw_only=True)
class Sight:
    """A task as a reader of its events needs it."""

    number: int
    run: TaskRun | None
    """None: it is over."""


@frozen
class TaskBook:
    """All tasks of this machine."""

    _storage: Storage
    _runs: Mapping[str, TaskRun]
    """Those that are not over."""
    _patches: Path

    def row(self, task_id: str, caller: Principal) -> Row:
        """A task as it is stored.

        :raises TaskNotFound: there is none that the caller may see.
        """
        row = table.get(self._storage.reader, task_id)
        if row is None:
            raise tasks.missing(task_id)
        tasks.check_is_for(caller, row.owner, task_id)
        return row

    def check_session(self, agent: str, session_id: str, caller: Principal) -> None:
        """A peer goes on with sessions of its own tasks only: agents keep their user's too, with all that was said.

        :raises Forbidden: it is none of these.
        """
        is_own = isinstance(caller, Local) or table.has_session(self._storage.reader, caller.name, agent, session_id)
        if not is_own:
            raise Forbidden("resumeSessionId: this is no session of a task of yours here")

    def get(self, task_id: str, caller: Principal) -> bytes:
        """One task, as JSON.

        :raises TaskNotFound:
        """
        return self._shown(self.row(task_id, caller))

    def _shown(self, row: Row) -> bytes:
        run = self._runs.get(row.task_id)
        return row.record.encode() if run is None else codec.dump(run.view())

    def pages(self, caller: Principal, status: str | None, agent: str | None, before: str | None) -> Iterator[bytes]:
        """Tasks as JSON, newest first: those that the caller may see.

        :raises TaskNotFound: ``before`` is no task.
        """
        number = None if before is None else self.row(before, caller).number
        over = False if status == "active" else None
        owner = None if isinstance(caller, Local) else caller.name
        return self._found(table.pages(self._storage.reader, owner, agent, number, over), status)

    def _found(self, pages: Iterator[list[Row]], status: str | None) -> Iterator[bytes]:
        for page in pages:
            for row in page:
                run = self._runs.get(row.task_id)
                now = tasks.status_of(run.life.state) if run is not None else row.status
                if status in (None, "active", now):
                    yield self._shown(row)

    def sight(self, task_id: str, caller: Principal) -> Sight:
        """What a reader of a task's events needs.

        :raises TaskNotFound:
        """
        row = self.row(task_id, caller)
        return Sight(number=row.number, run=self._runs.get(task_id))

    def events(self, number: int, after: int, rows: int, size: int) -> list[tuple[int, str]]:
        """Events of a task after ``after``, as JSON, with their numbers: no more than ``rows``, or once they have
        ``size`` characters."""
        return table.events(self._storage.reader, number, after, rows, size)

    def last_seq(self, number: int) -> int:
        """The number of a task's newest event."""
        return table.last_seq(self._storage.reader, number)

    def seq_at(self, number: int, since: int) -> int:
        """The number of the last event until a time."""
        return table.seq_at(self._storage.reader, number, since)

    def patch(self, task_id: str, caller: Principal) -> BinaryIO:
        """What a task changed, as an open patch.

        :raises TaskNotFound: :raises FileMissing: it changed nothing, or nothing that is told.
        """
        row = self.row(task_id, caller)
        try:
            return self.patch_path(row.task_id).open("rb")
        except FileNotFoundError:
            raise FileMissing(f"task {task_id} has no patch") from None

    def patch_path(self, task_id: str) -> Path:
        """Where a task's patch lies, if there is one."""
        return self._patches / f"{task_id}.patch"
