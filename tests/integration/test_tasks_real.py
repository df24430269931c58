"""AI tasks with the real agent CLIs against a scripted model: on this machine, and on another through the gateway."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import psutil
import pytest
from attrs import define

from loopsy.services.leftovers import of
from loopsy.testing.agents import RealAgent
from loopsy.testing.model_api import ModelApi, Scenario, say, scenario, shell
from loopsy.testing.nodes import Node, keyed_pair
from loopsy.wire.trust import DEFAULT_SCOPES
from tests.integration.conftest import MakeAgent, until
from tests.integration.tasking import Client, kinds, texts, whole
from tests.integration.terminal_actors import is_alive

pytestmark = pytest.mark.integration
ASKING = ("claude", "codex")
"""Gemini's CLI can't ask when it is headless."""
ALL = ("claude", "codex", "gemini")


@define
class AgentNode(Node):
    """A node whose daemon sees what the agent's bed says, and nothing else."""

    agent: RealAgent | None = None

    @property
    def environment(self) -> dict[str, str]:
        assert self.agent is not None
        return {**self.agent.environment, "LOOPSY_DATA_DIR": str(self.root)}


@define
class Bed:
    """An agent's machine, asked from where a test wants."""

    agent: RealAgent
    api: ModelApi
    node: Node
    client: Client


MakeBed = Callable[..., Bed]


@pytest.fixture
def make_bed(tmp_path: Path, make_agent: MakeAgent) -> Iterator[MakeBed]:
    started: list[Node] = []

    def make(name: str, *scenarios: Scenario, there: bool = False, **tasks: Any) -> Bed:
        agent, api = make_agent(name, *scenarios)
        near, far = Node(tmp_path / "near", "near"), AgentNode(tmp_path / "far", "far", agent=agent)
        keyed_pair(near, far, aiTasks={"maxConcurrent": 3, **tasks})
        for node in (near, far) if there else (far,):
            started.append(node.start())
        scopes = far.ask("PUT", "/trust/near/scopes", {"scopes": [*DEFAULT_SCOPES, "approve"]})
        assert scopes.status == 200, scopes
        return Bed(agent, api, far, Client(near, base="/peers/far") if there else Client(far))

    yield make
    for node in started:
        node.stop()
        assert "Traceback" not in node.log


def living(task_id: str) -> list[psutil.Process]:
    return list(of(task_id))


where = pytest.mark.parametrize("there", [False, True], ids=["here", "there"])


@where
@pytest.mark.parametrize("name", ASKING)
def test_a_tool_that_is_approved_runs(name: str, there: bool, make_bed: MakeBed) -> None:
    bed = make_bed(name, scenario(shell("echo forty-two > out.txt; cat out.txt"), say("All done.")), there=there)
    task_id = bed.client.start("please look", agent=name, cwd=str(bed.agent.work))
    asked = bed.client.asked(task_id)
    assert asked["kind"] == "command"
    assert "echo forty-two > out.txt; cat out.txt" in asked["command"]
    assert not (bed.agent.work / "out.txt").exists()
    assert bed.client.approve(task_id, asked["requestId"]).status == 200
    task = bed.client.over(task_id)
    assert (task["status"], task.get("error")) == ("completed", None)
    assert "All done." in task["result"]["text"]
    assert (bed.agent.work / "out.txt").read_text() == "forty-two\n"
    events = list(bed.client.stream(task_id))
    assert whole(events)
    assert {"system", "tool_use", "tool_result", "text", "permission_request", "permission_answer"} <= {*kinds(events)}
    assert any("forty-two" in output for output in texts(events, "tool_result", "output"))
    assert task["sessionId"]


@where
@pytest.mark.parametrize("name", ASKING)
def test_a_denial_and_its_words_reach_the_model(name: str, there: bool, make_bed: MakeBed) -> None:
    bed = make_bed(name, scenario(shell("touch out.txt"), say("As you wish.")), there=there)
    task_id = bed.client.start("please", agent=name, cwd=str(bed.agent.work))
    request_id = bed.client.asked(task_id)["requestId"]
    bed.client.approve(task_id, request_id, approved=False, message="not on a Friday")
    bed.client.over(task_id)
    assert not (bed.agent.work / "out.txt").exists()
    if name == "claude":
        assert bed.api.mentions("not on a Friday")


@pytest.mark.parametrize("name", ASKING)
def test_nobody_answers(name: str, make_bed: MakeBed) -> None:
    bed = make_bed(name, scenario(shell("touch out.txt"), say("Never mind.")))
    task_id = bed.client.start("please", agent=name, cwd=str(bed.agent.work), approvalTimeout=1500)
    bed.client.over(task_id)
    assert texts(bed.client.events(task_id), "permission_answer", "how") == ["timeout"]
    assert not (bed.agent.work / "out.txt").exists()


