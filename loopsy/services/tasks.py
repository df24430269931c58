"""AI tasks: asked for, queued, run, answered, remembered, and forgotten when they are old."""

from __future__ import annotations

import os
import signal
import uuid
from functools import partial
from typing import Any

from attrs import evolve
from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger

from loopsy.core import tasks
from loopsy.core.principals import LOCAL, PeerPrincipal, Principal, Scope, scopes_of
from loopsy.core.task_events import Budget
from loopsy.core.task_slots import Slots
from loopsy.core.tasks import Life, Pending, Plan
from loopsy.errors import Forbidden, InternalError, InvalidRequest, TaskIsOver
from loopsy.services import leftovers
from loopsy.services.audit import Audit
from loopsy.services.clock import now_ms
from loopsy.services.events import Events
from loopsy.services.notices import Notices
from loopsy.services.settings import Settings
from loopsy.services.storage import Storage
from loopsy.services.task_agents import Agents
from loopsy.services.task_answers import TaskAnswers
from loopsy.services.task_book import TaskBook
from loopsy.services.task_log import Sources, TaskLog
from loopsy.services.task_news import TaskNews
from loopsy.services.task_runs import Surroundings, TaskRun
from loopsy.services.transfer import Transfer
from loopsy.services.worktrees import Worktrees
from loopsy.store import tasks as table
from loopsy.store.tasks import Row
from loopsy.wire import codec
from loopsy.wire.tasks import (
    ERROR,
    EXIT,
    PENDING,
    STATUS,
    CreateTask,
    ResumeTask,
    Task,
)

PRUNE_S = 3600.0
SHOWN = 500
"""Characters of a prompt or a command in a notice of change; the rest is at the task's own address."""


