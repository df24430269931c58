"""Telling what becomes of tasks: to readers of events, to the audit log, and to whoever wants a notice."""

from __future__ import annotations

from attrs import evolve, frozen

from loopsy.core.principals import Scope
from loopsy.services.approvals import Answer, noted
from loopsy.services.audit import Audit
from loopsy.services.clock import now_ms
from loopsy.services.events import Events
from loopsy.services.notices import Notices
from loopsy.services.task_runs import TaskRun
from loopsy.wire.tasks import Approval, Task

SHOWN = 500
"""Characters of a prompt or a command; the rest is at the task's own address."""


@frozen
class TaskNews:
    """Who is told."""

    _events: Events
    _audit: Audit
    _notices: Notices

    def changed(self, task: Task) -> None:
        """It has another state."""
        result = None if task.result is None else evolve(task.result, text=task.result.text[:SHOWN])
        short = evolve(task, prompt=task.prompt[:SHOWN], pending_approval=None, result=result)
        self._events.publish("task.changed", short, scope=Scope.AI_TASKS, owner=task.from_)

    def removed(self, task_id: str, owner: str) -> None:
        """It is forgotten."""
        self._events.publish("task.removed", {"taskId": task_id}, scope=Scope.AI_TASKS, owner=owner)

    def asks(self, run: TaskRun, approval: Approval) -> None:
        """A person is waited for."""
        self._notices.waits(run.view(), approval)
        plan = run.life.plan
        told = {
            "taskId": plan.task_id,
            "title": plan.title,
            "agent": plan.asked.agent,
            "from": plan.owner,
            "requestId": approval.request_id,
            "toolName": approval.tool_name,
            "kind": approval.kind,
            "command": (approval.command or approval.path or "")[:SHOWN],
            "timestamp": approval.timestamp,
            "expiresAt": approval.expires_at,
        }
        self._events.publish("approval.waiting", told, scope=Scope.AI_TASKS, owner=plan.owner)

    def settled(self, run: TaskRun, approval: Approval, answer: Answer) -> None:
        """It was answered."""
        self._notices.settled(run.task_id, approval.request_id)
        told = {"taskId": run.task_id, "requestId": approval.request_id, "approved": answer.approved}
        told |= {"by": answer.by, "how": answer.how}
        self._events.publish("approval.settled", told, scope=Scope.AI_TASKS, owner=run.life.plan.owner)
        if answer.how != "answer":  # a person's is on the line of the request that brought it
            what = noted(run.task_id, approval, answer.approved, answer.how)
            self._audit.record({"time": now_ms(), "who": answer.by, "method": "-", "path": "approval", "what": what})

    def stop(self) -> None:
        """Tell nobody any more."""
        self._notices.stop()