@where
@pytest.mark.parametrize("name", ASKING)
def test_cancelled_in_mid_tool_nothing_is_left(name: str, there: bool, make_bed: MakeBed) -> None:
    bed = make_bed(name, scenario(shell("echo $$ > pid; sleep 1000"), say("Done.")), there=there)
    task_id = bed.client.start("wait", agent=name, cwd=str(bed.agent.work))
    bed.client.approve(task_id, bed.client.asked(task_id)["requestId"])
    file = bed.agent.work / "pid"
    pid = int(until(lambda: file.exists() and file.read_text().strip(), "the tool"))
    assert living(task_id)
    bed.client.ask("DELETE", f"/{task_id}")
    assert bed.client.over(task_id)["status"] == "cancelled"
    until(lambda: not living(task_id), "the end of all of it")  # what was killed takes a moment to go
    until(lambda: not is_alive(pid), "the end of its tool")


@pytest.mark.parametrize("name", ASKING)
def test_a_daemon_that_is_killed_while_a_permission_waits(name: str, make_bed: MakeBed) -> None:
    bed = make_bed(name, scenario(shell("touch out.txt"), say("Done.")))
    task_id = bed.client.start("please", agent=name, cwd=str(bed.agent.work))
    bed.client.asked(task_id)
    bed.node.kill()
    until(lambda: not living(task_id), "the agent's own end")
    bed.node.start()
    task = bed.client.over(task_id)
    assert (task["status"], task["error"]) == ("failed", "the daemon was restarted")
    assert not (bed.agent.work / "out.txt").exists()


@pytest.mark.parametrize("name", ALL)
def test_no_key_of_ours_is_with_the_agent(name: str, make_bed: MakeBed) -> None:
    bed = make_bed(name, scenario(shell("env; tr '\\0' '\\n' < /proc/$PPID/environ; ps -ef"), say("Done.")))
    task_id = bed.client.start("show", agent=name, cwd=str(bed.agent.work), permissionMode="bypassPermissions")
    assert bed.client.over(task_id)["status"] == "completed"
    (result,) = bed.api.results
    assert task_id in result
    assert "LOOPSY_DATA_DIR" not in result
    assert not bed.api.mentions(bed.node.key)
    for file in (path for path in bed.agent.home.rglob("*") if path.is_file()):
        assert bed.node.key.encode() not in file.read_bytes()


@where
@pytest.mark.parametrize("name", ASKING)
def test_a_session_goes_on(name: str, there: bool, make_bed: MakeBed) -> None:
    """Not Gemini: it can't resume a session in the minute in which it began (test_agent_sessions waits for it)."""
    bed = make_bed(name, scenario(say("Number one."), say("Number two.")), there=there)
    first = bed.client.start("first", agent=name, cwd=str(bed.agent.work))
    assert "Number one." in bed.client.over(first)["result"]["text"]
    answer = bed.client.ask("POST", f"/{first}/resume", {"prompt": "second"})
    assert answer.status == 201, answer
    task = bed.client.over(answer.body["taskId"])
    assert "Number two." in task["result"]["text"], bed.client.events(task["taskId"])
    assert task["resumes"] == first


@pytest.mark.parametrize("name", ALL)
def test_a_text_of_two_megabytes(name: str, make_bed: MakeBed) -> None:
    bed = make_bed(name, scenario(say(Random(1).randbytes(1_000_000).hex())))  # gemini ends what repeats itself
    task_id = bed.client.start("talk", agent=name, cwd=str(bed.agent.work))
    assert bed.client.over(task_id)["status"] == "completed"
    events = list(bed.client.stream(task_id))
    assert whole(events)
    assert sum(len(text) for text in texts(events)) > 200_000


@pytest.mark.parametrize("name", ASKING)
def test_fifty_thousand_pieces(name: str, make_bed: MakeBed) -> None:
    """From the model, an event each: nothing of it is lost. (Gemini's CLI ends what repeats itself.)"""
    bed = make_bed(name, scenario(say("tick ", pieces=50_000)), there=True)
    task_id = bed.client.start("talk", agent=name, cwd=str(bed.agent.work))
    assert bed.client.over(task_id)["status"] == "completed"
    events = list(bed.client.stream(task_id))
    assert whole(events)
    assert "".join(texts(events)).count("tick") == 50_000


@pytest.mark.parametrize("name", ALL)
def test_a_crash(name: str, make_bed: MakeBed) -> None:
    bed = make_bed(name, scenario(say("slow", hold=True)))
    task_id = bed.client.start("talk", agent=name, cwd=str(bed.agent.work))
    until(lambda: bed.api.requests)
    os.kill(bed.client.show(task_id)["pid"], signal.SIGKILL)
    task = bed.client.over(task_id)
    assert task["status"] == "failed"
    assert bed.client.events(task_id)[-1]["data"] == {"exitCode": None, "signal": "SIGKILL"}


def test_three_at_once_and_a_fourth(make_bed: MakeBed) -> None:
    bed = make_bed("claude", scenario(say("There.", hold=True)), there=True)
    three = [bed.client.start("talk", cwd=str(bed.agent.work)) for _ in range(3)]
    assert bed.client.ask("POST", "", {"prompt": "talk"}).body["error"]["code"] == 6002
    fourth = bed.client.start("talk", cwd=str(bed.agent.work), queue=True)
    assert bed.client.show(fourth)["queuePosition"] == 1
    until(lambda: len(bed.api.turns) == 3)
    bed.api.release()
    for task_id in (*three, fourth):
        assert until(lambda task_id=task_id: bed.api.release() or bed.client.show(task_id).get("result"))
        assert bed.client.over(task_id)["status"] == "completed"
