"""The real ``loopsy mcp serve``, driven by the MCP SDK's own client, over real daemons."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from base64 import b64decode
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import psutil
import pytest
import yaml
from mcp import Client, StdioServerParameters, stdio_client

from loopsy.mcp.results import MOST
from loopsy.testing.nodes import Node, keyed_pair
from tests.integration.conftest import PATIENCE_S, until
from tests.integration.test_execution import STUBBORN, alive, both_started

SERVE = ("-m", "loopsy.cli.main", "mcp", "serve")
Pair = tuple[Node, Node]


def secrets_of(*nodes: Node) -> set[str]:
    """Every key that one of them has."""
    found = set()
    for node in nodes:
        auth = yaml.safe_load(node.layout.config.read_text())["auth"]
        found |= {auth["apiKey"], *auth.get("allowedKeys", {}).values(), *auth.get("peerKeys", {}).values()}
    return found


class Agent:
    """An agent on a node: calls tools, and sees to it that no answer holds a key, an address or too much."""

    def __init__(self, client: Client, nodes: tuple[Node, ...]) -> None:
        self.client = client
        self.secrets = secrets_of(*nodes)
        self.ports = {str(node.port) for node in nodes}

    async def result(self, name: str, progress: Any = None, **arguments: Any) -> Any:
        result = await self.client.call_tool(name, arguments, progress_callback=progress)
        self.harmless(result.model_dump_json())
        assert len(result.content[0].text.encode()) <= MOST  # type: ignore[union-attr]
        return result

    def harmless(self, text: str) -> None:
        assert not [secret for secret in self.secrets if secret in text]
        assert "127.0.0.1" not in text
        assert not [port for port in self.ports if f":{port}" in text or f"port {port}" in text]

    async def good(self, name: str, **arguments: Any) -> dict[str, Any]:
        result = await self.result(name, **arguments)
        assert not result.is_error, result.content
        assert json.loads(result.content[0].text) == result.structured_content
        return dict(result.structured_content)

    async def bad(self, name: str, **arguments: Any) -> str:
        result = await self.result(name, **arguments)
        assert result.is_error, result.content
        return str(result.content[0].text)


def as_agent(node: Node, talk: Callable[[Agent], Awaitable[Any]], *others: Node) -> Any:
    """What ``talk`` returns, given an agent on this node. The server's standard error is quiet and holds no key."""
    log = node.root.parent / f"mcp-{node.name}.log"

    async def main() -> Any:
        server = StdioServerParameters(command=sys.executable, args=list(SERVE), env=node.environment)
        with log.open("a") as errors:
            async with Client(stdio_client(server, errlog=errors)) as client:
                agent = Agent(client, (node, *others))
                agent.harmless((await client.list_tools()).model_dump_json())
                return await talk(agent)

    found = anyio.run(main)
    assert log.read_text() == ""
    return found


# -- each tool, here and there ----------------------------------------------------------------------------------------
def test_peers_and_status(pair: Pair) -> None:
    a, b = pair

    async def talk(agent: Agent) -> None:
        peers = await agent.good("loopsy_list_peers")
        assert [(peer["name"], peer["paired"]) for peer in peers["peers"]] == [("bravo", True)]
        here, there = await agent.good("loopsy_peer_status"), await agent.good("loopsy_peer_status", peer="bravo")
        assert (here["peer"], here["status"], there["peer"], there["status"]) == (
            "this machine",
            "online",
            "bravo",
            "online",
        )
        assert "from peer bravo" in there["trust"]
        for uri in ("loopsy://peers", "loopsy://status", "loopsy://context"):
            text = (await agent.client.read_resource(uri)).contents[0].text  # type: ignore[union-attr]
            agent.harmless(text)
            json.loads(text)

    as_agent(a, talk, b)


