"""Timing side by side: A B A B, then ratios pair by pair, so that what else the machine does hits both alike."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median

from attrs import frozen

from bench.table import BenchError


@frozen
class Pairs:
    """Figures taken in turns: ``ours[i]`` and ``theirs[i]`` within the same moments."""

    ours: Sequence[float]
    theirs: Sequence[float]

    @property
    def ratios(self) -> list[float]:
        """Pair by pair, in order of size."""
        return sorted(ours / theirs for ours, theirs in zip(self.ours, self.theirs, strict=True))

    @property
    def ratio(self) -> float:
        """The median of the ratios."""
        return median(self.ratios)

    @property
    def spread(self) -> str:
        """How many, and between which ratios the middle half of them lies."""
        ratios = self.ratios
        quarter = len(ratios) // 4
        return f"n={len(ratios)}, {ratios[quarter]:.3g}–{ratios[-1 - quarter]:.3g}"


def in_turns(rounds: int, *works: Callable[[], float]) -> list[list[float]]:
    """Call each in turn, ``rounds`` times over, after a round that doesn't count; the figures of each."""
    for work in works:
        work()
    figures: list[list[float]] = [[] for _ in works]
    for _ in range(rounds):
        for work, taken in zip(works, figures, strict=True):
            taken.append(work())
    return figures


def process_time(argv: Sequence[str], env: Mapping[str, str]) -> float:
    """Seconds from spawn to end of a process whose output goes to /dev/null.

    :raises BenchError: it failed.
    """
    actions = [(os.POSIX_SPAWN_OPEN, descriptor, os.devnull, os.O_RDWR, 0) for descriptor in (0, 1, 2)]
    begin = time.perf_counter()
    pid = os.posix_spawnp(argv[0], list(argv), env, file_actions=actions)
    try:
        _, status = os.waitpid(pid, 0)
    except BaseException:
        os.kill(pid, signal.SIGTERM)
        raise
    taken = time.perf_counter() - begin
    if status != 0:
        raise BenchError(f"{' '.join(argv)[:120]} failed, status {os.waitstatus_to_exitcode(status)}")
    return taken


def ms(seconds: Sequence[float]) -> str:
    """The median, in ms."""
    return f"{median(seconds) * 1000:.3g} ms"


def memory_kib(pid: int, field: str) -> int:
    """``VmRSS`` (now) or ``VmHWM`` (the peak since it was reset) of a process, in KiB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1])
    raise BenchError(f"/proc tells no {field} of process {pid}")


def cpu_seconds(pid: int) -> float:
    """What a process has taken of the processors so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def reset_peak(pid: int) -> None:
    """From here on ``VmHWM`` counts anew."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def peak_growth(pid: int, idle_kib: int) -> float:
    """MB that the peak since ``reset_peak`` lies above ``idle_kib``."""
    return (memory_kib(pid, "VmHWM") - idle_kib) * 1024 / 1e6
