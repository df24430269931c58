"""Requests a second: reading and writing context, running ``true``."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from statistics import median

from bench import wrk
from bench.measure import Pairs, in_turns
from bench.probe import latencies
from bench.rig import Daemon, Rig
from bench.table import Result, at_least, at_most

ENTRY = {"value": "x" * 100}
LARGE = "x" * 100_000
READERS, WRITERS, RUNNERS = 32, 8, 8
GET_ROUNDS, PUT_ROUNDS, RUN_ROUNDS, PROBE_ROUNDS = 7, 7, 7, 4
SPELL_S = 2
"""Of each measurement: long enough for some thousand answers, short enough that both of a pair see the same noise."""
PROBE_S = 3


def context_get(rig: Rig) -> Iterator[Result]:
    """GET /context/k from 32 connections, audit on, beside a bare Resource that answers as many bytes."""
    daemon = rig.daemon("reads")
    daemon.ask("PUT", "/context/k", ENTRY)
    entry = daemon.ask("GET", "/context/k")
    bare = rig.bare(len(json.dumps(entry, separators=(",", ":"))))
    ours, theirs = in_turns(
        GET_ROUNDS,
        lambda: wrk.rate(daemon.port, "/api/v1/context/k", connections=READERS, seconds=SPELL_S, key=daemon.key),
        lambda: wrk.rate(bare.port, "/", connections=READERS, seconds=SPELL_S),
    )
    pairs = Pairs(ours, theirs)
    yield Result(
        row="GET /context/k : bare Resource",
        measured=per_second(ours),
        yardstick=per_second(theirs),
        value=pairs.ratio,
        goal=at_least(0.6),
        older="16,800/s, 0.8 ×",
        remarks=f"{pairs.spread}; aim 0.8",
    )


def context_put(rig: Rig) -> Iterator[Result]:
    """PUT of 100 bytes, on disk when answered: with much stored, beside a daemon that holds one entry."""
    one, many, large = rig.daemon("one"), rig.daemon("many"), rig.daemon("large")
    for number in range(1000):
        many.ask("PUT", f"/context/k{number}", ENTRY)
    for number in range(200):
        large.ask("PUT", f"/context/large{number}", {"value": LARGE})
    rates = in_turns(
        PUT_ROUNDS,
        lambda: put_rate(rig, one, 1),
        lambda: put_rate(rig, many, 1000),
        lambda: put_rate(rig, large, 1),
    )
    baseline = rates[0]
    for label, ours, older in (
        ("1000 × 100 B stored", rates[1], "0.34 ×"),
        ("200 × 100 kB stored", rates[2], "0.01 ×"),
    ):
        pairs = Pairs(ours, baseline)
        yield Result(
            row=f"PUT 100 B, {label} : one entry",
            measured=per_second(ours),
            yardstick=per_second(baseline),
            value=pairs.ratio,
            goal=at_least(0.8),
            older=older,
            remarks=f"{pairs.spread}; {WRITERS} connections, in turn over all small keys",
        )


def put_rate(rig: Rig, daemon: Daemon, keys: int) -> float:
    """PUTs a second to k0 … k<keys - 1> in turn."""
    prefix = "/api/v1/context/k"
    script = wrk.json_script(rig.root / f"put{keys}.lua", "PUT", json.dumps(ENTRY), {prefix: keys})
    return wrk.rate(daemon.port, "/", connections=WRITERS, seconds=SPELL_S, script=script, key=daemon.key)


def execute(rig: Rig) -> Iterator[Result]:
    """POST /execute ``true`` from 8 connections, and what a GET /health feels of it."""
    daemon = rig.daemon("runs")
    script = wrk.json_script(rig.root / "true.lua", "POST", json.dumps({"command": "true"}))
    ours, theirs = in_turns(
        RUN_ROUNDS,
        lambda: wrk.rate(
            daemon.port, "/api/v1/execute", connections=RUNNERS, seconds=SPELL_S, script=script, key=daemon.key
        ),
        lambda: spawn_rate(rig),
    )
    pairs = Pairs(ours, theirs)
    yield Result(
        row="POST /execute true : posix_spawn + wait, 8 threads",
        measured=per_second(ours),
        yardstick=per_second(theirs),
        value=pairs.ratio,
        goal=at_least(0.4),
        older="470/s, 0.3 ×",
        remarks=pairs.spread,
    )
    argv = wrk.command(daemon.port, "/api/v1/execute", RUNNERS, PROBE_S + 1, script, daemon.key)
    yield health_meanwhile(rig, daemon, argv)


def health_meanwhile(rig: Rig, daemon: Daemon, load: list[str]) -> Result:
    """GET /health, 200 a second on one connection, idle and under that load. A bare server meanwhile is the noise."""
    bare = rig.bare(80)

    def loaded(port: int, path: str) -> float:
        process = subprocess.Popen(load, stdout=subprocess.DEVNULL)
        try:
            time.sleep(0.5)
            return latencies(port, path, PROBE_S).p99
        finally:
            process.terminate()
            process.wait()

    idle, busy, beside = in_turns(
        PROBE_ROUNDS,
        lambda: latencies(daemon.port, "/api/v1/health", PROBE_S).p99,
        lambda: loaded(daemon.port, "/api/v1/health"),
        lambda: loaded(bare.port, "/"),
    )
    pairs = Pairs(busy, idle)
    return Result(
        row="GET /health p99 meanwhile : idle p99",
        measured=f"{median(busy) * 1000:.2g} ms",
        yardstick=f"{median(idle) * 1000:.2g} ms",
        value=pairs.ratio,
        goal=at_most(5),
        remarks=f"{pairs.spread}; an idle bare server's p99 beside the same load: {median(beside) * 1000:.2g} ms",
    )


def spawn_rate(rig: Rig) -> float:
    """What 8 threads of Python reach."""
    argv = [sys.executable, "-m", "bench.spawns", str(RUNNERS), str(SPELL_S)]
    return float(subprocess.run(argv, env=rig.env, check=True, capture_output=True, timeout=60).stdout)


def per_second(rates: list[float]) -> str:
    """The median."""
    return f"{median(rates):,.0f}/s"