class Tasks(Service):
    """The tasks of this machine."""

    name = "tasks"
    log = Logger()

    def __init__(
        self,
        reactor: Any,
        settings: Settings,
        storage: Storage,
        news: TaskNews,
        agents: Agents,
        worktrees: Worktrees,
    ) -> None:
        self._reactor = reactor
        self._settings = settings
        self._storage = storage
        self._news = news
        self._agents = agents
        self._worktrees = worktrees
        self._slots = Slots()
        self._runs: dict[str, TaskRun] = {}
        self.book = TaskBook(storage, self._runs, settings.layout.tasks)
        self.answers = TaskAnswers(reactor, settings, self.book, self._runs)
        self._all_over: Deferred[None] | None = None
        self._prune = LoopingCall(self._prune_old)
        self._prune.clock = reactor
        self._around = Surroundings(
            reactor=reactor,
            worktrees=worktrees,
            data_dir=str(settings.layout.root),
            patches=str(settings.layout.tasks),
            session=agents.session,
            rules=lambda: settings.config.ai_tasks.rules,
            changed=self._changed,
            asks=news.asks,
            settled=news.settled,
            over=self._over,
            position=self._slots.position,
        )
        settings.when_changed(self._settings_changed)

    # -- the service's own life -------------------------------------------------------------------------------------
    def startService(self) -> None:
        """Take up what was left when the daemon stopped."""
        super().startService()
        self._settings.layout.tasks.mkdir(mode=0o700, exist_ok=True)
        for row in table.active(self._storage.reader):
            if row.status == PENDING:
                self._requeue(row)
            else:
                Deferred.fromCoroutine(self._give_up(row)).addErrback(self._bug)
        self._settings_changed()
        self._prune.start(PRUNE_S).addErrback(self._bug)

    def _requeue(self, row: Row) -> None:
        plan = codec.parse_bytes(Plan, row.asked.encode())
        last = table.last_seq(self._storage.reader, row.number)
        run = self._run(Life(plan=plan, state=Pending(), updated_at=now_ms()), row.number, last)
        self._slots.enqueue(run.task_id, plan.owner)

    async def _give_up(self, row: Row) -> None:
        """It ran when the daemon was killed: what is left of it ends, and it failed."""
        last = table.last_seq(self._storage.reader, row.number)
        await self._in_thread(leftovers.tell, row.task_id, signal.SIGKILL)
        log = TaskLog(Sources(self._storage, row.number, row.task_id), Budget(10), last)
        log.add(ERROR, {"message": tasks.RESTARTED})
        log.add(STATUS, {"status": "failed", "reason": tasks.RESTARTED})
        log.add(EXIT, {"exitCode": None})
        task = tasks.restarted(codec.parse_bytes(Task, row.record.encode()), log.last_seq, now_ms())
        record = codec.dump(task).decode()
        log.also(partial(table.update, number=row.number, status=task.status, completed_at=now_ms(), record=record))
        await log.flushed()
        self._news.changed(task)

    async def stopService(self) -> None:  # our parent awaits it
        """End every task and wait until all are over. What waits for a slot goes on waiting, in the database."""
        await self.end_all()
        self._news.stop()
        if self._prune.running:
            self._prune.stop()

    async def end_all(self) -> None:
        """Start no more tasks, end those that run, and wait until all are over."""
        super().stopService()
        for run in tuple(self._runs.values()):
            if isinstance(run.life.state, Pending):
                del self._runs[run.task_id]
            else:
                run.end("stopped")
        if self._runs:
            self._all_over = self._all_over or Deferred()
            await self._all_over

    def _in_thread(self, work: Any, *arguments: Any) -> Deferred[Any]:
        return deferToThreadPool(self._reactor, self._reactor.getThreadPool(), work, *arguments)

    def _bug(self, failure: Any) -> None:
        self.log.failure("a task could not be looked after", failure)

    # -- asking for one ---------------------------------------------------------------------------------------------
    async def create(self, asked: CreateTask, caller: Principal, from_node_id: str) -> Task:
        """A new task; on disk, and begun or queued, when this returns.

        :raises Forbidden: :raises InvalidRequest: :raises AgentMissing: :raises CommandDenied: :raises PathDenied:
        :raises TooManyTasks:
        """
        tasks.check_may_ask(caller, asked)
        if asked.resume_session_id is not None:
            self.book.check_session(asked.agent, asked.resume_session_id, caller)
        task_id = str(uuid.uuid4())
        cwd = await self._agents.directory(asked.cwd, caller)
        self._agents.session_of(asked, cwd, task_id)
        worktree = None
        if asked.worktree:
            top = await self._worktrees.check(cwd)
            await self._agents.directory(top, caller)
            worktree = self._worktrees.place(task_id)
        plan = Plan(
            task_id=task_id,
            asked=asked,
            title=tasks.title_of(asked),
            cwd=cwd,
            owner=caller.name,
            from_node_id=from_node_id,
            at=now_ms(),
            worktree=worktree,
        )
        return await self._admit(plan)

    async def resume(self, task_id: str, asked: ResumeTask, caller: Principal, from_node_id: str) -> Task:
        """A new task that goes on in the session of one that is over.

        :raises TaskNotFound: :raises InvalidRequest: it has no session, or still runs. :raises Forbidden:
        """
        row = self.book.row(task_id, caller)
        before = codec.parse_bytes(Plan, row.asked.encode())
        old = codec.parse_bytes(Task, row.record.encode())
        if task_id in self._runs:
            raise InvalidRequest("the task isn't over: wait for its end, or cancel it")
        if old.session_id is None:
            raise InvalidRequest(f"the task has no session to go on with: {old.error or 'its agent told none'}")
        again = evolve(
            before.asked,
            prompt=asked.prompt,
            timeout=asked.timeout or before.asked.timeout,
            queue=asked.queue,
            resume_session_id=old.session_id,
            title=None,
        )
        tasks.check_may_ask(caller, again)
        await self._agents.directory(before.cwd, caller)
        if before.worktree is not None and not os.path.isdir(before.worktree):
            raise InvalidRequest("the worktree of that task is gone")
        plan = evolve(
            before,
            task_id=str(uuid.uuid4()),
            asked=again,
            title=tasks.title_of(again),
            owner=caller.name,
            from_node_id=from_node_id,
            at=now_ms(),
            resumes=task_id,
        )
        self._agents.session_of(again, before.worktree or before.cwd, plan.task_id)
        return await self._admit(plan)

    async def _admit(self, plan: Plan) -> Task:
        if not self.running:
            raise InternalError("the daemon is stopping")
        task_id, limits = plan.task_id, self._settings.config.ai_tasks
        has_slot = self._slots.admit(task_id, plan.owner, limits.max_concurrent, plan.asked.queue)
        life = Life(plan=plan, state=Pending(), updated_at=plan.at)
        row = (plan.owner, plan.asked.agent, plan.worktree, codec.dump(plan), codec.dump(tasks.view(life, 0)))
        try:
            number = await self._storage.write(partial(insert, task_id=task_id, row=row))
        except BaseException:
            self._slots.gone(task_id)
            raise
        run = self._run(life, number)
        if has_slot or self._slots.position(task_id) is None:
            run.begin()
        else:
            run.status()
        self._start_next()
        return run.view()

    def _run(self, life: Life, number: int, last_seq: int = 0) -> TaskRun:
        limits, asked = self._settings.config.ai_tasks, life.plan.asked
        log = TaskLog(Sources(self._storage, number, life.plan.task_id), Budget(limits.max_events), last_seq)
        run = TaskRun(
            self._around, life, log, asked.timeout or limits.timeout, asked.approval_timeout or limits.approval_timeout
        )
        self._runs[run.task_id] = run
        return run

    def _start_next(self) -> None:
        """Give free slots to those that wait."""
        while self.running and (task_id := self._slots.next(self._settings.config.ai_tasks.max_concurrent)):
            run = self._runs.get(task_id)
            if run is not None:
                run.begin()

    # -- what becomes of it -----------------------------------------------------------------------------------------
    def _changed(self, run: TaskRun) -> None:
        self._news.changed(run.view())

    def _over(self, run: TaskRun) -> None:
        self._runs.pop(run.task_id, None)
        self._slots.gone(run.task_id)
        self._news.changed(run.view())
        self._start_next()
        if not self._runs and self._all_over is not None:
            done, self._all_over = self._all_over, None
            done.callback(None)

    def _settings_changed(self) -> None:
        """Other keys, scopes, rules or limits."""
        auth = self._settings.config.auth
        for run in tuple(self._runs.values()):
            if not may_still(run.life.plan, auth):
                run.end("distrusted")
            else:
                run.desk.look_again()
        self._start_next()

    @property
    def active(self) -> int:
        """How many are not over."""
        return len(self._runs)

    @property
    def total(self) -> int:
        """How many are remembered."""
        return table.totals(self._storage.reader)

    # -- ending -----------------------------------------------------------------------------------------------------
    async def end(self, task_id: str, caller: Principal, only: str | None = None) -> bool:
        """Cancel a task, or forget one that is over (True). ``only``: cancel, or remove, whatever has become of it
        meanwhile.

        :raises TaskNotFound: :raises TaskIsOver: :raises InvalidRequest: it can only be cancelled yet.
        """
        row = self.book.row(task_id, caller)
        run = self._runs.get(task_id)
        if run is not None:
            if only == "remove":
                raise InvalidRequest("the task isn't over: wait for its end, or cancel it")
            run.end("cancelled")
            return False
        if only == "cancel":
            raise TaskIsOver(f"task {task_id} is {row.status} already")
        await self._forget(row)
        return True

    async def _forget(self, row: Row) -> None:
        worktree: str | None = await self._storage.write(partial(table.delete, number=row.number))
        path = self.book.patch_path(row.task_id)
        await self._in_thread(partial(path.unlink, missing_ok=True))
        if worktree is not None:
            await self._worktrees.remove(worktree)
        self._news.removed(row.task_id, row.owner)

    async def _prune_old(self) -> None:
        limits = self._settings.config.ai_tasks
        before = now_ms() - limits.keep_days * 24 * 3600 * 1000
        try:
            for row in table.too_old(self._storage.reader, before, limits.keep_bytes):
                await self._forget(row)
        except Exception:
            self.log.failure("old tasks could not be forgotten; they are tried again")

def insert(db: Any, task_id: str, row: tuple[str, str, str | None, bytes, bytes]) -> int:
    """A new row, in the storage's transaction."""
    owner, agent, worktree, plan, record = row
    return table.insert(db, task_id, owner, agent, worktree, plan.decode(), record.decode())


def may_still(plan: Plan, auth: Any) -> bool:
    """Whether whoever asked for a task would still get it."""
    if plan.owner == LOCAL.name:
        return True
    if plan.owner not in auth.allowed_keys:
        return False
    scopes = scopes_of(auth, plan.owner)
    try:
        tasks.check_may_ask(PeerPrincipal(name=plan.owner, scopes=scopes), plan.asked)
    except Forbidden:
        return False
    return Scope.AI_TASKS in scopes


def compose(
    reactor: Any, settings: Settings, storage: Storage, events: Events, audit: Audit, transfer: Transfer, machine: str
) -> Tasks:
    """The service with what it needs of its own."""
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Tasks(
        reactor,
        settings,
        storage,
        TaskNews(events, audit, Notices(reactor, settings, machine)),
        Agents(settings, transfer),
        Worktrees(reactor, os.path.join(cache, "loopsy", "worktrees")),
    )
