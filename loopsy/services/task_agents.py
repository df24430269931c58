"""From a task to the session of its agent: what may be started, where, and for whom."""

from __future__ import annotations

import os

from attrs import evolve, frozen

from loopsy.agents.adapter import Run, Session
from loopsy.agents.environment import TASK_ID
from loopsy.agents.finding import find
from loopsy.agents.table import AGENTS
from loopsy.core import commands
from loopsy.core.principals import Local, PeerPrincipal, Principal, Scope
from loopsy.core.tasks import Life
from loopsy.core.transfer import lies_in
from loopsy.errors import AgentMissing, CommandDenied, InvalidRequest, PathDenied
from loopsy.services.execution import inherited
from loopsy.services.settings import Settings
from loopsy.services.transfer import Transfer
from loopsy.wire.tasks import CreateTask


@frozen
class Agents:
    """The agents of this machine."""

    settings: Settings
    transfer: Transfer

    def session(self, life: Life, workdir: str) -> Session:
        """The session of a task.

        :raises AgentMissing: :raises CommandDenied: :raises InvalidRequest: its agent doesn't know what is asked.
        """
        return self.session_of(life.plan.asked, workdir, life.plan.task_id, life.plan.cwd)

    def session_of(self, asked: CreateTask, workdir: str, task_id: str, trusted_as: str | None = None) -> Session:
        """The same, of a request. ``trusted_as``: where a worktree was made from, which the user may have trusted."""
        executable = find(asked.agent, os.environ)
        if executable is None:
            raise AgentMissing(
                f"{asked.agent} was not found on this machine", hint="install it, or put it on the daemon's PATH"
            )
        session = AGENTS[asked.agent](
            Run(
                executable=executable,
                prompt=asked.prompt,
                cwd=workdir,
                trusted_as=trusted_as,
                environment={**inherited(os.environ), TASK_ID: task_id},
                permission_mode=asked.permission_mode,
                model=asked.model,
                max_budget_usd=asked.max_budget_usd,
                allowed_tools=asked.allowed_tools,
                disallowed_tools=asked.disallowed_tools,
                additional_args=asked.additional_args,
                resume_session_id=asked.resume_session_id,
            )
        )
        self._check(asked.agent, executable, session.launch().argv)
        return session

    def _check(self, agent: str, executable: str, argv: tuple[str, ...]) -> None:
        """The command policy stands before this spawn too. An allowlist may name the agent, or its path."""
        policy = self.settings.config.execution
        listed = policy.allowlist is None or agent in policy.allowlist or argv[0] in policy.allowlist
        if not listed:
            raise CommandDenied(f"{agent!r} is not on this machine's allowlist (execution.allowlist)")
        commands.check(agent, argv[1:], evolve(policy, allowlist=None))
        commands.check(executable, (), evolve(policy, allowlist=None))

    # -- where ------------------------------------------------------------------------------------------------------
    async def directory(self, cwd: str | None, caller: Principal) -> str:
        """Where a task works: an existing directory, its links followed.

        :raises InvalidRequest: there is none. :raises PathDenied: the caller may not touch it.
        """
        path: str = await self.transfer.in_thread(self._directory_now, cwd or "~", caller)
        return path

    def _directory_now(self, cwd: str, caller: Principal) -> str:
        path = os.path.expanduser(cwd)
        if not isinstance(caller, Local):
            path = self._for_peer(path, caller)
        if not os.path.isabs(path):
            path = os.path.join(os.path.expanduser("~"), path)
        real = os.path.realpath(path)
        if not os.path.isdir(real):
            raise InvalidRequest(f"cwd: {cwd!r} is no directory here")
        return real

    def _for_peer(self, path: str, caller: Principal) -> str:
        """Agents read what lies in their directory without asking: who may not run commands here anyway doesn't get one
        that holds what is denied."""
        with self.transfer.find_now(caller, path) as place:
            parts = place.parts
        may_run = isinstance(caller, PeerPrincipal) and Scope.EXECUTE in caller.scopes
        if not may_run and any(lies_in(parts, root) for root in self.transfer.policy_now(caller).denied):
            raise PathDenied(
                f"cwd: in {path} lies what may not be touched from outside", hint="name a directory below it, as cwd"
            )
        return "/" + "/".join(parts)