@pytest.mark.parametrize("peer", [None, "bravo"])
def test_commands(pair: Pair, peer: str | None, tmp_path: Path) -> None:
    a, b = pair
    there = {"peer": peer} if peer else {}

    async def talk(agent: Agent) -> None:
        script = "pwd; echo $X; echo err >&2; exit 3"
        shown = await agent.good(
            "loopsy_execute", command="sh", args=["-c", script], cwd=str(tmp_path), env={"X": "a b"}, **there
        )
        assert (shown["stdout"], shown["stderr"], shown["exitCode"]) == (f"{tmp_path}\na b\n", "err\n", 3)
        timed = await agent.good("loopsy_execute", command="sleep", args=["60"], timeoutSeconds=0.3, **there)
        assert timed["reason"] == "timeout"
        assert "not found" in await agent.bad("loopsy_execute", command="no-such-program", **there)
        assert "don't work around" in await agent.bad("loopsy_execute", command="shutdown", **there)
        touched = tmp_path / "touched"
        await agent.good(
            "loopsy_execute", command="sh", args=["-c", f"sleep 0.3; touch {touched}"], detach=True, **there
        )
        with anyio.fail_after(PATIENCE_S):
            while not touched.exists():
                await anyio.sleep(0.02)

    as_agent(a, talk, b)


@pytest.mark.parametrize("peer", [None, "bravo"])
def test_values(pair: Pair, peer: str | None) -> None:
    a, b = pair
    there = {"peer": peer} if peer else {}

    async def talk(agent: Agent) -> None:
        await agent.good("loopsy_context_set", key="mcp/\u00e4 b", value="v\u20ac", ttlSeconds=600, **there)
        shown = await agent.good("loopsy_context_get", key="mcp/\u00e4 b", **there)
        assert (shown["value"], shown["setBy"]) == ("v\u20ac", "this machine")
        assert "expiresAt" in shown
        listed = await agent.good("loopsy_context_list", prefix="mcp/", **there)
        assert [entry["key"] for entry in listed["entries"]] == ["mcp/\u00e4 b"]
        assert (await agent.good("loopsy_context_delete", key="mcp/\u00e4 b", **there))["deleted"]
        assert "loopsy_context_list" in await agent.bad("loopsy_context_get", key="mcp/\u00e4 b", **there)

    as_agent(a, talk, b)


def test_a_broadcast_is_set_on_every_online_peer(pair: Pair) -> None:
    a, b = pair

    async def talk(agent: Agent) -> None:
        shown = await agent.good("loopsy_broadcast_context", key="everyone", value="hear")
        assert (shown["results"], shown["setOn"]) == ([{"peer": "bravo", "ok": True}], 1)

    as_agent(a, talk, b)
    assert b.ask("GET", "/context/everyone").body["value"] == "hear"


def test_files_there_and_back(pair: Pair, tmp_path: Path) -> None:
    a, b = pair
    data = os.urandom(3_000_000)
    (tmp_path / "one").write_bytes(data)

    async def talk(agent: Agent) -> None:
        sent = await agent.good(
            "loopsy_transfer_file", direction="push", peer="bravo", localPath=str(tmp_path / "one"), remotePath="in/one"
        )
        assert (sent["files"], sent["bytes"], sent["bytesSent"]) == (1, len(data), len(data))
        again = await agent.good(
            "loopsy_transfer_file", direction="push", peer="bravo", localPath=str(tmp_path / "one"), remotePath="in/one"
        )
        assert (again["filesUnchanged"], again["bytesSent"]) == (1, 0)
        listed = await agent.good("loopsy_list_remote_files", peer="bravo", path="in")
        assert [(file["name"], file["bytes"]) for file in listed["files"]] == [("one", len(data))]
        back = str(tmp_path / "back")
        await agent.good("loopsy_transfer_file", direction="pull", peer="bravo", localPath=back, remotePath="in/one")
        assert Path(back).read_bytes() == data
        missing = {"direction": "pull", "peer": "bravo", "localPath": back, "remotePath": "in/none"}
        assert "loopsy_list_remote_files" in await agent.bad("loopsy_transfer_file", **missing)
        assert "may not be touched" in await agent.bad("loopsy_list_remote_files", peer="bravo", path=str(b.root))

    as_agent(a, talk, b)


