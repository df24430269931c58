"""Whole processes: ``loopsy exec`` and ``loopsy status`` beside ssh and beside Python's own start."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from statistics import median

from bench.measure import Pairs, in_turns, ms, process_time
from bench.rig import Rig
from bench.table import Result, at_most

ROUNDS = 25


def exec_true(rig: Rig) -> Iterator[Result]:
    """``loopsy exec B true`` with a warm peer."""
    ssh = rig.sshd()
    here, there = rig.pair()
    ours, fresh, start, master = taken(
        rig,
        rig.loopsy(here, "exec", there.name, "true"),
        ssh.command("true"),
        [sys.executable, "-c", "pass"],
        ssh.master_command("true"),
    )
    pairs = Pairs(ours, fresh)
    through_master = Pairs(ours, master)
    yield Result(
        row="loopsy exec B true : fresh ssh",
        measured=ms(ours),
        yardstick=ms(fresh),
        value=pairs.ratio,
        goal=at_most(0.35),
        older="1.2 ×",
        remarks=f"{pairs.spread}; ControlMaster {ms(master)}: {through_master.ratio:.3g} × of that",
    )
    pairs = Pairs(ours, start)
    yield Result(
        row="loopsy exec B true : python -c pass",
        measured=ms(ours),
        yardstick=ms(start),
        value=pairs.ratio,
        goal=at_most(5),
        remarks=pairs.spread,
    )


def status(rig: Rig) -> Iterator[Result]:
    """``loopsy status``."""
    ssh = rig.sshd()
    here, _ = rig.pair()
    ours, client, fresh = taken(
        rig,
        rig.loopsy(here, "status"),
        [sys.executable, "-c", "import http.client"],
        ssh.command("true"),
    )
    pairs = Pairs(ours, client)
    yield Result(
        row="loopsy status : python -c 'import http.client'",
        measured=ms(ours),
        yardstick=ms(client),
        value=pairs.ratio,
        goal=at_most(2),
        older="1.2 × fresh ssh",
        remarks=f"{pairs.spread}; {Pairs(ours, fresh).ratio:.2g} × a fresh ssh ({median(fresh) * 1000:.0f} ms)",
    )


def taken(rig: Rig, *commands: Sequence[str]) -> list[list[float]]:
    """Seconds of each command, in turns."""
    return in_turns(ROUNDS, *((lambda argv=argv: process_time(argv, rig.env)) for argv in commands))
