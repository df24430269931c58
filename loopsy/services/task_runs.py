"""One task between its agent's process and its log: from its slot to its last event."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from typing import Any

from attrs import evolve, frozen
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from loopsy.agents.adapter import Asked, Began, Ended, Event, Happening, Session, Step, Withdrawn
from loopsy.core import tasks
from loopsy.core.execution import signal_name
from loopsy.core.task_events import Verdict
from loopsy.core.tasks import Ending, Life, Over, Reason
from loopsy.errors import LoopsyError, TaskFailed
from loopsy.services.approvals import Answer, Desk
from loopsy.services.clock import now_ms
from loopsy.services.leftovers import Leftovers
from loopsy.services.processes import Command, ProcessGroup, Receiver, spawn
from loopsy.services.task_log import TaskLog
from loopsy.services.worktrees import Watch, Worktrees
from loopsy.store import tasks as table
from loopsy.wire import codec
from loopsy.wire.tasks import EXIT, PERMISSION_REQUEST, RESULT, STATUS, SYSTEM, Approval, Task, TaskResult

ASK_S = 0.3
"""Between asking an agent to stop and TERM: enough for it to write its session down."""
UNREAD_MOST = 8 * 1024 * 1024
"""Bytes that an agent may leave unread in its input, ours to hold till then: its prompt and answers are a fraction."""
LINGER_S = 2.0
"""An agent that has given its result and doesn't go (gemini, if it has started MCP servers) is ended so much later."""


@frozen(kw_only=True)
class Surroundings:
    """What a run works with."""

    reactor: Any
    worktrees: Worktrees
    data_dir: str
    patches: str
    """The directory that they lie in."""
    session: Callable[[Life, str], Session]
    """The session of a task in a directory; it checks what may be started."""
    rules: Callable[[], tuple[str, ...]]
    changed: Callable[[TaskRun], None]
    """It has another state."""
    asks: Callable[[TaskRun, Approval], None]
    settled: Callable[[TaskRun, Approval, Answer], None]
    over: Callable[[TaskRun], None]
    position: Callable[[str], int | None]


