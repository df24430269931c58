"""The test bed itself: each real agent CLI works against the scripted model API, and with nothing of the user's."""

from __future__ import annotations

import subprocess
from pathlib import Path

import psutil
import pytest

from loopsy.testing import model_api
from loopsy.testing.agents import AGENTS
from loopsy.testing.model_api import say, scenario, shell
from tests.integration.conftest import MakeAgent, until

SCENARIOS = Path(__file__).parent / "scenarios"


@pytest.mark.parametrize("name", AGENTS)
def test_it_answers(name: str, make_agent: MakeAgent) -> None:
    agent, api = make_agent(name, scenario(say("Good morning.")))
    ran = agent.run("say good morning")
    assert ran.status == 0, ran.stderr
    assert b"Good morning." in ran.stdout
    assert "say good morning" in str(api.turns[0].asked)
    assert api.faults == []


@pytest.mark.parametrize("name", AGENTS)
def test_it_runs_a_command_by_its_shell_tool(name: str, make_agent: MakeAgent) -> None:
    agent, api = make_agent(name, model_api.load(SCENARIOS / "shell.yaml"))
    ran = agent.run("please look")
    assert ran.status == 0, ran.stderr
    assert (agent.work / "out.txt").read_text() == "forty-two\n"
    assert [("forty-two" in result) for result in api.results] == [True]
    assert b"All done." in ran.stdout
    assert api.faults == []


@pytest.mark.parametrize("name", AGENTS)
def test_it_knows_nothing_of_this_environment(
    name: str, make_agent: MakeAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOOPSY_SECRET_OF_THE_USER", "s3cr3t-of-the-user")
    agent, api = make_agent(name, scenario(shell("env"), say("Done.")))
    assert agent.run("show the environment").status == 0
    assert f"HOME={agent.home}" in api.results[0]
    assert not api.mentions("s3cr3t-of-the-user")
    assert api.mentions(str(agent.home)), "a search that finds nothing must be able to find something"


def test_one_that_hangs_is_ended_with_all_of_its_processes(make_agent: MakeAgent) -> None:
    agent, _ = make_agent("claude", scenario(shell("echo $$ > pid; exec sleep 1000")))
    with pytest.raises(subprocess.TimeoutExpired):
        agent.run("sleep", timeout=30)  # in which its command must have begun
    pid = int((agent.work / "pid").read_text())
    until(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
