"""What people answer, and the rules that answer for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import frozen
from twisted.internet.threads import deferToThreadPool

from loopsy.core import rules as rule_texts
from loopsy.core.principals import Local, Principal
from loopsy.core.tasks import Waiting
from loopsy.errors import Forbidden, InvalidRequest, TaskIsOver
from loopsy.services.approvals import Answer, noted, rule_of
from loopsy.services.settings import Settings
from loopsy.services.task_book import TaskBook
from loopsy.services.task_runs import TaskRun
from loopsy.store import configfile
from loopsy.store.configfile import Added, Removed
from loopsy.wire.tasks import ALWAYS, ONCE, TASK, Approve, WaitingApproval

RULES_KEY = ("aiTasks", "rules")


@frozen
class TaskAnswers:
    """The approvals of all tasks."""

    _reactor: Any
    _settings: Settings
    _book: TaskBook
    _runs: Mapping[str, TaskRun]

    async def answer(self, task_id: str, given: Approve, caller: Principal) -> dict[str, Any]:
        """Answer what a task asks; what the audit log shall tell of it.

        :raises TaskNotFound: :raises TaskIsOver: :raises NoPendingApproval: :raises Forbidden: :raises InvalidRequest:
        """
        row = self._book.row(task_id, caller)
        run = self._runs.get(task_id)
        if run is None:
            raise TaskIsOver(f"task {task_id} is {row.status} already")
        approval = run.desk.waiting(given.request_id)
        if given.remember == ALWAYS and not isinstance(caller, Local):
            raise Forbidden("remember: only this machine's own key may do this for always")
        rule = None if given.remember == ONCE else rule_of(given.rule, approval, given.approved)
        text = None if rule is None else rule.text
        answer = Answer(approved=given.approved, by=caller.name, how="answer", message=given.message, rule=text)
        run.desk.answer(given.request_id, answer)
        if rule is not None and given.remember == TASK:
            run.desk.remember(rule)
            run.desk.look_again()
        if rule is not None and given.remember == ALWAYS:
            await self.add_rule(rule.text)
        return noted(task_id, approval, given.approved, "answer")

    def waiting(self, caller: Principal) -> tuple[WaitingApproval, ...]:
        """What waits for a person, oldest first: of the tasks that the caller may see."""
        found = [
            WaitingApproval(
                task_id=run.task_id,
                title=run.life.plan.title,
                agent=run.life.plan.asked.agent,
                from_=run.life.plan.owner,
                approval=approval,
            )
            for run in self._runs.values()
            if isinstance(run.life.state, Waiting) and (isinstance(caller, Local) or caller.name == run.life.plan.owner)
            for approval in run.life.state.approvals
        ]
        return tuple(sorted(found, key=lambda one: one.approval.timestamp))

    # -- rules ------------------------------------------------------------------------------------------------------
    def rules(self) -> tuple[str, ...]:
        """In order."""
        return self._settings.config.ai_tasks.rules

    async def add_rule(self, text: str) -> tuple[str, ...]:
        """One more, at the end; in the config when this returns.

        :raises InvalidRequest: it is none. :raises ConfigError: the file can't be changed.
        """
        rule = rule_texts.parse(text)
        return await self._change_rules(Added(rule.text))

    async def remove_rule(self, text: str) -> tuple[str, ...]:
        """One less.

        :raises InvalidRequest: there is no such rule.
        """
        if text.strip() not in self.rules():
            raise InvalidRequest(f"there is no rule {text[:200]!r}")
        return await self._change_rules(Removed(text.strip()))

    async def _change_rules(self, change: Added | Removed) -> tuple[str, ...]:
        await self._settings.editing.acquire()
        try:
            pool, path = self._reactor.getThreadPool(), self._settings.layout.config
            await deferToThreadPool(self._reactor, pool, configfile.change, path, RULES_KEY, change)
            self._settings.reload()
        finally:
            self._settings.editing.release()
        return self.rules()