class TaskRun(Receiver):
    """One task that isn't over."""

    logger = Logger()

    def __init__(
        self, around: Surroundings, life: Life, log: TaskLog, timeout_ms: int, approval_timeout_ms: int
    ) -> None:
        self.life = life
        self.log = log
        self.workdir = life.plan.worktree or life.plan.cwd
        self.is_over = False
        """Its last event is on disk."""
        self.desk = Desk(self, around.data_dir, approval_timeout_ms)
        self._around = around
        self._timeout_ms = timeout_ms
        self._session: Session | None = None
        self._group: ProcessGroup | None = None
        self._leftovers = Leftovers(around.reactor, self.task_id)
        self._timers: list[IDelayedCall] = []
        self._watch = Watch(around.worktrees, self.notice)
        self._told_status = ""
        self._before_the_end = tasks.view(life, 0)
        self._started = time.monotonic()
        log.when_room = self._resume
        log.when_broken = lambda: self.end("storage")

    @property
    def task_id(self) -> str:
        """Its id."""
        return self.life.plan.task_id

    def view(self) -> Task:
        """As the wire shows it: over only once its last event is on disk."""
        if isinstance(self.life.state, Over) and not self.is_over:
            return self._before_the_end
        return tasks.view(self.life, self.log.committed, self._around.position(self.task_id))

    # -- the start --------------------------------------------------------------------------------------------------
    def begin(self) -> None:
        """It has a slot."""
        self._started = time.monotonic()
        self.life = tasks.begin(self.life)
        self.status()
        Deferred.fromCoroutine(self._begin()).addErrback(self._bug)

    async def _begin(self) -> None:
        try:
            await self._enter()
            if isinstance(self.life.state, Ending):
                raise TaskFailed("it was ended before it began")
            self._session = self._around.session(self.life, self.workdir)
            launch = self._session.launch()
            self._watch.begin(self.workdir, whole=self.life.plan.worktree is not None)
            command = Command(
                argv=launch.argv,
                cwd=self.workdir,
                env=launch.environment,
                has_input=True,
                pty=launch.pty,
                is_leader=True,
            )
            group = await spawn(self._around.reactor, self._around.reactor.getThreadPool(), command, self)
        except LoopsyError as error:
            self._never_ran(error.message)
            return
        self._group = group
        self._leftovers.led_by(group.pid)
        self.life = tasks.spawned(self.life, group.pid)
        if isinstance(self.life.state, Ending):  # it was cancelled while it started
            group.end()
        self.later(self._timeout_ms / 1000, self.end, "timeout")
        self._changed()
        await self._watch.begun()
        if not isinstance(self.life.state, Ending | Over):
            group.write(launch.first)
        if not launch.keep_stdin:
            group.close_input()

    async def _enter(self) -> None:
        """Go where it shall work; a worktree is made where there is none yet."""
        plan = self.life.plan
        if plan.worktree is not None and not os.path.isdir(plan.worktree):
            self.workdir = await self._around.worktrees.make(plan.cwd, plan.worktree)

    # -- from the process -------------------------------------------------------------------------------------------
    def out(self, data: bytes) -> None:
        """Its standard output."""
        assert self._session is not None
        self._take(self._session.feed(data))

    def err(self, data: bytes) -> None:
        """Its standard error."""
        assert self._session is not None
        self._take(self._session.feed_error(data))

    def ended(self, status: int) -> None:
        """It is gone."""
        self.desk.deny_all("disconnect")
        self._stop_timers()
        if self._session is not None:
            self._take(self._session.ended(status if status >= 0 else None))
        Deferred.fromCoroutine(self._finish(status)).addErrback(self._bug)

    def _take(self, step: Step) -> None:
        for happening in step.happenings:
            self._happened(happening)
        if self._group is not None:
            if self._group.unread > UNREAD_MOST:
                self.end("deaf")
            else:
                self._group.write(step.write)
            if step.close_stdin:
                self._group.close_input()
            if self.log.is_full:
                self._group.pause()

    def _happened(self, happening: Happening) -> None:
        match happening:
            case Event(type=kind, data=data):
                self.log_event(kind, data)
            case Asked():
                self._ask(happening)
            case Withdrawn(request_id=request_id):
                self.desk.withdrawn(request_id)
                self._changed()
            case Began():
                self.life = evolve(self.life, session_id=happening.session_id, model=happening.model or self.life.model)
                init = {"sessionId": happening.session_id, "model": happening.model, "cwd": self.workdir}
                known = {name: value for name, value in init.items() if value is not None}
                self.log_event(SYSTEM, {"subtype": "init", **known})
                self._changed()
            case Ended():
                self._result(happening)

    def _ask(self, asked: Asked) -> None:
        try:
            self.desk.ask(asked)
        except Exception:
            self.logger.failure("an approval could not be asked for; it is denied")
            self.notice(f"{asked.tool_name}: denied, since it could not be asked for")
            if self._session is not None:
                self._take(self._session.answer(asked.request_id, False, "it could not be asked for"))

    def _result(self, ended: Ended) -> None:
        duration = ended.duration_ms
        result = TaskResult(
            text=ended.text,
            is_error=ended.is_error,
            cost_usd=ended.cost_usd,
            input_tokens=ended.input_tokens,
            output_tokens=ended.output_tokens,
            cached_tokens=ended.cached_tokens,
            turns=ended.turns,
            duration_ms=duration if duration is not None else round((time.monotonic() - self._started) * 1000),
        )
        self.life = evolve(self.life, result=result, agent_error=ended.error)
        self.log_event(RESULT, codec.plain_value(result))
        if self._group is not None:
            self.later(LINGER_S, self._part)

    def _resume(self) -> None:
        if self._group is not None:
            self._group.resume()

    # -- the log ----------------------------------------------------------------------------------------------------
    def log_event(self, kind: str, data: Mapping[str, Any]) -> None:
        """An event for the log; a task that floods it is ended."""
        if self.log.add(kind, data) is Verdict.TOO_MANY and not isinstance(self.life.state, Ending | Over):
            self.end("flood")

    def notice(self, text: str) -> None:
        """Something that people should know."""
        self.log_event(SYSTEM, {"subtype": "notice", "text": text})

    def status(self) -> None:
        """It has another status: an event, a row, and whoever listens."""
        now = tasks.status_of(self.life.state)
        if now != self._told_status:
            self._told_status = now
            self.log_event(STATUS, {"status": now})
        self._changed()

    def _changed(self) -> None:
        self.life = evolve(self.life, updated_at=now_ms())
        self.log.also(self._row())
        self._before_the_end = self.view()
        self._around.changed(self)

    def _row(self) -> Any:
        """The task as it is now, for its row. What it waits for isn't kept: a restart denies it."""
        task = evolve(tasks.view(self.life, self.log.last_seq), pending_approval=None)
        record = codec.dump(task).decode()
        return partial(
            table.update,
            number=self.log.number,
            status=task.status,
            completed_at=task.completed_at,
            record=record,
        )

    # -- approvals --------------------------------------------------------------------------------------------------
    def rules(self) -> tuple[str, ...]:
        """The config's."""
        return self._around.rules()

    def asks(self, approval: Approval) -> None:
        """A person is waited for."""
        self.log_event(PERMISSION_REQUEST, codec.plain_value(approval))
        self.status()
        self._around.asks(self, approval)

    def was_settled(self, approval: Approval, answer: Answer) -> None:
        """It was answered."""
        self.status()
        self._around.settled(self, approval, answer)

    def told(self, request_id: str, answer: Answer, at_once: bool) -> None:
        """A yes is on disk before the agent hears it."""
        if at_once:
            self._tell(None, request_id, answer)
        else:
            self.log.flushed().addCallback(self._tell, request_id, answer).addErrback(self._untold, request_id)

    def _tell(self, _: None, request_id: str, answer: Answer) -> None:
        if self._session is not None and not self.is_over:
            self._take(self._session.answer(request_id, answer.approved, answer.message))

    def _untold(self, failure: Failure, request_id: str) -> None:
        """The log could not be written: the task is being ended, and this is a no."""
        self._tell(None, request_id, Answer(approved=False, by="daemon", how="disconnect"))

    # -- the end ----------------------------------------------------------------------------------------------------
    def end(self, reason: Reason) -> None:
        """It shall end: what waits is denied, the agent is asked to stop, then its whole group must."""
        if isinstance(self.life.state, Over):
            return
        self.desk.deny_all("cancelled" if reason in ("cancelled", "distrusted") else "disconnect")
        before = self.life
        self.life = tasks.end(before, reason, now_ms())
        if isinstance(self.life.state, Over):
            self._close(None)
        elif self._group is not None and self.life is not before:
            Deferred.fromCoroutine(self._stop()).addErrback(self._bug)

    async def _stop(self) -> None:
        """See first what it has started: once it is gone, its tools might not be found."""
        await self._leftovers.look()
        if self._group is not None and self._session is not None:
            self._group.write(self._session.interrupt().write)
            self.later(ASK_S, self._then_end_group, self._leftovers.ask_all)

    def _part(self) -> None:
        """It is done, and stays: it goes with its MCP servers. What its tools have detached is left alone."""
        self._then_end_group(self._leftovers.ask_tree)

    def _then_end_group(self, ask: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Ask others first: when the agent is gone, nothing may lead to them."""
        if self._group is not None:
            end = self._group.end
            Deferred.fromCoroutine(ask()).addErrback(self._bug).addCallback(lambda _: end())

    def _never_ran(self, fault: str) -> None:
        self._watch.give_up()
        self.life = tasks.gone(self.life, None, now_ms(), fault)
        self._close(None)

    async def _finish(self, status: int) -> None:
        self._group = None
        result = self.life.result
        if isinstance(self.life.state, Ending) or result is None or result.is_error:
            await self._leftovers.end()
        elif left := await self._leftovers.left():
            self.notice(f"the agent is done, and these that it started go on: {left}")
        await self._diff()
        self.life = tasks.gone(self.life, status if status >= 0 else None, now_ms())
        how = {"exitCode": status} if status >= 0 else {"exitCode": None, "signal": signal_name(-status)}
        self._close(how)

    async def _diff(self) -> None:
        patch = os.path.join(self._around.patches, f"{self.task_id}.patch")
        diff = await self._watch.end(patch)
        if diff is not None:
            result = self.life.result or TaskResult(text="", is_error=True)
            self.life = evolve(self.life, result=evolve(result, diff=diff))

    def _close(self, exit_: Mapping[str, Any] | None) -> None:
        """The last events, and with them the last row."""
        self._stop_timers()
        state = self.life.state
        assert isinstance(state, Over)
        result = self.life.result
        more = {"reason": state.error, "diff": codec.plain_value(result.diff) if result and result.diff else None}
        self.log_event(STATUS, {"status": state.status, **{name: value for name, value in more.items() if value}})
        if exit_ is not None:
            self.log_event(EXIT, exit_)
        self.life = evolve(self.life, updated_at=now_ms())
        self.log.also(self._row())
        self.log.flushed().addErrback(lambda _: None).addCallback(self._closed)

    def _closed(self, _: None) -> None:
        self.is_over = True
        for wake in tuple(self.log.readers):
            wake()
        self._around.over(self)

    def _stop_timers(self) -> None:
        for timer in self._timers:
            if timer.active():
                timer.cancel()
        self._timers.clear()

    def later(self, seconds: float, work: Any, *arguments: Any) -> IDelayedCall:
        """Call something later, unless it is over by then."""
        call: IDelayedCall = self._around.reactor.callLater(seconds, work, *arguments)
        self._timers = [*(timer for timer in self._timers if timer.active()), call]
        return call

    def _bug(self, failure: Failure) -> None:
        """Whatever it was, the task must not stay open."""
        self.logger.failure("task {task} failed", failure, task=self.task_id)
        if not isinstance(self.life.state, Over):
            if self._group is not None:
                self._group.kill()
            else:
                self._never_ran("something went wrong inside the daemon; its log has the details")
