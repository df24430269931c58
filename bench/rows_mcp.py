"""The agents' bridge: its start beside a bare MCP server, and a tool call beside the same request without it."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from statistics import median
from typing import Any

from bench.measure import Pairs, in_turns, memory_kib, ms
from bench.rig import Daemon, Rig
from bench.table import BenchError, Result, at_most

STARTS, CALLS = 15, 300
HELLO = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "bench", "version": "1"}}


class Session:
    """An MCP server as a child, spoken to in lines of JSON."""

    def __init__(self, argv: Sequence[str], env: Mapping[str, str]) -> None:
        self.process = subprocess.Popen(
            argv, env=dict(env), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        self._number = 0
        self.ask("initialize", HELLO)
        self._send({"method": "notifications/initialized"})

    def _send(self, message: Mapping[str, Any]) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")
        self.process.stdin.flush()

    def ask(self, method: str, params: Mapping[str, Any]) -> Any:
        """One request's result.

        :raises BenchError: there is none.
        """
        assert self.process.stdout is not None
        self._number += 1
        self._send({"id": self._number, "method": method, "params": params})
        for line in self.process.stdout:
            answer = json.loads(line)
            if answer.get("id") == self._number:
                return answer["result"]
        raise BenchError("the server ended without an answer")

    def call(self, name: str, **arguments: Any) -> float:
        """Seconds that a tool takes.

        :raises BenchError: it failed.
        """
        begin = time.perf_counter()
        result = self.ask("tools/call", {"name": name, "arguments": arguments})
        taken = time.perf_counter() - begin
        if result.get("isError"):
            raise BenchError(f"{name}: {result['content'][0]['text'][:200]}")
        return taken

    def close(self) -> None:
        """End it by the end of its input."""
        self.process.communicate()


def started(argv: Sequence[str], env: Mapping[str, str]) -> float:
    """Seconds from spawn until the client knows the tools, which is when an agent can begin."""
    begin = time.perf_counter()
    session = Session(argv, env)
    session.ask("tools/list", {})
    taken = time.perf_counter() - begin
    session.close()
    return taken


def bridge(rig: Rig) -> Iterator[Result]:
    """``loopsy mcp serve``: start, tool calls, memory."""
    here, there = rig.pair()
    ours, bare = rig.loopsy(here, "mcp", "serve"), [sys.executable, "-m", "bench.bare_mcp"]
    starts, bares = in_turns(STARTS, lambda: started(ours, rig.env), lambda: started(bare, rig.env))
    pairs = Pairs(starts, bares)
    yield Result(
        row="loopsy mcp serve, start until its tools are known : a bare mcp server",
        measured=ms(starts),
        yardstick=ms(bares),
        value=pairs.ratio,
        goal=at_most(1.2),
        remarks=pairs.spread,
    )
    yield from calls(rig, ours, here, there)


def calls(rig: Rig, ours: Sequence[str], here: Daemon, there: Daemon) -> Iterator[Result]:
    """Tools beside the request that they make."""
    here.ask("PUT", "/context/k", {"value": "v" * 100})
    session = Session(ours, rig.env)
    try:
        yield beside(
            "a value of this machine",
            lambda: session.call("loopsy_context_get", key="k"),
            asking(here, "GET", "/context/k"),
        )
        yield beside(
            "`true` on the peer",
            lambda: session.call("loopsy_execute", command="true", peer=there.name),
            asking(here, "POST", f"/peers/{there.name}/execute", {"command": "true"}),
        )
        memory = memory_kib(session.process.pid, "VmRSS") * 1024 / 1e6
    finally:
        session.close()
    bare = Session([sys.executable, "-m", "bench.bare_mcp"], rig.env)
    idle = memory_kib(bare.process.pid, "VmRSS") * 1024 / 1e6
    bare.close()
    yield Result(
        row="memory of loopsy mcp serve after that : a bare mcp server's",
        measured=f"{memory:.1f} MB",
        yardstick=f"{idle:.1f} MB",
        value=memory / idle,
        goal=at_most(1.3),
    )


def asking(daemon: Daemon, method: str, path: str, body: Mapping[str, Any] | None = None) -> Callable[[], float]:
    """The same request by http.client, on a connection that is kept."""
    connection = http.client.HTTPConnection("127.0.0.1", daemon.port)
    headers = {"authorization": f"Bearer {daemon.key}", "content-type": "application/json"}
    data = None if body is None else json.dumps(body)

    def ask() -> float:
        begin = time.perf_counter()
        connection.request(method, f"/api/v1{path}", data, headers)
        response = connection.getresponse()
        response.read()
        if response.status >= 400:
            raise BenchError(f"{method} {path}: {response.status}")
        return time.perf_counter() - begin

    return ask


def beside(what: str, tool: Callable[[], float], request: Callable[[], float]) -> Result:
    """How much longer it takes."""
    ours, theirs = in_turns(CALLS, tool, request)
    more = sorted((a - b) * 1000 for a, b in zip(ours, theirs, strict=True))
    quarter, last = len(more) // 4, more[-len(more) // 100]
    return Result(
        row=f"tool call, {what} : http.client",
        measured=ms(ours),
        yardstick=ms(theirs),
        value=median(more),
        goal=at_most(10, "ms more"),
        remarks=f"n={len(more)}, {more[quarter]:.3g}–{more[-1 - quarter]:.3g}; p99 {last:.3g}",
    )
