"""A daemon with nothing to do, beside a ``twistd web`` with nothing to do."""

from __future__ import annotations

import time
from collections.abc import Iterator
from statistics import median

from bench.measure import Pairs, memory_kib, ms
from bench.rig import Rig, Served, end
from bench.table import Result, at_most

ROUNDS = 7
SETTLE_S = 3.0
"""Until a daemon is announced on the LAN, and has loaded what that takes."""


def idle(rig: Rig) -> Iterator[Result]:
    """Memory, without discovery and what that adds, and the time from spawn to the first answer."""
    starts: tuple[list[float], list[float], list[float]] = ([], [], [])
    memories: tuple[list[float], list[float], list[float]] = ([], [], [])
    for number in range(ROUNDS + 1):
        quiet, found = rig.daemon(f"quiet{number}"), rig.daemon(f"found{number}", discovery=True)
        for side, served in enumerate((quiet, found, rig.twistd_web())):
            start_s, megabytes = figures(served)
            if number:  # the first round fills Python's and the kernel's caches
                starts[side].append(start_s)
                memories[side].append(megabytes)
    without, with_it, theirs = memories
    memory, start = Pairs(without, theirs), Pairs(starts[1], starts[2])
    yield Result(
        row="idle daemon, memory : idle twistd web",
        measured=f"{median(without):.1f} MB",
        yardstick=f"{median(theirs):.1f} MB",
        value=memory.ratio,
        goal=at_most(1.35),
        older="77 MB",
        remarks=f"{memory.spread}; discovery off",
    )
    yield Result(
        row="discovery adds, announced on loopback",
        measured=f"{median(with_it):.1f} MB",
        yardstick=f"{median(without):.1f} MB",
        value=median(with_it) - median(without),
        goal=at_most(10, "MB"),
        remarks="zeroconf, its thread, psutil",
    )
    yield Result(
        row="start to first answer : twistd web",
        measured=ms(start.ours),
        yardstick=ms(start.theirs),
        value=start.ratio,
        goal=at_most(2),
        remarks=f"{start.spread}; discovery on",
    )


def figures(served: Served) -> tuple[float, float]:
    """Seconds it took to start, and MB it holds once settled; it is ended then."""
    time.sleep(SETTLE_S)
    megabytes = memory_kib(served.pid, "VmRSS") * 1024 / 1e6
    end(served.process)
    return served.start_s, megabytes
