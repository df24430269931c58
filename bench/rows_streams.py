"""Much output: how fast it comes, and what it costs the daemons in memory."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bench.measure import Pairs, in_turns, memory_kib, ms, peak_growth, process_time, reset_peak
from bench.raw import ask, read, read_slowly
from bench.rig import Daemon, Rig
from bench.table import BenchError, Result, at_least, at_most

OUTPUT = 200_000_000
COMMAND: Mapping[str, Any] = {"command": "head", "args": ["-c", str(OUTPUT), "/dev/zero"]}
FRAMES = "application/vnd.loopsy.frames"
ROUNDS = 7
SLOW_BYTES, SLOW_S = 1_000_000, 10.0
CAP = 10 * 1024 * 1024
"""The daemon's default of execution.maxOutput."""
FLOOD = 600_000_000
OLDER_MEMORY = "480 MB, slow reader"


def output_speed(rig: Rig) -> Iterator[Result]:
    """200 MB of output, directly and through the gateway, beside ssh."""
    ssh = rig.sshd()
    here, there = rig.pair()
    printing = ssh.command("head", "-c", str(OUTPUT), "/dev/zero")
    direct, theirs, forwarded, again, hello = in_turns(
        ROUNDS,
        lambda: stream(there, ""),
        lambda: process_time(printing, rig.env),
        lambda: stream(here, f"/peers/{there.name}"),
        lambda: process_time(printing, rig.env),
        lambda: process_time(ssh.command("true"), rig.env),
    )
    for label, ours, rival, goal, older in (
        ("direct", direct, theirs, 1.0, "1.07 ×"),
        ("through the gateway", forwarded, again, 0.7, "–"),
    ):
        pairs = Pairs(rival, ours)
        bare = Pairs([whole - short for whole, short in zip(rival, hello, strict=True)], ours)
        yield Result(
            row=f"200 MB of output, {label} : ssh",
            measured=ms(ours),
            yardstick=ms(rival),
            value=pairs.ratio,
            goal=at_least(goal),
            older=older,
            remarks=f"{pairs.spread}; {bare.ratio:.2g} × ssh less its handshake ({ms(hello)})",
        )


def stream(daemon: Daemon, prefix: str) -> float:
    """Seconds for the whole output."""
    answer = read(daemon.port, asking(daemon, prefix, COMMAND))
    if answer.status != 200 or answer.body_bytes < OUTPUT or b'"exitCode":0' not in answer.tail:
        raise BenchError(f"status {answer.status}, {answer.body_bytes} bytes, end {answer.tail[-120:]!r}")
    return answer.seconds


def asking(daemon: Daemon, prefix: str, command: Mapping[str, Any]) -> bytes:
    """The request for a framed stream."""
    body = json.dumps(command).encode()
    return daemon.head("POST", f"{prefix}/execute/stream", len(body), FRAMES) + body


# -- memory -----------------------------------------------------------------------------------------------------------
def output_memory(rig: Rig) -> Iterator[Result]:
    """How much the daemons grow meanwhile, above idle."""
    here, there = rig.pair()
    time.sleep(1)
    idle = {daemon.pid: memory_kib(daemon.pid, "VmRSS") for daemon in (here, there)}
    for label, prefix, involved in (
        ("direct", "", [there]),
        ("through the gateway", f"/peers/{there.name}", [here, there]),
    ):
        door = involved[0]
        grown = growth(involved, idle, lambda door=door, prefix=prefix: stream(door, prefix))
        yield memory_row(f"memory for that, quick reader, {label}", grown, "the whole 200 MB")
        grown = growth(involved, idle, lambda door=door, prefix=prefix: slowly(door, prefix))
        yield memory_row(f"memory for that, 1 MB/s reader, {label}", grown, f"{SLOW_S:g} s of it")


def memory_row(label: str, grown: Sequence[float], remarks: str) -> Result:
    """The larger growth counts."""
    each = " and ".join(f"{mb:.1f} MB" for mb in grown)
    return Result(
        row=label, measured=each, value=max(grown), goal=at_most(20, "MB"), older=OLDER_MEMORY, remarks=remarks
    )


def growth(daemons: Sequence[Daemon], idle: Mapping[int, int], work: Any) -> list[float]:
    """MB by which each daemon's peak during ``work`` lies above its idle."""
    for daemon in daemons:
        reset_peak(daemon.pid)
    work()
    return [peak_growth(daemon.pid, idle[daemon.pid]) for daemon in daemons]


def slowly(daemon: Daemon, prefix: str) -> None:
    """Read it at 1 MB/s for a while."""
    size = read_slowly(daemon.port, asking(daemon, prefix, COMMAND), SLOW_BYTES, SLOW_S)
    if size < SLOW_BYTES * SLOW_S * 0.8:
        raise BenchError(f"only {size} bytes came in {SLOW_S:g} s")


def flood(rig: Rig) -> Iterator[Result]:
    """600 MB of output through ``/execute``, which answers in one piece: what is over the cap is thrown away."""
    for label, source in (("text", "yes 'some line of text'"), ("zero bytes, 6 as JSON each", "cat /dev/zero")):
        daemon = rig.daemon(f"flood{label[:4]}")
        daemon.ask("POST", "/execute", {"command": "true"})
        idle = memory_kib(daemon.pid, "VmRSS")
        reset_peak(daemon.pid)
        seconds, answer = flooded(daemon, source)
        grown = peak_growth(daemon.pid, idle)
        kept = len(answer["stdout"])
        if not answer["truncated"] or kept > CAP:
            raise BenchError(f"truncated: {answer['truncated']}, {kept} characters of {FLOOD} bytes came")
        daemon.ask("GET", "/health")
        yield Result(
            row=f"600 MB through /execute ({label}) : the cap",
            measured=f"{grown:.0f} MB",
            yardstick=f"{CAP / 1e6:.1f} MB",
            value=grown / (CAP / 1e6),
            goal=at_most(6 if label == "text" else 18),
            older="the daemon dies",
            remarks=f"flagged, {kept} characters kept, {seconds:.1f} s",
        )


def flooded(daemon: Daemon, source: str) -> tuple[float, Any]:
    """Seconds, and the answer."""
    command = {"command": "sh", "args": ["-c", f"{source} | head -c {FLOOD}"]}
    body = json.dumps(command).encode()
    begin = time.perf_counter()
    status, answer = ask(daemon.port, daemon.head("POST", "/execute", len(body)) + body)
    if status != 200:
        raise BenchError(f"status {status}: {answer[:200]!r}")
    return time.perf_counter() - begin, json.loads(answer)
