"""The real agent CLIs are told of the real MCP server by the real ``loopsy`` command, and use it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen

from loopsy.testing.agents import AGENTS, RealAgent
from loopsy.testing.model_api import mcp, say, scenario
from loopsy.testing.nodes import Node
from tests.integration.conftest import MakeAgent

LOOPSY = Path(sys.executable).with_name("loopsy")
OLD = ("/old/venv/bin/loopsy", "mcp", "serve")
ADD = {
    "claude": ("mcp", "add", "loopsy", "--scope", "user", "--"),
    "codex": ("mcp", "add", "loopsy", "--"),
    "gemini": ("mcp", "add", "-s", "user", "loopsy"),
}

pytestmark = pytest.mark.skipif(not LOOPSY.exists(), reason=f"loopsy is not installed beside {sys.executable}")


@frozen(kw_only=True)
class Desk:
    """The ``loopsy`` command in an agent's environment: it finds no other agent, and its HOME is the agent's."""

    agent: RealAgent
    directory: str

    def loopsy(self, *words: str, status: int = 0) -> str:
        done = subprocess.run(
            [LOOPSY, "--data-dir", self.directory, *words],
            env=self.agent.environment, cwd=self.agent.work, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == status, (words, done.stdout, done.stderr)
        return done.stdout

    def told(self, verb: str) -> str:
        answer = json.loads(self.loopsy("mcp", verb, "--json", "--agent", self.agent.name))
        return str(answer["agents"][0]["done"])

    def standing(self, status: int = 0) -> dict[str, Any]:
        text = self.loopsy("mcp", "status", "--json", "--agent", self.agent.name, status=status)
        return dict(json.loads(text)["agents"][0])


def listed(agent: RealAgent) -> str:
    """What the agent itself lists."""
    ran = agent.command("mcp", "list")
    return (ran.stdout + ran.stderr).decode()


@pytest.mark.parametrize("name", AGENTS)
def test_registered_by_init_once_and_gone_when_removed(name: str, make_agent: MakeAgent) -> None:
    agent, _ = make_agent(name)
    others = [word.replace("loopsy", "other") for word in ADD[name]]
    assert agent.command(*others, "/usr/bin/true").status == 0
    desk = Desk(agent=agent, directory=str(agent.home / "data dir"))
    assert re.search(rf"^  {name} +registered$", desk.loopsy("init", "--hostname", "alfa"), re.MULTILINE)
    assert desk.told("add") == "unchanged"
    command = f"{LOOPSY} mcp serve --data-dir {desk.directory}"
    assert " ".join(listed(agent).split()).count("data dir") == 1
    stands = desk.standing()
    assert (stands["command"], stands["current"], stands["connects"]) == (command, True, True)
    assert stands["tools"] >= 14
    assert "Connected" in stands["says"] if name == "claude" else "says" not in stands
    assert [desk.told("remove"), desk.told("remove")] == ["removed", "absent"]
    left = listed(agent)
    assert ("loopsy mcp serve" in left, "/usr/bin/true" in left) == (False, True), "the user's other servers stay"


@pytest.mark.parametrize("name", AGENTS)
def test_a_command_that_is_gone_is_seen_and_replaced(name: str, make_agent: MakeAgent) -> None:
    agent, _ = make_agent(name)
    assert agent.command(*ADD[name], *OLD).status == 0
    desk = Desk(agent=agent, directory=str(agent.home / "d"))
    stands = desk.standing(status=1)
    assert (stands["command"], stands["current"], stands["connects"]) == (" ".join(OLD), False, False)
    assert "can't be started" in stands["error"]
    assert desk.told("add") == "replaced"
    assert desk.standing()["connects"]


@pytest.mark.parametrize("name", AGENTS)
def test_the_agent_calls_a_tool_of_a_running_daemon(name: str, make_agent: MakeAgent, node: Node) -> None:
    agent, api = make_agent(name, scenario(mcp("loopsy", "loopsy_list_peers"), say("Nobody is there.")))
    desk = Desk(agent=agent, directory=os.fspath(node.root))
    desk.told("add")
    ran = agent.run("which machines are there?", awaits="loopsy")
    assert ran.status == 0, ran.stderr
    assert api.faults == []
    assert b"Nobody is there." in ran.stdout
    assert len(api.results) == 1
    assert "error" not in api.results[0].lower()
    assert not api.mentions(node.key)
