"""AI tasks: what the daemon puts between an agent and its reader, and many events."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from bench.measure import Pairs, in_turns, memory_kib, ms, peak_growth, reset_peak
from bench.raw import TIMEOUT_S
from bench.rig import Daemon, Rig
from bench.table import BenchError, Result, at_most
from loopsy.testing import fake_agent
from loopsy.testing.agents import Unavailable, real_agent
from loopsy.testing.model_api import ModelApi, say, scenario

ROUNDS, MANY = 11, 50_000
WORDS = ("-p", "--input-format", "stream-json", "--output-format", "stream-json", "--verbose",
         "--permission-prompt-tool", "stdio", "--permission-mode", "default")  # fmt: skip
PROMPT = "say hello"


def tasks(rig: Rig) -> Iterator[Result]:
    """From dispatch to an agent's first event, beside the bare CLI; 50,000 events through the gateway."""
    with ExitStack() as stack:
        try:
            api = stack.enter_context(ModelApi(scenario(say("hello"))))
            agent = stack.enter_context(real_agent("claude", api.url))
            environment, what = agent.environment, "Claude Code"
        except Unavailable:
            path = f"{fake_agent.install(rig.root / 'agents')}{os.pathsep}{rig.env['PATH']}"
            environment, what = {**rig.env, "PATH": path}, "the stand-in agent (Claude Code isn't here)"
        rig.env.update(environment)
        daemon = rig.daemon("first")
        work = Path(environment["HOME"])
        ours, bare = in_turns(ROUNDS, lambda: dispatched(daemon, work), lambda: bare_first(environment, work))
    pairs = Pairs(ours, bare)
    yield Result(
        row="task: from dispatch to the agent's first event", measured=ms(ours), yardstick=ms(bare),
        value=pairs.ratio, goal=at_most(1.15), older="–",
        remarks=f"{pairs.spread}; {what}, over SSE, on disk before it is told; beside the CLI's own first line",
    )  # fmt: skip
    yield many(rig)


def dispatched(daemon: Daemon, work: Path) -> float:
    """Seconds from before the POST until the agent's first event has been read."""
    begin = time.perf_counter()
    task = daemon.ask("POST", "/ai-tasks", {"prompt": PROMPT, "cwd": str(work)})["taskId"]
    for event in streamed(daemon, f"/ai-tasks/{task}/stream"):
        if event["type"] == "system":
            taken = time.perf_counter() - begin
            break
    else:
        raise BenchError("the agent never came up")
    while daemon.ask("GET", f"/ai-tasks/{task}")["status"] not in ("completed", "failed"):
        time.sleep(0.02)
    return taken


def bare_first(environment: Mapping[str, str], work: Path) -> float:
    """Seconds from the start of the CLI itself to its first line."""
    message = {"type": "user", "message": {"role": "user", "content": [{"type": "text", "text": PROMPT}]}}
    command = command_of(environment)
    begin = time.perf_counter()
    process = subprocess.Popen(
        [command, *WORDS], env=dict(environment), cwd=work, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps(message).encode() + b"\n")
    process.stdin.flush()
    process.stdout.readline()
    taken = time.perf_counter() - begin
    while line := process.stdout.readline():
        if b'"type":"result"' in line.replace(b" ", b""):
            process.stdin.close()
    process.wait(TIMEOUT_S)
    return taken


def command_of(environment: Mapping[str, str]) -> str:
    """Where ``claude`` lies."""
    places: Sequence[str] = environment["PATH"].split(os.pathsep)
    return next(found for place in places if os.path.exists(found := os.path.join(place, "claude")))


def many(rig: Rig) -> Result:
    """50,000 events from an agent that says them as fast as it can, read through the gateway."""
    path = f"{fake_agent.install(rig.root / 'stand-in')}{os.pathsep}{rig.env['PATH']}"
    rig.env.update(PATH=path, HOME=str(rig.root / "home"))
    here, there = rig.pair()
    path = f"/peers/{there.name}/ai-tasks"
    flooded(here, path, MANY // 10)
    idle = [memory_kib(daemon.pid, "VmRSS") for daemon in (here, there)]
    for daemon in (here, there):
        reset_peak(daemon.pid)
    begin = time.perf_counter()
    flooded(here, path, MANY)
    taken = time.perf_counter() - begin
    grown = max(peak_growth(daemon.pid, was) for daemon, was in zip((here, there), idle, strict=True))
    return Result(
        row="50,000 task events through the gateway: memory", measured=f"{grown:.0f} MB", yardstick="flat",
        value=grown, goal=at_most(32, "MB"), older="keeps 500",
        remarks=f"the larger growth of the two daemons; {MANY / taken:,.0f} events/s from agent to reader, each on disk"
        " first; none lost",
    )  # fmt: skip


def flooded(daemon: Daemon, path: str, count: int) -> None:
    """One task that says so much, read to its end."""
    task = daemon.ask("POST", path, {"prompt": f"flood {count}\ndone"})["taskId"]
    said, last = 0, 0
    for event in streamed(daemon, f"{path}/{task}/stream"):
        if event["seq"] != last + 1:
            raise BenchError(f"event {event['seq']} came after {last}")
        last, said = event["seq"], said + (event["type"] == "text")
    if said != count:
        raise BenchError(f"{said} of {count} texts came")


def streamed(daemon: Daemon, path: str) -> Iterator[dict[str, object]]:
    """The events of a stream."""
    with socket.create_connection(("127.0.0.1", daemon.port), TIMEOUT_S) as connection:
        connection.sendall(daemon.head("GET", path, accept="text/event-stream"))
        with connection.makefile("rb") as lines:
            if b" 200 " not in lines.readline():
                raise BenchError(f"{path} was refused")
            for line in lines:
                if line.startswith(b"data: "):
                    yield json.loads(line[6:])
