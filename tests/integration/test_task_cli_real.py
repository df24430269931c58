"""``loopsy task run --on bravo --follow`` in a terminal, with the real agent CLIs on the other machine; what the
terminal showed is kept among the tests' artefacts."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from attrs import define

from loopsy.services.leftovers import of
from loopsy.testing.agents import RealAgent
from loopsy.testing.model_api import ModelApi, Scenario, say, scenario, shell
from loopsy.testing.nodes import Node, keyed_pair
from loopsy.wire.trust import DEFAULT_SCOPES
from tests.integration.conftest import MakeAgent, until
from tests.integration.task_terminal import Person
from tests.integration.tasking import Client, texts
from tests.integration.terminal_actors import is_alive
from tests.integration.test_tasks_real import AgentNode

pytestmark = pytest.mark.integration
ROOT = Path(__file__).resolve().parents[2]
KEPT = Path(os.environ.get("LOOPSY_TEST_ARTEFACTS", ROOT / "test-artefacts")) / "tasks"
NAMES = ("claude", "codex", "gemini")


@define
class There:
    """A machine with an agent, and the one that asks it."""

    alfa: Node
    bravo: Node
    agent: RealAgent
    api: ModelApi


MakeThere = Callable[..., There]


@pytest.fixture
def make_there(tmp_path: Path, make_agent: MakeAgent) -> Iterator[MakeThere]:
    started: list[Node] = []

    def make(name: str, *scenarios: Scenario) -> There:
        agent, api = make_agent(name, *scenarios)
        alfa, bravo = Node(tmp_path / "alfa", "alfa"), AgentNode(tmp_path / "bravo", "bravo", agent=agent)
        keyed_pair(alfa, bravo)
        started.extend(node.start() for node in (alfa, bravo))
        bravo.ask("PUT", "/trust/alfa/scopes", {"scopes": [*DEFAULT_SCOPES, "approve"]})
        return There(alfa, bravo, agent, api)

    yield make
    for node in started:
        node.stop()
        assert "Traceback" not in node.log


def keep(name: str, person: Person, work: Path) -> None:
    """What was seen, without where these tests run."""
    KEPT.mkdir(parents=True, exist_ok=True)
    (KEPT / f"{name}.txt").write_text(person.plain.replace(str(work), "/home/leo/app"))


@pytest.mark.parametrize("name", NAMES)
def test_a_task_there_as_it_is_seen_here(name: str, make_there: MakeThere) -> None:
    command = "echo forty-two > out.txt; cat out.txt"
    there = make_there(name, scenario(say("I will look.", shell=command), shell("touch no.txt"), say("All done.")))
    work = there.agent.work
    words = ("task", "run", "--on", "bravo", "--agent", name, "--cwd", str(work), "--follow", "please look")
    with Person(there.alfa, *words) as person:
        person.sees("on bravo")
        person.sees("I will look.")
        person.sees(f"wants to run a command, in {work}:")
        assert command in person.sees("allow? [y]es once / [t]his task / [n]o: ")
        assert not (work / "out.txt").exists()
        person.types("y")
        person.sees("allowed by alfa")
        person.sees("| forty-two")
        assert "touch no.txt" in person.sees("[n]o: ")
        person.types("n")
        person.sees("a word to the agent")
        person.types("not on a Friday")
        person.sees("denied by alfa")
        person.sees("completed")
        status = person.leaves()
        keep(f"run-on-bravo-{name}", person, work)
        assert status == 0
    assert (work / "out.txt").read_text() == "forty-two\n"
    assert not (work / "no.txt").exists()
    assert there.api.mentions("not on a Friday")
    (task,) = Client(there.bravo).ask("GET").body["tasks"]
    assert (task["status"], task["from"]) == ("completed", "alfa")


@pytest.mark.parametrize("name", NAMES)
def test_cancelled_there_its_tools_end_though_they_were_detached(name: str, make_there: MakeThere) -> None:
    command = "setsid sh -c 'echo $$ > detached; exec sleep 1000' & echo $$ > pid; sleep 1000"
    there = make_there(name, scenario(shell(command), say("Done.")))
    work, bravo = there.agent.work, Client(there.bravo)
    words = ("task", "run", "--on", "bravo", "--agent", name, "--cwd", str(work), "--follow", "wait")
    with Person(there.alfa, *words) as person:
        person.sees("[n]o: ")
        person.types("y")
        pids = [int(until(lambda f=file: f.exists() and f.read_text())) for file in (work / "pid", work / "detached")]
        (task,) = bravo.ask("GET").body["tasks"]
        assert there.alfa.run("task", "cancel", "--on", "bravo", task["taskId"][:8]).returncode == 0
        person.sees("cancelled")
        assert person.leaves() == 130
    until(lambda: list(of(task["taskId"])) == [], "the end of all of it")  # what was killed takes a moment to go
    until(lambda: not any(map(is_alive, pids)), "the end of its tools")


def words_of(process: psutil.Process) -> list[str]:
    try:
        return list(process.cmdline())
    except psutil.Error:
        return []


def test_gemini_stays_with_its_servers_and_is_ended_with_them(make_there: MakeThere) -> None:
    there = make_there("gemini", scenario(say("All done.")))
    settings = there.agent.home / ".gemini" / "settings.json"
    server = {"command": sys.executable, "args": ["-m", "loopsy.cli.main", "mcp", "serve"]}
    settings.write_text(json.dumps({**json.loads(settings.read_text()), "mcpServers": {"loopsy": server}}))
    trust = there.agent.home / ".gemini" / "trustedFolders.json"
    trust.write_text(json.dumps({str(there.agent.work): "TRUST_FOLDER"}))
    bravo, seen = Client(there.bravo), []
    task_id = bravo.start("look", agent="gemini", cwd=str(there.agent.work))

    def is_over() -> bool:
        seen.extend(one for one in of(task_id) if "mcp" in words_of(one))
        return bravo.show(task_id)["status"] != "running"

    until(is_over, "its end: by itself it would stay")
    task = bravo.over(task_id)
    assert seen, "it has started its server"
    assert (task["status"], task["result"]["text"]) == ("completed", "All done.")
    until(lambda: list(of(task_id)) == [], "the end of its servers")
    assert not [text for text in texts(bravo.events(task_id), "system") if "go on" in str(text)]