def test_a_message_its_answer_and_the_acks(pair: Pair) -> None:
    a, b = pair

    async def ask(agent: Agent) -> str:
        sent = await agent.good("loopsy_send_message", to="bravo", body="how are you?", type="request")
        return str(sent["messages"][0]["id"])

    asked = as_agent(a, ask, b)

    async def answer(agent: Agent) -> None:
        (came,) = (await agent.good("loopsy_check_inbox", waitSeconds=PATIENCE_S))["messages"]
        assert (came["id"], came["from"], came["origin"]) == (asked, "alfa", "agent")
        assert came["trust"] == "from peer alfa, not from your user"
        await agent.good("loopsy_ack_message", messageId=asked)
        await agent.good("loopsy_send_message", to="alfa", body="well", type="response", inReplyTo=asked)
        assert (await agent.good("loopsy_check_inbox"))["messages"] == []

    as_agent(b, answer, a)

    async def hear(agent: Agent) -> None:
        (came,) = (await agent.good("loopsy_check_inbox", waitSeconds=PATIENCE_S))["messages"]
        assert (came["body"], came["inReplyTo"]) == ("well", asked)
        again = await agent.good("loopsy_check_inbox", includeUnacked=True)
        assert [message["id"] for message in again["messages"]] == [came["id"]]
        await agent.good("loopsy_ack_message", messageId=came["id"])
        with anyio.fail_after(PATIENCE_S):
            while not (await agent.good("loopsy_check_ack", messageId=asked))["acked"]:
                await anyio.sleep(0.05)
        assert "loopsy_check_inbox" in await agent.bad("loopsy_ack_message", messageId="1-nobody-0")

    as_agent(a, hear, b)


def test_a_wait_for_a_message_ends_when_one_comes(pair: Pair) -> None:
    a, b = pair

    async def talk(agent: Agent) -> None:
        inbox: list[dict[str, Any]] = []

        async def wait() -> None:
            inbox.extend((await agent.good("loopsy_check_inbox", waitSeconds=300))["messages"])

        async with anyio.create_task_group() as group:
            group.start_soon(wait)
            await anyio.sleep(0.3)
            assert inbox == []
            body = {"to": "alfa", "body": "wake up"}
            begin = time.monotonic()
            assert (await anyio.to_thread.run_sync(b.ask, "POST", "/messages", body)).status == 201
        assert time.monotonic() - begin < 200, "it did not wait for its own end"
        assert [message["body"] for message in inbox] == ["wake up"]
        assert inbox[0]["origin"] == "person"

    as_agent(a, talk, b)


# -- bad input --------------------------------------------------------------------------------------------------------
def test_peers_that_are_not_there(pair: Pair) -> None:
    a, b = pair

    async def talk(agent: Agent) -> None:
        for name, given in (
            ("loopsy_peer_status", {}), ("loopsy_execute", {"command": "true"}), ("loopsy_list_remote_files", {}),
            ("loopsy_context_get", {"key": "k"}), ("loopsy_context_list", {}),
        ):  # fmt: skip
            assert "bravo" in await agent.bad(name, peer="brava", **given)
            assert "not addressed" in await agent.bad(name, peer=f"127.0.0.1:{b.port}"[:9] + ":1", **given)
        assert "bravo" in await agent.bad("loopsy_send_message", to="brava", body="hello")

    as_agent(a, talk, b)


def test_wrong_types_and_unknown_arguments(pair: Pair) -> None:
    a, b = pair

    async def talk(agent: Agent) -> None:
        assert "command: field required" in await agent.bad("loopsy_execute")
        assert "args: input should be a valid list" in await agent.bad("loopsy_execute", command="ls", args="-l")
        assert "there is no argument peerName" in await agent.bad("loopsy_execute", command="ls", peerName="bravo")
        assert "There are: loopsy_list_peers" in await agent.bad("loopsy_shell", command="ls")
        assert await agent.good("loopsy_list_peers")

    as_agent(a, talk, b)


