"""A fleet of daemons on one machine: a command on all of them, and what they take with nothing to do."""

from __future__ import annotations

import time
from collections.abc import Iterator

from bench.measure import Pairs, in_turns, memory_kib, ms, process_time
from bench.rig import PAIR_KEY, Daemon, Rig
from bench.table import Result, at_most

FLEET = 20
ROUNDS = 15


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


def fleet(rig: Rig) -> tuple[Daemon, list[Daemon]]:
    """One that is paired with all the others, its connections to them warm."""
    there = [rig.daemon(f"fleet{number:02d}", known=[("chief", PAIR_KEY)]) for number in range(FLEET)]
    here = rig.daemon("chief", peers=there)
    for daemon in there:
        here.ask("POST", f"/peers/{daemon.name}/execute", {"command": "true"})
    return here, there
