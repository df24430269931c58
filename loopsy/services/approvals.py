"""The approvals of one task: what a rule settles is answered at once, the rest waits for a person, and not for ever.

Whatever goes wrong on the way is a no.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Mapping
from hashlib import sha256
from typing import Any, Protocol

from attrs import frozen
from twisted.internet.interfaces import IDelayedCall

from loopsy.agents.adapter import Asked
from loopsy.core import rules, tasks
from loopsy.core.rules import Rule, Use
from loopsy.core.task_events import LONGEST_INPUT, is_long
from loopsy.core.tasks import APPROVALS, Life, Running, Waiting
from loopsy.errors import InvalidRequest, NoPendingApproval
from loopsy.services.clock import now_ms
from loopsy.wire.tasks import PERMISSION_ANSWER, Approval

ANSWERED = 1000
"""Answers remembered, so that a second one hears who gave the first."""
DAEMON = "daemon"
NOTED = 200
"""Characters of a command in the audit log."""
MESSAGES = {
    "timeout": "nobody answered in time, so this was denied",
    "cancelled": "the task was cancelled",
    "disconnect": "the task is ending",
    "limit": "this is larger, or more at once, than a person can judge, so it was denied",
}


@frozen(kw_only=True)
class Answer:
    """What was answered, by whom, and how it came about."""

    approved: bool
    by: str
    how: str
    message: str | None = None
    rule: str | None = None


class Asker(Protocol):
    """The task that asks."""

    life: Life
    workdir: str

    def rules(self) -> tuple[str, ...]:
        """Those of the config, in order."""

    def told(self, request_id: str, answer: Answer, at_once: bool) -> None:
        """Tell the agent, ``at_once`` or when what is in the log is on disk."""

    def log_event(self, kind: str, data: Mapping[str, Any]) -> None:
        """An event for the log."""

    def asks(self, approval: Approval) -> None:
        """A person is waited for."""

    def was_settled(self, approval: Approval, answer: Answer) -> None:
        """One that was waited for was answered, or a rule answered it."""

    def later(self, seconds: float, work: Any, *arguments: Any) -> IDelayedCall:
        """Call something later."""


class Desk:
    """Where they lie."""

    def __init__(self, task: Asker, data_dir: str, timeout_ms: int) -> None:
        self._task = task
        self._data_dir = data_dir
        self._timeout_ms = timeout_ms
        self._asked: dict[str, Asked] = {}
        self._timers: dict[str, IDelayedCall] = {}
        self._answered: OrderedDict[str, Answer] = OrderedDict()
        self._remembered: list[Rule] = []

    # -- from the agent ---------------------------------------------------------------------------------------------
    def ask(self, asked: Asked) -> None:
        """The agent wants to use a tool."""
        approval = self._approval(asked)
        if asked.request_id in self._asked:
            return
        answer = self._without_a_person(asked)
        if answer is not None:
            self._log(asked.request_id, answer, toolName=asked.tool_name)
            self._settle(approval, answer, at_once=False)
            return
        self._asked[asked.request_id] = asked
        self._answered.pop(asked.request_id, None)
        self._task.life = tasks.asked(self._task.life, approval)
        self._timers[asked.request_id] = self._task.later(
            self._timeout_ms / 1000, self._give_up, asked.request_id, "timeout"
        )
        self._task.asks(approval)

    def _without_a_person(self, asked: Asked) -> Answer | None:
        """The answer that needs none."""
        state = self._task.life.state
        if not isinstance(state, Running | Waiting):
            return no("disconnect")
        waiting = state.approvals if isinstance(state, Waiting) else ()
        whole = (asked.tool_input, asked.command, asked.diff, asked.path)
        if len(waiting) >= APPROVALS or is_long(whole, LONGEST_INPUT):
            return no("limit")
        return self._by_rule(asked)

    def _by_rule(self, asked: Asked) -> Answer | None:
        listed = [*self._remembered, *map(rules.parse, self._task.rules())]
        rule = rules.decide_all(listed, self._uses(asked), self._resolve)
        if rule is None:
            return None
        how = "task" if any(rule is one for one in self._remembered) else "rule"
        message = None if rule.allows else f"a rule of this machine denies this: {rule.text}"
        return Answer(approved=rule.allows, by=DAEMON, how=how, message=message, rule=rule.text)

    def withdrawn(self, request_id: str) -> None:
        """The agent no longer asks."""
        self._give_up(request_id, "withdrawn")

    # -- from people ------------------------------------------------------------------------------------------------
    def waiting(self, request_id: str) -> Approval:
        """One that waits.

        :raises NoPendingApproval: it doesn't; names who answered it, if anybody did.
        """
        state = self._task.life.state
        for approval in state.approvals if isinstance(state, Waiting) else ():
            if approval.request_id == request_id:
                return approval
        earlier = self._answered.get(request_id)
        if earlier is None:
            raise NoPendingApproval(f"no approval {request_id[:80]!r} waits in this task")
        word = "allowed" if earlier.approved else "denied"
        raise NoPendingApproval(
            f"{earlier.by} {word} this already ({earlier.how})",
            details={"approved": earlier.approved, "by": earlier.by, "how": earlier.how},
        )

    def answer(self, request_id: str, answer: Answer) -> Approval:
        """A person's answer: the first one counts.

        :raises NoPendingApproval: it was answered, or never asked.
        """
        approval = self.waiting(request_id)
        self._close(approval, answer, at_once=not answer.approved)
        return approval

    def remember(self, rule: Rule) -> None:
        """Answer so for the rest of this task; newer rules come before older ones."""
        self._remembered.insert(0, rule)

    def look_again(self) -> None:
        """There are other rules: what waits and now fits one is answered."""
        state = self._task.life.state
        for approval in state.approvals if isinstance(state, Waiting) else ():
            answer = self._by_rule(self._asked[approval.request_id])
            if answer is not None:
                self._close(approval, answer, at_once=False)

    # -- from the daemon --------------------------------------------------------------------------------------------
    def deny_all(self, how: str) -> None:
        """The task ends."""
        for request_id in tuple(self._asked):
            self._give_up(request_id, how)

    def _give_up(self, request_id: str, how: str) -> None:
        if request_id in self._asked:
            self._close(self.waiting(request_id), no(how), at_once=True)

    def _close(self, approval: Approval, answer: Answer, at_once: bool) -> None:
        request_id = approval.request_id
        self._task.life = tasks.settled(self._task.life, request_id)
        self._asked.pop(request_id)
        timer = self._timers.pop(request_id)
        if timer.active():
            timer.cancel()
        self._log(request_id, answer)
        self._settle(approval, answer, at_once)

    def _log(self, request_id: str, answer: Answer, **more: Any) -> None:
        data = {"requestId": request_id, "approved": answer.approved, "by": answer.by, "how": answer.how, **more}
        data |= {name: value for name, value in (("message", answer.message), ("rule", answer.rule)) if value}
        self._task.log_event(PERMISSION_ANSWER, data)

    def _settle(self, approval: Approval, answer: Answer, at_once: bool) -> None:
        self._answered[approval.request_id] = answer
        if len(self._answered) > ANSWERED:
            self._answered.popitem(last=False)
        self._task.was_settled(approval, answer)
        if answer.how != "withdrawn":
            self._task.told(approval.request_id, answer, at_once)

    # -- as a person sees it ----------------------------------------------------------------------------------------
    def _approval(self, asked: Asked) -> Approval:
        now = now_ms()
        return Approval(
            request_id=asked.request_id,
            tool_name=asked.tool_name,
            tool_input=dict(asked.tool_input),
            kind=asked.kind,
            cwd=self._task.workdir,
            timestamp=now,
            expires_at=now + self._timeout_ms,
            suggested_rule=rules.suggested_for(self._uses(asked), self._resolve),
            description=asked.description,
            command=asked.command,
            path=asked.path,
            diff=asked.diff,
        )

    def _uses(self, asked: Asked) -> list[Use]:
        """What is asked for, as rules see it: one for each file."""
        return [self._use(asked, target) for target in targets(asked)]

    def _use(self, asked: Asked, target: str | None) -> Use:
        return Use(
            agent=self._task.life.plan.asked.agent,
            tool=asked.tool_name,
            kind=asked.kind,
            target=target,
            cwd=os.path.realpath(self._task.workdir),
            data_dir=os.path.realpath(self._data_dir),
        )

    def _resolve(self, path: str) -> str:
        """Where a path leads. A tool may take ``~`` for the home, so that a rule must too."""
        return os.path.realpath(os.path.join(self._task.workdir, os.path.expanduser(path)))


def targets(asked: Asked) -> tuple[str | None, ...]:
    """The command, the files, or the address; what the system can't take is none of them."""
    if asked.kind == "command":
        return (asked.command,)
    if asked.kind in ("edit", "read"):
        paths = asked.paths or ((asked.path,) if asked.path else ())
        if any("\0" in path for path in paths):
            return (None,)
        return paths or ((".",) if asked.kind == "read" else (None,))
    address = asked.tool_input.get("url")
    return (address if isinstance(address, str) else None,)


def no(how: str) -> Answer:
    """The daemon's own no."""
    return Answer(approved=False, by=DAEMON, how=how, message=MESSAGES.get(how))


def noted(task_id: str, approval: Approval, approved: bool, how: str) -> dict[str, Any]:
    """An answer as the audit log tells it."""
    what = approval.command or approval.path or ""
    return {
        "task": task_id,
        "tool": approval.tool_name,
        "approved": approved,
        "how": how,
        "command": what[:NOTED],
        "sha256": sha256(what.encode("utf-8", "surrogatepass")).hexdigest(),
    }


def rule_of(text: str | None, approval: Approval, approved: bool) -> Rule:
    """The rule that an answer shall be remembered by.

    :raises InvalidRequest: the edited text is none, or says the opposite.
    """
    rule = rules.for_answer(text or rules.turned(approval.suggested_rule, approved), approved)
    if len(rule.text) > 10_000:
        raise InvalidRequest("rule: it is longer than 10000 characters: write a shorter one, with *")
    return rule
