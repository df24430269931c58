"""A daemon with nothing to do, beside a ``twistd web`` with nothing to do."""

from __future__ import annotations

import time
from collections.abc import Iterator

from bench.measure import Pairs, memory_kib, ms
from bench.rig import Rig, Served, end
from bench.table import Result, at_most

ROUNDS = 7
SETTLE_S = 1.0


def idle(rig: Rig) -> Iterator[Result]:
    """Memory, and the time from spawn to the first answer."""
    starts: tuple[list[float], list[float]] = ([], [])
    memories: tuple[list[float], list[float]] = ([], [])
    for number in range(ROUNDS + 1):
        for side, served in enumerate((rig.daemon(f"idle{number}"), rig.twistd_web())):
            start_s, megabytes = figures(served)
            if number:  # the first round fills Python's and the kernel's caches
                starts[side].append(start_s)
                memories[side].append(megabytes)
    memory, start = Pairs(*memories), Pairs(*starts)
    yield Result(
        row="idle daemon, memory : idle twistd web",
        measured=f"{sorted(memory.ours)[ROUNDS // 2]:.1f} MB",
        yardstick=f"{sorted(memory.theirs)[ROUNDS // 2]:.1f} MB",
        value=memory.ratio,
        goal=at_most(1.35),
        older="77 MB",
        remarks=memory.spread,
    )
    yield Result(
        row="start to first answer : twistd web",
        measured=ms(start.ours),
        yardstick=ms(start.theirs),
        value=start.ratio,
        goal=at_most(2),
        remarks=start.spread,
    )


def figures(served: Served) -> tuple[float, float]:
    """Seconds it took to start, and MB it holds once settled; it is ended then."""
    time.sleep(SETTLE_S)
    megabytes = memory_kib(served.pid, "VmRSS") * 1024 / 1e6
    end(served.process)
    return served.start_s, megabytes
