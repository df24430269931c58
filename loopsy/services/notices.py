"""Telling somebody who isn't looking that an approval waits: one POST to an address of the config."""

from __future__ import annotations

import json
from typing import Any

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import Protocol
from twisted.logger import Logger
from twisted.web.client import Agent, HTTPConnectionPool
from twisted.web.http_headers import Headers

from loopsy.client.bodies import BytesBody
from loopsy.client.peer import cut
from loopsy.config import Notify
from loopsy.errors import LoopsyError
from loopsy.services.settings import Settings
from loopsy.wire.tasks import Approval, Task

ANSWER_S = 10.0
RETRY_S = (5.0, 30.0)
"""Before the second and the third try; there is no fourth."""
NTFY_HEADER = 200
"""Characters of a title."""


@frozen(kw_only=True)
class Notice:
    """What is told."""

    machine: str
    task: Task
    approval: Approval

    def request(self, how: Notify) -> tuple[Headers, bytes]:
        """Headers and body."""
        return self._ntfy(how) if how.format == "ntfy" else self._json(how)

    def _json(self, how: Notify) -> tuple[Headers, bytes]:
        task, approval = self.task, self.approval
        told: dict[str, Any] = {
            "type": "approval.waiting",
            "machine": self.machine,
            "taskId": task.task_id,
            "title": task.title,
            "agent": task.agent,
            "from": task.from_,
            "requestId": approval.request_id,
            "toolName": approval.tool_name,
            "kind": approval.kind,
            "timestamp": approval.timestamp,
            "expiresAt": approval.expires_at,
        }
        if how.details:
            told |= {"command": approval.command, "path": approval.path, "description": approval.description}
        else:
            del told["title"]  # the prompt's first line
        body = json.dumps({name: value for name, value in told.items() if value is not None})
        return Headers({b"content-type": [b"application/json"]}), body.encode()

    def _ntfy(self, how: Notify) -> tuple[Headers, bytes]:
        task, approval = self.task, self.approval
        words = f"{task.agent} waits for leave to use {approval.tool_name}"
        if how.details:
            words += f": {approval.command or approval.path or approval.description or ''}\n{task.title}"
        title = "".join(c for c in f"loopsy on {self.machine}" if c.isascii() and c.isprintable())[:NTFY_HEADER]
        headers = {b"title": [title.encode()], b"tags": [b"raised_hand"], b"content-type": [b"text/plain"]}
        return Headers(headers), words.encode("utf-8", "replace")[:4000]


class Unread(Protocol):
    """An answer's body that is of no use."""

    def connectionMade(self) -> None:
        """Close the connection."""
        cut(self.transport)


class Notices:
    """What waits to be told, by task and request."""

    log = Logger()

    def __init__(self, reactor: Any, settings: Settings, machine: str) -> None:
        self._reactor = reactor
        self._settings = settings
        self._machine = machine
        self._waiting: dict[tuple[str, str], IDelayedCall] = {}
        self._agent = Agent(reactor, connectTimeout=ANSWER_S, pool=HTTPConnectionPool(reactor, persistent=False))
        self._under_way: set[Deferred[Any]] = set()

    def waits(self, task: Task, approval: Approval) -> None:
        """Tell of it in a while, if nobody answers."""
        how = self._settings.config.ai_tasks.notify
        if how.url is None:
            return
        notice = Notice(machine=self._machine, task=task, approval=approval)
        key = (task.task_id, approval.request_id)
        self._waiting[key] = self._reactor.callLater(how.after, self._tell, key, notice, RETRY_S)

    def settled(self, task_id: str, request_id: str) -> None:
        """Somebody answered."""
        call = self._waiting.pop((task_id, request_id), None)
        if call is not None and call.active():
            call.cancel()

    def _tell(self, key: tuple[str, str], notice: Notice, retries: tuple[float, ...]) -> None:
        how = self._settings.config.ai_tasks.notify
        if how.url is None:
            self._waiting.pop(key, None)
            return
        headers, body = notice.request(how)
        asking: Deferred[Any] = self._agent.request(b"POST", how.url.encode(), headers, BytesBody(body))
        asking.addTimeout(ANSWER_S, self._reactor)
        asking.addCallback(self._check)
        self._under_way.add(asking)
        asking.addErrback(self._failed, key, notice, retries)
        asking.addBoth(lambda _: self._under_way.discard(asking))

    def _check(self, response: Any) -> None:
        response.deliverBody(Unread())
        if not 200 <= response.code < 300:
            raise LoopsyError(f"the answer was status {response.code}")

    def _failed(self, failure: Any, key: tuple[str, str], notice: Notice, retries: tuple[float, ...]) -> None:
        self.log.warn("a notice could not be sent: {why}", why=failure.getErrorMessage())
        if retries and key in self._waiting:
            self._waiting[key] = self._reactor.callLater(retries[0], self._tell, key, notice, retries[1:])

    def stop(self) -> None:
        """Tell nobody any more."""
        for call in self._waiting.values():
            if call.active():
                call.cancel()
        self._waiting.clear()
        for asking in tuple(self._under_way):
            asking.cancel()
