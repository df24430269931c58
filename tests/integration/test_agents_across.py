"""Two machines, a real agent on each: one runs a command on the other and writes to its agent, which reads and acks.

What was said and done is written to test-artefacts/, to be looked at.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from loopsy.testing.agents import AGENTS, RealAgent
from loopsy.testing.model_api import ModelApi, mcp, say, scenario
from loopsy.testing.nodes import Node
from tests.integration.conftest import MakeAgent, until
from tests.integration.test_mcp_registration import Desk

LOOPSY = Path(sys.executable).with_name("loopsy")
ARTEFACTS = Path(__file__).parents[2] / "test-artefacts"

pytestmark = pytest.mark.skipif(not LOOPSY.exists(), reason=f"loopsy is not installed beside {sys.executable}")


def used(agent: RealAgent, api: ModelApi, node: Node, prompt: str, lines: list[str]) -> list[str]:
    """Run the agent with loopsy registered; what its model saw of the tools' results."""
    Desk(agent=agent, directory=os.fspath(node.root)).told("add")
    ran = agent.run(prompt, awaits="loopsy")
    assert ran.status == 0, (api.faults, ran.stdout[-2000:], ran.stderr)
    assert api.faults == []
    lines += [f"== {agent.name} on {node.name}: {prompt}", ran.stdout.decode("utf-8", "replace")]
    lines += [f"-- a tool gave: {result}" for result in api.results]
    return list(api.results)


@pytest.mark.parametrize("name", AGENTS)
def test_a_command_there_and_a_message_that_is_read_and_acked(
    name: str, make_agent: MakeAgent, pair: tuple[Node, Node]
) -> None:
    """With each agent on both sides; and no key is anywhere in what went to a model."""
    alfa, bravo = pair
    lines: list[str] = []
    proof = f"proof-of-{name}"
    words = {"peer": "bravo", "command": "sh", "args": ["-c", f"echo {proof} $((40 + 2))"]}
    text = {"to": "bravo", "body": f"{name} asks: is the build green?"}
    turns = scenario(mcp("loopsy", "loopsy_execute", words), mcp("loopsy", "loopsy_send_message", text), say("Asked."))
    one, api = make_agent(name, turns)
    ran, sent = used(one, api, alfa, "run it there, and ask", lines)
    assert f"{proof} 42" in ran
    assert "queued" in sent or "delivered" in sent

    def arrived() -> list[dict[str, object]]:
        found = bravo.ask("GET", "/messages/inbox?state=unread").body["messages"]
        return [message for message in found if message["body"] == text["body"]]

    (message,) = until(arrived, "the message arrives")
    assert (message["from"], message["origin"]) == ("alfa", "agent")
    assert message["trust"] == "from peer alfa, not from your user"
    turns = scenario(
        mcp("loopsy", "loopsy_check_inbox"),
        mcp("loopsy", "loopsy_ack_message", {"messageId": message["id"]}),
        say("Read."),
    )
    other, api_there = make_agent(name, turns)
    read, acked = used(other, api_there, bravo, "what is new?", lines)
    assert "is the build green?" in read
    assert "not from your user" in read
    assert "acked" in acked
    state = f"/messages/{message['id']}?box=out"
    until(lambda: alfa.ask("GET", state).body["state"] == "acked", "the sender knows")
    for key in (alfa.key, bravo.key, *keys_of(alfa), *keys_of(bravo)):
        assert not api.mentions(key)
        assert not api_there.mentions(key)
        assert key not in "\n".join(lines)
    ARTEFACTS.mkdir(exist_ok=True)
    (ARTEFACTS / f"agents-{name}.txt").write_text("\n".join(lines), encoding="utf-8")


def keys_of(node: Node) -> list[str]:
    """Every key in a node's configuration."""
    import yaml

    auth = yaml.safe_load(node.layout.config.read_text())["auth"]
    return [*auth.get("allowedKeys", {}).values(), *auth.get("peerKeys", {}).values()]
