"""A fleet of sessions, beside one."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator

from bench.measure import Pairs, ms
from bench.rig import Daemon, Rig, end
from bench.table import Result, at_most
from loopsy.testing.nodes import free_port

ROUNDS = 5
FLEET = 5


def sessions(rig: Rig) -> Iterator[Result]:
    """Starting five new sessions at once, as a whole command, beside starting a new one."""
    fleets: list[float] = []
    ones: list[float] = []
    for number in range(ROUNDS + 1):
        main = rig.daemon(f"main{number}")
        try:
            one = timed(rig, main, "start", "solo", "--port", str(free_port()))
            fleet = timed(rig, main, "start-fleet", "--count", str(FLEET), "--port", str(free_port()))
        finally:
            run(rig, main, "stop-all")
            end(main.process)
        if number:  # the first round fills Python's and the kernel's caches
            ones.append(one)
            fleets.append(fleet)
    pairs = Pairs(fleets, ones)
    yield Result(
        row=f"session start-fleet of {FLEET} : session start of one",
        measured=ms(pairs.ours),
        yardstick=ms(pairs.theirs),
        value=pairs.ratio,
        goal=at_most(2),
        remarks=pairs.spread,
    )


def timed(rig: Rig, main: Daemon, *words: str) -> float:
    """Seconds that ``loopsy session …`` takes."""
    begun = time.perf_counter()
    run(rig, main, *words)
    return time.perf_counter() - begun


def run(rig: Rig, main: Daemon, *words: str) -> None:
    """``loopsy session …``, which must succeed."""
    subprocess.run(rig.loopsy(main, "session", *words), check=True, capture_output=True, timeout=120)
