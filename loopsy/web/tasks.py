"""AI tasks over HTTP (docs/protocol/tasks.md)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, BinaryIO

from attrs import field, frozen
from twisted.internet.interfaces import IDelayedCall, IPushProducer
from zope.interface import implementer

from loopsy.core.principals import LocalOnly, Scope, Scoped
from loopsy.core.rates import Category
from loopsy.errors import InvalidRequest, RateLimited
from loopsy.services.daemon import Daemon
from loopsy.web.request import EdgeRequest
from loopsy.web.routes import ANSWERED, Answered, Call, Routes
from loopsy.web.streams import READ, Pulled
from loopsy.wire import sse, urls
from loopsy.wire.tasks import (
    AGENTS,
    STATUSES,
    Approvals,
    Approve,
    CreateTask,
    ResumeTask,
    RuleChange,
    Rules,
    Task,
    TaskAnswered,
    TaskEvents,
    TaskList,
)

if TYPE_CHECKING:
    from loopsy.services.task_book import Sight, TaskBook
    from loopsy.services.tasks import Tasks

ACCESS, MAY_APPROVE = Scoped(Scope.AI_TASKS), Scoped(Scope.APPROVE)
NOTED = 200
"""Characters of a prompt in the audit log."""
LISTED = 100
"""Tasks that a list shows where no limit is given; at most ten times as many."""
PAGE_ROWS, PAGE_SIZE = 500, 256 * 1024
"""Events that are read from the database at once, and characters of them."""
STREAMS = 64
"""Open streams of one caller."""
ALIVE_S = 15.0
"""Between two signs of life: half of what the least patient reader or middle box waits on a quiet stream."""
LAST_ID = b"last-event-id"


@frozen(eq=False)
class TasksArea:
    """Agents at work."""

    daemon: Daemon
    open: Counter[str] = field(factory=Counter)
    """Streams, by caller."""
    routes = Routes()

    # -- tasks ------------------------------------------------------------------------------------------------------
    @routes.declare(
        "POST", urls.TASKS, access=ACCESS, rate=Category.EXECUTE, takes=CreateTask, answers=Task, status=201
    )
    async def create(self, call: Call[CreateTask]) -> Task:
        """Give an agent something to do."""
        asked = call.body
        call.note(agent=asked.agent, prompt=asked.prompt[:NOTED], cwd=asked.cwd, mode=asked.permission_mode)
        task = await self._tasks.create(asked, call.principal, self.daemon.peers.node_of(call.principal))
        call.note(task=task.task_id)
        return task

    @routes.declare(
        "POST", urls.TASK_RESUME, access=ACCESS, rate=Category.EXECUTE, takes=ResumeTask, answers=Task, status=201
    )
    async def resume(self, call: Call[ResumeTask], task_id: str) -> Task:
        """A new task that goes on where one ended."""
        call.note(resumes=task_id, prompt=call.body.prompt[:NOTED])
        node = self.daemon.peers.node_of(call.principal)
        task = await self._tasks.resume(task_id, call.body, call.principal, node)
        call.note(task=task.task_id)
        return task

    @routes.declare("GET", urls.TASKS, access=ACCESS, answers=TaskList)
    def list(self, call: Call[None]) -> Answered:
        """Tasks, newest first: all for the own key, for a peer those that it started."""
        status = one_of(call, "status", (*STATUSES, "active"))
        agent = one_of(call, "agent", AGENTS)
        limit = whole(call, "limit", LISTED, 10 * LISTED)
        found = self._tasks.book.pages(call.principal, status, agent, call.query("before"))
        call.request.begin(200, b"application/json")
        Pulled(call.request, array("tasks", found, limit))
        return ANSWERED

    @routes.declare("GET", urls.TASK, access=ACCESS, answers=Task)
    def show(self, call: Call[None], task_id: str) -> Answered:
        """One task."""
        call.request.send_json(200, self._tasks.book.get(task_id, call.principal))
        return ANSWERED

    @routes.declare("DELETE", urls.TASK, access=ACCESS, answers=TaskAnswered)
    async def end(self, call: Call[None], task_id: str) -> TaskAnswered:
        """Cancel a task, or forget one that is over; ``?only=cancel`` and ``?only=remove`` never do the other."""
        call.note(task=task_id)
        deleted = await self._tasks.end(task_id, call.principal, one_of(call, "only", ("cancel", "remove")))
        return TaskAnswered(success=True, task_id=task_id, deleted=deleted or None)

    @routes.declare("GET", urls.TASK_PATCH, access=ACCESS)
    def patch(self, call: Call[None], task_id: str) -> Answered:
        """What a task changed in its repository, for ``git apply``."""
        file = self._tasks.book.patch(task_id, call.principal)
        call.request.begin(200, b"text/x-diff; charset=utf-8")
        call.request.notifyFinish().addBoth(lambda _: file.close())
        Pulled(call.request, pieces(file))
        return ANSWERED

    # -- events -----------------------------------------------------------------------------------------------------
    @routes.declare("GET", urls.TASK_EVENTS, access=ACCESS, answers=TaskEvents)
    def events(self, call: Call[None], task_id: str) -> Answered:
        """The events of a task, oldest first: ``?after=`` a number, ``?limit=`` so many."""
        sight = self._tasks.book.sight(task_id, call.principal)
        after, limit = whole(call, "after", 0, 2**53), whole(call, "limit", 2**53, 2**53)
        count = self._tasks.book.last_seq(sight.number)
        call.request.begin(200, b"application/json")
        found = recorded(self._tasks.book, sight.number, after, min(limit, max(0, count - after)))
        Pulled(call.request, array("events", found, limit, b',"count":%d' % count))
        return ANSWERED

    @routes.declare("GET", urls.TASK_STREAM, access=ACCESS)
    def stream(self, call: Call[None], task_id: str) -> Answered:
        """Server-sent events: those of a task as they come, to its end; ``Last-Event-ID`` or ``?after=`` goes on."""
        sight = self._tasks.book.sight(task_id, call.principal)
        after, name = self._position(call, sight), call.principal.name
        if self.open[name] >= STREAMS:
            raise RateLimited(f"{STREAMS} task streams are open for {name} already", retry_after=1)
        self.open[name] += 1
        call.request.notifyFinish().addBoth(lambda _: self.open.subtract([name]))
        call.request.begin(200, sse.CONTENT_TYPE.encode())
        Stream(self._tasks.book, call.request, sight, after)
        return ANSWERED

    def _position(self, call: Call[None], sight: Sight) -> int:
        last = call.request.header(LAST_ID)
        if last is not None and last.isascii() and last.isdigit() and len(last) < 16:
            return int(last)
        since = call.query("since")
        if since is not None and call.query("after") is None:
            return self._tasks.book.seq_at(sight.number, whole(call, "since", 0, 2**53))
        return whole(call, "after", 0, 2**53)

    # -- approvals --------------------------------------------------------------------------------------------------
    @routes.declare("POST", urls.TASK_APPROVE, access=MAY_APPROVE, takes=Approve, answers=TaskAnswered)
    async def approve(self, call: Call[Approve], task_id: str) -> TaskAnswered:
        """Allow or deny what a task asks for. The first answer counts."""
        call.note(task=task_id, request=call.body.request_id)
        call.note(**await self._tasks.answers.answer(task_id, call.body, call.principal))
        return TaskAnswered(success=True, task_id=task_id)

    @routes.declare("GET", urls.TASK_APPROVALS, access=ACCESS, answers=Approvals)
    def approvals(self, call: Call[None]) -> Approvals:
        """What waits for a person, oldest first."""
        return Approvals(approvals=self._tasks.answers.waiting(call.principal))

    @routes.declare("GET", urls.TASK_RULES, access=LocalOnly(), answers=Rules)
    def rules(self, call: Call[None]) -> Rules:
        """What is allowed and denied without asking, in order."""
        return Rules(rules=self._tasks.answers.rules())

    @routes.declare("POST", urls.TASK_RULES, access=LocalOnly(), takes=RuleChange, answers=Rules)
    async def add_rule(self, call: Call[RuleChange]) -> Rules:
        """One more rule, at the end."""
        call.note(rule=call.body.rule[:NOTED])
        return Rules(rules=await self._tasks.answers.add_rule(call.body.rule))

    @routes.declare("DELETE", urls.TASK_RULES, access=LocalOnly(), takes=RuleChange, answers=Rules)
    async def remove_rule(self, call: Call[RuleChange]) -> Rules:
        """One rule less."""
        call.note(rule=call.body.rule[:NOTED])
        return Rules(rules=await self._tasks.answers.remove_rule(call.body.rule))

    @property
    def _tasks(self) -> Tasks:
        return self.daemon.tasks.get()


def one_of(call: Call[None], name: str, words: tuple[str, ...]) -> str | None:
    """A query parameter that is one of some words.

    :raises InvalidRequest: it is another.
    """
    value = call.query(name)
    if value is not None and value not in words:
        raise InvalidRequest(f"{name} must be one of {', '.join(words)}")
    return value


def whole(call: Call[None], name: str, default: int, most: int) -> int:
    """A query parameter that is a number.

    :raises InvalidRequest: it is none, or too large.
    """
    value = call.query(name)
    if value is None:
        return default
    if not value.isascii() or not value.isdigit() or len(value) > 16 or int(value) > most:
        raise InvalidRequest(f"{name} must be a whole number from 0 to {most}")
    return int(value)


def array(name: str, items: Iterator[bytes], limit: int, more: bytes = b"") -> Iterator[bytes]:
    """The JSON of an object with a list, an item at a time; at least one piece comes before the first item."""
    yield b'{"%s":[' % name.encode()
    lead = b""
    for at, item in enumerate(items):
        if at >= limit:
            break
        yield lead + item
        lead = b","
    yield b"]%s}" % more


def recorded(tasks: TaskBook, number: int, after: int, limit: int) -> Iterator[bytes]:
    """The events of a task as JSON, a page of them at a time."""
    while limit > 0:
        page = tasks.events(number, after, min(limit, PAGE_ROWS), PAGE_SIZE)
        if not page:
            return
        yield ",".join(text for _, text in page).encode()
        limit, after = limit - len(page), page[-1][0]


def pieces(file: BinaryIO) -> Iterator[bytes]:
    """A file, some of it at a time."""
    while data := file.read(READ):
        yield data


@implementer(IPushProducer)
class Stream:
    """One reader of a task's events. It has a place among them and nothing else: what it is told is read from disk when
    it takes it, so that nothing is lost or repeated, and a slow reader holds no memory."""

    def __init__(self, tasks: TaskBook, request: EdgeRequest, sight: Sight, after: int) -> None:
        self._tasks, self._request, self._sight, self._at = tasks, request, sight, after
        self._full = self._over = False
        self._alive: IDelayedCall | None = None
        request.write(b"")
        request.registerProducer(self, True)
        if sight.run is not None:
            sight.run.log.readers.append(self._go)
        request.notifyFinish().addBoth(self._gone)
        self._beat(first=True)
        self._go()

    def _go(self) -> None:
        while not (self._full or self._over):
            is_last = self._sight.run is None or self._sight.run.is_over
            page = self._tasks.events(self._sight.number, self._at, PAGE_ROWS, PAGE_SIZE)
            if page:
                self._at = page[-1][0]
                self._request.write("".join(f"id: {seq}\ndata: {text}\n\n" for seq, text in page).encode())
            elif is_last:
                self._end()
            else:
                return

    def _end(self) -> None:
        self._over = True
        self._request.unregisterProducer()
        self._request.finish()

    def _beat(self, first: bool = False) -> None:
        if not (first or self._full):
            self._request.write(b": still there\n\n")
        self._alive = self._request.channel.callLater(ALIVE_S, self._beat)

    def _gone(self, _: Any) -> None:
        self._over = True
        if self._alive is not None and self._alive.active():
            self._alive.cancel()
        run = self._sight.run
        if run is not None and self._go in run.log.readers:
            run.log.readers.remove(self._go)

    def pauseProducing(self) -> None:
        """It is slow."""
        self._full = True

    def resumeProducing(self) -> None:
        """It takes more."""
        self._full = False
        self._go()

    def stopProducing(self) -> None:
        """It left; notifyFinish tells too."""
        self._over = True