def test_lines_that_are_no_requests_end_nothing(pair: Pair) -> None:
    a, _ = pair
    hello = {
        "jsonrpc": "2.0", "id": 1, "method": "initialize",
        "params": {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}},
    }  # fmt: skip
    lines = [b"nonsense", b"\xff\xfe", b"[]", b'{"jsonrpc":"2.0"}', json.dumps(hello).encode()]
    process = subprocess.Popen(
        [sys.executable, *SERVE],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=a.environment,
        stderr=subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(b"\n".join(lines) + b"\n")
    process.stdin.flush()
    answer = next(found for found in map(json.loads, process.stdout) if found.get("id") == 1)
    assert answer["result"]["serverInfo"]["name"] == "loopsy"
    _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, err
    assert b"Traceback" not in err


def test_five_megabytes_are_cut_and_saved(pair: Pair) -> None:
    a, b = pair
    value = "x" * 1_000_000

    async def talk(agent: Agent) -> Path:
        shown = await agent.good("loopsy_execute", command="seq", args=["760000"], peer="bravo")
        assert shown["stdoutBytes"] > 5_000_000
        assert shown["stdout"].startswith("1\n2\n")
        assert shown["stdout"].endswith("\n759999\n760000\n")
        whole = Path(shown["stdoutFile"])
        assert whole.read_text() == "".join(f"{n}\n" for n in range(1, 760_001))
        assert whole.stat().st_mode & 0o077 == 0
        await agent.good("loopsy_context_set", key="large", value=value, peer="bravo")
        seen, offset = "", 0
        while offset is not None:
            part = await agent.good("loopsy_context_get", key="large", peer="bravo", offset=offset)
            seen, offset = seen + part["value"], part.get("nextOffset")
        assert seen == value
        await agent.good("loopsy_context_delete", key="large", peer="bravo")
        return whole

    whole = as_agent(a, talk, b)
    until(lambda: not whole.parent.exists(), "the end of the files when the server ends")


def test_binary_output(pair: Pair) -> None:
    a, b = pair

    async def talk(agent: Agent) -> None:
        command = {"command": "printf", "args": [r"\000\377\033[31mred\001\n"], "peer": "bravo"}
        shown = await agent.good("loopsy_execute", **command)
        assert shown["stdout"] == "\ufffd\ufffdred\ufffd\n"
        assert "base64" in shown["notes"][0]
        exact = await agent.good("loopsy_execute", encoding="base64", **command)
        assert b64decode(exact["stdout"]) == b"\x00\xff\x1b[31mred\x01\n"

    as_agent(a, talk, b)


def test_keys_in_a_command_s_output_are_left_out(pair: Pair) -> None:
    a, b = pair

    async def talk(agent: Agent) -> None:
        shown = await agent.good("loopsy_execute", command="sed", args=["-n", "/^auth/,/^rate/p", str(a.layout.config)])
        assert shown["stdout"].count("[a loopsy key, left out]") == 3
        with pytest.raises(AssertionError):
            agent.harmless(a.layout.config.read_text())

    as_agent(a, talk, b)


# -- commands that don't end ------------------------------------------------------------------------------------------
@pytest.mark.parametrize("peer", [None, "bravo"])
def test_a_cancelled_command_is_gone_with_all_it_started(pair: Pair, peer: str | None, tmp_path: Path) -> None:
    a, b = pair
    pids = tmp_path / "pids"
    given = {"command": "sh", "args": ["-c", STUBBORN, str(pids)], **({"peer": peer} if peer else {})}

    async def talk(agent: Agent) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(lambda: agent.result("loopsy_execute", **given))
            await anyio.to_thread.run_sync(until, lambda: both_started(pids))
            group.cancel_scope.cancel()
        await anyio.to_thread.run_sync(until, lambda: not alive(pids), "the end of the processes")
        assert (await agent.good("loopsy_execute", command="echo", args=["on"]))["stdout"] == "on\n"

    as_agent(a, talk, b)
    until(lambda: (b if peer else a).ask("GET", "/execute/jobs").body == {"jobs": []})


@pytest.mark.parametrize("how", ["stdin ends", "TERM", "KILL"])
def test_a_command_ends_with_its_agent(pair: Pair, how: str, tmp_path: Path) -> None:
    a, _ = pair
    pids = tmp_path / "pids"
    process = subprocess.Popen(
        [sys.executable, *SERVE],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=a.environment,
        stderr=subprocess.PIPE,
    )
    assert process.stdin is not None
    hello = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
    run = {
        "name": "loopsy_execute",
        "arguments": {"command": "sh", "args": ["-c", STUBBORN, str(pids)], "peer": "bravo"},
    }
    for message in (
        {"id": 1, "method": "initialize", "params": hello},
        {"method": "notifications/initialized"},
        {"id": 2, "method": "tools/call", "params": run},
    ):
        process.stdin.write(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")
        process.stdin.flush()
    until(lambda: both_started(pids))
    if how == "TERM":
        process.terminate()
    elif how == "KILL":
        process.kill()
    process.communicate(timeout=PATIENCE_S)
    until(lambda: not alive(pids), "the end of the processes")


def test_progress_comes_while_a_command_runs(pair: Pair, tmp_path: Path) -> None:
    a, b = pair
    seen: list[tuple[float, float | None, str | None]] = []

    async def note(*progress: Any) -> None:
        seen.append(progress)
        if len(seen) > 1 and "8 bytes in 2 lines" in str(progress[2]):
            (tmp_path / "seen").touch()

    async def talk(agent: Agent) -> None:
        script = f"echo one; echo two; until test -e {tmp_path}/seen; do sleep 0.1; done"
        with anyio.fail_after(PATIENCE_S):
            await agent.result("loopsy_execute", note, command="sh", args=["-c", script], peer="bravo")

    as_agent(a, talk, b)
    assert [step[0] for step in seen] == sorted({step[0] for step in seen})


def test_many_calls_at_once(pair: Pair) -> None:
    a, b = pair

    async def talk(agent: Agent) -> None:
        said: dict[int, str] = {}

        async def one(number: int) -> None:
            shown = await agent.good("loopsy_execute", command="echo", args=[str(number)], peer="bravo")
            said[number] = shown["stdout"]

        for _ in range(3):
            async with anyio.create_task_group() as group:
                for number in range(8):
                    group.start_soon(one, number)
            assert said == {number: f"{number}\n" for number in range(8)}

    as_agent(a, talk, b)


# -- daemons that come and go -----------------------------------------------------------------------------------------
def test_the_daemon_may_start_later_restart_and_die(make_node: Callable[..., Node], tmp_path: Path) -> None:
    a, b = make_node("alfa"), make_node("bravo")
    keyed_pair(a, b)
    pids = tmp_path / "pids"

    async def talk(agent: Agent) -> None:
        run = anyio.to_thread.run_sync
        assert "loopsy start" in await agent.bad("loopsy_list_peers")
        await run(a.start)
        assert "Is that machine on" in await agent.bad("loopsy_execute", command="true", peer="bravo")
        shown = await agent.good("loopsy_peer_status", peer="bravo")
        assert shown["status"] == "offline"
        queued = await agent.good("loopsy_send_message", to="bravo", body="for later")
        assert queued["messages"][0]["state"] == "queued"
        await run(b.start)
        assert (await agent.good("loopsy_execute", command="echo", args=["1"], peer="bravo"))["stdout"] == "1\n"

        await run(a.stop)
        await run(a.start)
        assert (await agent.good("loopsy_execute", command="echo", args=["2"], peer="bravo"))["stdout"] == "2\n"

        said: list[str] = []

        async def long_run() -> None:
            given = {"command": "sh", "args": ["-c", STUBBORN, str(pids)], "peer": "bravo"}
            said.append(await agent.bad("loopsy_execute", **given))

        async with anyio.create_task_group() as group:
            group.start_soon(long_run)
            await run(until, lambda: both_started(pids))
            await run(a.kill)
        assert "how it ended is not known" in said[0]
        await run(until, lambda: not alive(pids), "the end of the processes on the peer")
        assert "loopsy start" in await agent.bad("loopsy_list_peers")

        await run(a.stop)
        a.key = "another-key-" + "0" * 32
        keyed_pair(a, b)
        await run(b.stop)
        await run(b.start)
        await run(a.start)
        assert (await agent.good("loopsy_execute", command="echo", args=["3"], peer="bravo"))["stdout"] == "3\n"

    as_agent(a, talk, b)


def test_without_a_configuration_it_says_how_to_make_one(tmp_path: Path) -> None:
    node = Node(tmp_path / "alfa", "alfa")
    node.write_config()
    node.layout.config.rename(tmp_path / "aside")

    async def main() -> str:
        server = StdioServerParameters(command=sys.executable, args=list(SERVE), env=node.environment)
        async with Client(stdio_client(server)) as client:
            result = await client.call_tool("loopsy_list_peers", {})
            return str(result.content[0].text)  # type: ignore[union-attr]

    assert "loopsy init" in anyio.run(main)


def test_the_server_ends_with_its_client_and_leaves_nothing(pair: Pair) -> None:
    a, _ = pair
    before = {child.pid for child in psutil.Process().children(recursive=True)}

    async def talk(agent: Agent) -> None:
        await agent.good("loopsy_list_peers")

    as_agent(a, talk)
    until(lambda: {child.pid for child in psutil.Process().children(recursive=True)} <= before, "its end")
