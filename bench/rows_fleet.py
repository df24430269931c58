"""A fleet of daemons on one machine: a command on all of them, and what they take with nothing to do."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence

from bench.measure import Pairs, cpu_seconds, in_turns, memory_kib, ms, process_time
from bench.rig import PAIR_KEY, Daemon, Rig
from bench.table import Result, at_most

FLEET = 20
ROUNDS = 15
SETTLE_S = 40.0
"""Until all have found and introduced themselves, and caches are filled: two rounds of probes and more."""
IDLE_S = float(os.environ.get("LOOPSY_BENCH_IDLE_S", "60"))


def many(rig: Rig) -> Iterator[Result]:
    """``loopsy exec --all true`` on 20 daemons."""
    here, there = fleet(rig)
    ours, one = in_turns(
        ROUNDS,
        lambda: process_time(rig.loopsy(here, "exec", "--all", "--forks", str(FLEET), "true"), rig.env),
        lambda: process_time(rig.loopsy(here, "exec", there[0].name, "true"), rig.env),
    )
    pairs = Pairs(ours, one)
    yield Result(
        row=f"loopsy exec --all true, {FLEET} peers : exec on one",
        measured=ms(ours),
        yardstick=ms(one),
        value=pairs.ratio,
        goal=at_most(3),
        remarks=pairs.spread,
    )


def idle_fleet(rig: Rig) -> Iterator[Result]:
    """20 daemons with nothing to do, each of which looks after all the others."""
    daemons = [rig.daemon(f"idle{number:02d}") for number in range(FLEET)]
    for daemon in daemons:
        for other in daemons:
            if other is not daemon:
                place = {"address": "127.0.0.1", "port": other.port, "hostname": other.name}
                daemon.ask("POST", "/peers", place)
    time.sleep(SETTLE_S)
    cpu, memory = taken(daemons)
    begin = time.monotonic()
    time.sleep(IDLE_S)
    later, memory_later = taken(daemons)
    share = (later - cpu) / (time.monotonic() - begin) / FLEET * 100
    online = min(daemon.ask("GET", "/status")["peers"]["online"] for daemon in daemons)
    yield Result(
        row=f"{FLEET} idle daemons that watch each other, of a core, each",
        measured=f"{share:.2f} %",
        value=share,
        goal=at_most(1, "%"),
        remarks=f"{IDLE_S:g} s; each saw at least {online} of {FLEET - 1} online",
    )
    growth = (memory_later - memory) / FLEET
    yield Result(
        row="what an idle daemon's memory grew meanwhile",
        measured=f"{growth:.2f} MB",
        value=growth,
        goal=at_most(1, "MB"),
        remarks=f"from {memory / FLEET:.1f} MB, mean of {FLEET}",
    )


def taken(daemons: Sequence[Daemon]) -> tuple[float, float]:
    """CPU seconds and MB of all together."""
    memory = sum(memory_kib(daemon.pid, "VmRSS") for daemon in daemons) * 1024 / 1e6
    return sum(cpu_seconds(daemon.pid) for daemon in daemons), memory


def fleet(rig: Rig) -> tuple[Daemon, list[Daemon]]:
    """One that is paired with all the others, its connections to them warm."""
    there = [rig.daemon(f"fleet{number:02d}", known=[("chief", PAIR_KEY)]) for number in range(FLEET)]
    here = rig.daemon("chief", peers=there)
    for daemon in there:
        here.ask("POST", f"/peers/{daemon.name}/execute", {"command": "true"})
    return here, there
