"""The tools for tasks by the MCP SDK's own client: over two real daemons, with a stand-in for the agent."""

from __future__ import annotations

import os
from collections.abc import Iterator

import anyio
import pytest
from anyio import to_thread

from loopsy.testing import fake_agent
from loopsy.testing.nodes import Node, keyed_pair
from tests.integration.tasking import Client
from tests.integration.test_mcp import Agent, as_agent

pytestmark = pytest.mark.integration
Pair = tuple[Node, Node]


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    root = tmp_path_factory.mktemp("mcp-tasks")
    a, b = Node(root / "alfa", "alfa"), Node(root / "bravo", "bravo")
    keyed_pair(a, b)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{fake_agent.install(root / 'agents')}{os.pathsep}{os.environ['PATH']}")
        a.start()
        b.start()
        yield a, b
    a.stop()
    b.stop()
    assert "Traceback" not in a.log + b.log


@pytest.mark.parametrize("peer", [None, "bravo"])
def test_a_task_from_its_beginning_to_its_end(both: Pair, peer: str | None) -> None:
    a, b = both
    there = {"peer": peer} if peer else {}
    machine = Client(b if peer else a)

    async def talk(agent: Agent) -> None:
        told: list[str] = []

        async def progress(_: float, __: float | None, message: str | None) -> None:
            told.append(message or "")

        begun = await agent.good("loopsy_task_run", prompt="say hello\nask echo forty-two\ndone All done.", **there)
        task_id = begun["taskId"]
        asked = await to_thread.run_sync(machine.asked, task_id)
        shown = await agent.good("loopsy_task_status", taskId=task_id, **there)
        assert (shown["status"], shown["waitsFor"]["what"]) == ("waiting_approval", "echo forty-two")
        assert any("You can't." in note for note in shown["notes"])
        listed = await agent.good("loopsy_task_list", status="active", **there)
        assert [task["taskId"] for task in listed["tasks"]] == [task_id]

        async def approve_later() -> None:
            while not any("permission_request" in line or "waiting_approval" in line for line in told):
                await anyio.sleep(0.05)
            await to_thread.run_sync(machine.approve, task_id, asked["requestId"])

        async with anyio.create_task_group() as group:
            group.start_soon(approve_later)
            ended = await agent.result("loopsy_task_status", progress, taskId=task_id, waitSeconds=300, **there)
        end = ended.structured_content
        assert (end["status"], end["result"]) == ("completed", "All done.")
        assert any("forty-two" in line for line in end["lastEvents"])

    as_agent(a, talk, b)


def test_ending_one_and_a_wait_that_is_over_first(both: Pair) -> None:
    a, b = both

    async def talk(agent: Agent) -> None:
        begun = await agent.good("loopsy_task_run", prompt="sleep 300", peer="bravo", waitSeconds=1)
        assert begun["status"] == "running"
        task_id = begun["taskId"]
        await agent.good("loopsy_task_cancel", taskId=task_id, peer="bravo")
        ended = await agent.good("loopsy_task_status", taskId=task_id, peer="bravo", waitSeconds=300)
        assert ended["status"] == "cancelled"
        assert "loopsy_task_status" in await agent.bad("loopsy_task_cancel", taskId=task_id, peer="bravo")
        assert "loopsy_task_list" in await agent.bad("loopsy_task_status", taskId="nothing")

    as_agent(a, talk, b)


def test_a_restart_of_the_daemon_in_the_wait_is_told(both: Pair) -> None:
    a, b = both

    async def talk(agent: Agent) -> None:
        begun = await agent.good("loopsy_task_run", prompt="sleep 300", peer="bravo")
        told: list[str] = []

        async def progress(_: float, __: float | None, message: str | None) -> None:
            told.append(message or "")

        def restart() -> None:
            a.kill()
            a.start()

        async def restart_later() -> None:
            while not told:
                await anyio.sleep(0.05)
            await to_thread.run_sync(restart)

        task_id = begun["taskId"]
        async with anyio.create_task_group() as group:
            group.start_soon(restart_later)
            result = await agent.result("loopsy_task_status", progress, taskId=task_id, peer="bravo", waitSeconds=300)
        assert not result.is_error, result.content
        assert result.structured_content["status"] == "running"
        assert "broken off" in result.structured_content["notes"][0]
        await agent.good("loopsy_task_cancel", taskId=task_id, peer="bravo")

    as_agent(a, talk, b)
