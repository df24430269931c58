"""The real claude, at work, is handed messages of another machine by its hooks."""

from __future__ import annotations

import json
import shlex
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from loopsy.testing.agents import AGENTS, RealAgent
from loopsy.testing.model_api import say, scenario, shell
from loopsy.testing.nodes import Node
from tests.integration.conftest import MakeAgent, until

Pair = tuple[Node, Node]
BODY = "the schema changed; pull before you push"
TRUST = "from peer alfa, not from your user"


@pytest.fixture
def hook(tmp_path: Path) -> Callable[[RealAgent, Node, str], None]:
    """Puts the hook into an agent's settings, as docs/agents.md says."""

    def put(agent: RealAgent, node: Node, event: str) -> None:
        command = (
            f"LOOPSY_DATA_DIR={shlex.quote(str(node.root))} {sys.executable} -m loopsy.cli.main message hook claude"
        )
        entry: dict[str, Any] = {"hooks": [{"type": "command", "command": command}]}
        if event == "PostToolUse":
            entry["matcher"] = ""
        settings = agent.home / ".claude" / "settings.json"
        settings.parent.mkdir(parents=True, exist_ok=True)
        settings.write_text(json.dumps({"hooks": {event: [entry]}}))

    return put


def send(pair: Pair, body: str = BODY) -> str:
    """A message from the first to the second; its id once it is there."""
    a, b = pair
    name = a.ask("POST", "/messages", {"to": "bravo", "body": body}).body["messages"][0]["id"]
    until(lambda: b.ask("GET", f"/messages/{name}?box=in").status == 200)
    return str(name)


def state(node: Node, name: str) -> str:
    return str(node.ask("GET", f"/messages/{name}?box=in").body["state"])


def asked(api: Any, number: int) -> str:
    """What the model was asked in a turn, as it came over the wire."""
    return str(api.turns[number].asked)


def test_a_message_that_comes_while_it_works_reaches_the_models_next_request(
    pair: Pair, make_agent: MakeAgent, hook: Callable[..., None], tmp_path: Path
) -> None:
    begun, sent = tmp_path / "begun", tmp_path / "sent"
    work = f"touch {begun}; while [ ! -e {sent} ]; do sleep 0.05; done; echo worked"
    agent, api = make_agent("claude", scenario(shell(work), say("Understood.")))
    hook(agent, pair[1], "PostToolUse")
    names: list[str] = []

    def other_machine() -> None:
        until(begun.exists)
        names.append(send(pair))
        sent.touch()

    thread = threading.Thread(target=other_machine)
    thread.start()
    ran = agent.run("work")
    thread.join(60)
    assert ran.status == 0, ran.stderr
    assert BODY not in asked(api, 0)
    assert BODY in api.turns[1].everything.decode()
    assert TRUST in api.turns[1].everything.decode()
    assert state(pair[1], names[0]) == "read"
    assert api.faults == []


def test_one_that_would_stop_goes_on_once(pair: Pair, make_agent: MakeAgent, hook: Callable[..., None]) -> None:
    agent, api = make_agent("claude", scenario(say("Finished."), say("I have read it."), say("Never asked.")))
    hook(agent, pair[1], "Stop")
    name = send(pair)
    ran = agent.run("do nothing")
    assert ran.status == 0, ran.stderr
    assert b"I have read it." in ran.stdout
    assert len(api.turns) == 2
    assert BODY in api.turns[1].everything.decode()
    assert state(pair[1], name) == "read"


def test_without_messages_or_a_daemon_it_is_as_if_there_were_no_hook(
    pair: Pair, make_agent: MakeAgent, make_node: Callable[..., Node], hook: Callable[..., None]
) -> None:
    for node in (pair[1], make_node("charlie")):
        pair[1].ask("POST", "/messages/take", {"limit": 200})
        agent, api = make_agent("claude", scenario(say("Finished."), say("Never asked.")))
        hook(agent, node, "Stop")
        ran = agent.run("do nothing")
        assert ran.status == 0, ran.stderr
        assert len(api.turns) == 1
        assert b"hook" not in ran.stderr.lower()


@pytest.mark.parametrize("name", AGENTS)
def test_what_an_agent_sends_by_its_shell_is_the_agents(name: str, pair: Pair, make_agent: MakeAgent) -> None:
    a = pair[0]
    command = (
        f"LOOPSY_DATA_DIR={shlex.quote(str(a.root))} {sys.executable} -m loopsy.cli.main message send bravo {name}"
    )
    agent, api = make_agent(name, scenario(shell(command), say("Sent.")))
    ran = agent.run("tell bravo")
    assert ran.status == 0, ran.stderr
    (sent,) = [m for m in a.ask("GET", "/messages/outbox?limit=200").body["messages"] if m["body"] == name]
    assert sent["origin"] == "agent"
    assert api.faults == []
