"""What a session is told of a task."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from loopsy import config
from loopsy.agents.adapter import Run
from loopsy.core.tasks import Life, Pending, Plan
from loopsy.services import task_agents
from loopsy.services.task_agents import Agents
from loopsy.wire.tasks import CreateTask


class Settings:
    config = config.Config(auth=config.Auth(api_key="k" * 64))


def test_a_worktree_is_trusted_as_the_repository_that_it_is_of(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    made: list[Run] = []

    class Session:
        def __init__(self, run: Run) -> None:
            made.append(run)

        def launch(self) -> Any:
            return type("Launch", (), {"argv": ("claude",)})

    monkeypatch.setattr(task_agents, "AGENTS", {"claude": Session})
    monkeypatch.setattr(task_agents, "find", lambda agent, environment: "/bin/claude")
    plan = Plan(
        task_id="t", asked=CreateTask(prompt="x"), title="x", cwd="/repo", owner="local", from_node_id="n", at=1
    )
    agents = Agents(Settings(), None)  # type: ignore[arg-type]
    agents.session(Life(plan=plan, state=Pending(), updated_at=1), "/worktrees/t")
    assert (made[0].cwd, made[0].trusted_as) == ("/worktrees/t", "/repo")
