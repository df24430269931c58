"""Files and trees: beside scp and rsync over the private sshd, and beside a bare Python socket."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

from bench.measure import Pairs, in_turns, memory_kib, ms, peak_growth, process_time, reset_peak
from bench.probe import latencies
from bench.rig import Daemon, Rig, Served
from bench.table import BenchError, Result, at_least, at_most

GIB = 1 << 30
ROUNDS = 5
FILES, FILE_BYTES = 1000, 4096
AT_ONCE = 8
SMALLER = 256 << 20
"""For eight at once: together 2 GiB."""
PROBE_S, PEEK_S = 3.0, 0.05
DAEMON_MB, COMMAND_MB = 25.0, 40.0


def big_file(rig: Rig, name: str = "big", size: int = GIB) -> Path:
    """A file of that size whose bytes don't compress, in the page cache."""
    path = rig.root / name
    block = os.urandom(1 << 20)
    with path.open("wb") as file:
        for number in range(size >> 20):
            file.write(number.to_bytes(8, "big") + block[8:])
    return path


def one_file(rig: Rig) -> Iterator[Result]:
    """1 GiB sent and pulled, whole process, beside scp and beside a bare socket → sha256 → file."""
    ssh, source = rig.sshd(), big_file(rig)
    here, there = rig.pair()
    target = rig.root / "arrived"

    def run(argv: Sequence[str]) -> float:
        target.unlink(missing_ok=True)
        taken = process_time(argv, rig.env)
        if target.stat().st_size != GIB:
            raise BenchError(f"{target} has {target.stat().st_size} bytes")
        return taken

    send = rig.loopsy(here, "send", there.name, str(source), str(target))
    pull = rig.loopsy(here, "pull", there.name, str(source), str(target))
    scp = ["scp", "-q", "-F", str(ssh.config)]
    bare = [sys.executable, "-m", "bench.bare_copy", str(source), str(target)]
    sent, put, pulled, got, plain = in_turns(
        ROUNDS,
        lambda: run(send),
        lambda: run([*scp, str(source), f"bench:{target}"]),
        lambda: run(pull),
        lambda: run([*scp, f"bench:{source}", str(target)]),
        lambda: run(bare),
    )
    for label, ours, rival, older in (("send", sent, put, "0.5 ×"), ("pull", pulled, got, "0.3 ×")):
        for name, theirs, goal in (("scp", rival, 1.0), ("bare socket → sha256 → file", plain, 0.6)):
            pairs = Pairs(theirs, ours)
            yield Result(
                row=f"1 GiB {label} : {name}",
                measured=ms(ours),
                yardstick=ms(theirs),
                value=pairs.ratio,
                goal=at_least(goal),
                older=older if name == "scp" else "–",
                remarks=pairs.spread,
            )


# -- memory, and others meanwhile -------------------------------------------------------------------------------------
def transfer_memory(rig: Rig) -> Iterator[Result]:
    """What 1 GiB costs in memory, and eight at once; and GET /health meanwhile."""
    source = big_file(rig)
    here, there = rig.pair()
    both = (here, there)
    idle = {daemon.pid: memory_kib(daemon.pid, "VmRSS") for daemon in both}
    send = rig.loopsy(here, "send", there.name, str(source), str(rig.root / "arrived"))
    pull = rig.loopsy(here, "pull", there.name, str(source), str(rig.root / "pulled"))
    for label, argv in (("send", send), ("pull", pull)):
        yield from grown(f"1 GiB {label}", both, idle, [argv], rig)
    many = eight(rig, here, there)
    yield from grown(f"{AT_ONCE} × {SMALLER >> 20} MiB at once", both, idle, many, rig)
    yield health_meanwhile(rig, here, there, many)


def eight(rig: Rig, here: Daemon, there: Daemon) -> list[list[str]]:
    """The commands that send so many files."""
    return [
        rig.loopsy(here, "send", there.name, str(big_file(rig, f"small{n}", SMALLER)), str(rig.root / f"arrived{n}"))
        for n in range(AT_ONCE)
    ]


def health_meanwhile(rig: Rig, here: Daemon, there: Daemon, many: Sequence[Sequence[str]]) -> Result:
    """The receiver's p99 while all eight move, and an idle bare server's in the same moments."""
    bare = rig.bare(100)
    ours, machine = [], []
    for _ in range(ROUNDS):
        for number in range(AT_ONCE):
            (rig.root / f"arrived{number}").unlink(missing_ok=True)
        with ThreadPoolExecutor(4) as pool:
            quiet = both_p99(pool, there, bare, Event())
            work, over = pool.submit(run_together, many, rig), Event()
            while not work.done() and moving(here) < AT_ONCE:  # starting eight commands is not what is measured
                time.sleep(PEEK_S)
            pool.submit(watch, here, over)
            busy = both_p99(pool, there, bare, over)
            work.result()
        ours.append((busy[0], quiet[0]))
        machine.append((busy[1], quiet[1]))
    pairs, rival = (Pairs(*zip(*figures, strict=True)) for figures in (ours, machine))
    return Result(
        row="GET /health p99 meanwhile : idle",
        measured=ms(pairs.ours),
        yardstick=ms(pairs.theirs),
        value=pairs.ratio,
        goal=at_most(10),
        older="–",
        remarks=f"{pairs.spread}; an idle bare server beside the same load: {ms(rival.ours)}, {rival.ratio:.3g} ×",
    )


def both_p99(pool: ThreadPoolExecutor, ours: Daemon, bare: Served, over: Event) -> tuple[float, float]:
    """Both in the same moments."""
    one = pool.submit(latencies, ours.port, "/api/v1/health", PROBE_S, over.is_set)
    other = pool.submit(latencies, bare.port, "/", PROBE_S, over.is_set)
    return one.result().p99, other.result().p99


def watch(here: Daemon, over: Event) -> None:
    """Set ``over`` once the first of the eight has ended."""
    while moving(here) == AT_ONCE:
        time.sleep(PEEK_S)
    over.set()


def moving(here: Daemon) -> int:
    """How many transfers have bytes under way."""
    found = here.ask("GET", "/transfers")["transfers"]
    return sum(one["state"] == "running" and one["bytesSent"] > 0 for one in found)


def grown(
    label: str, daemons: Sequence[Daemon], idle: dict[int, int], commands: Sequence[Sequence[str]], rig: Rig
) -> Iterator[Result]:
    """Run the commands together; how far daemons and commands rose."""
    for daemon in daemons:
        reset_peak(daemon.pid)
    peaks = run_together(commands, rig)
    most = max(peak_growth(daemon.pid, idle[daemon.pid]) for daemon in daemons)
    yield Result(
        row=f"memory of the larger daemon, {label}", measured=f"+{most:.1f} MB", yardstick="its idle",
        value=most, goal=at_most(DAEMON_MB, "MB"), older="400 MB", remarks="",
    )  # fmt: skip
    yield Result(
        row=f"memory of the command, {label}", measured=f"{max(peaks):.1f} MB", yardstick="–",
        value=max(peaks), goal=at_most(COMMAND_MB, "MB"), older="5,200 MB", remarks="peak",
    )  # fmt: skip


LAUNCH = """
import os, sys
pid = os.posix_spawnp(sys.argv[1], sys.argv[1:], os.environ, file_actions=[(os.POSIX_SPAWN_OPEN, 1, os.devnull, 1, 0)])
_, status, usage = os.wait4(pid, 0)
print(usage.ru_maxrss)
sys.exit(os.waitstatus_to_exitcode(status) != 0)
"""
"""A small parent: a child's peak begins at what its parent held when it was started."""


def run_together(commands: Sequence[Sequence[str]], rig: Rig) -> list[float]:
    """Run all at once; the peak memory of each in MB, by the system's own account."""
    children = [
        subprocess.Popen(
            [sys.executable, "-S", "-c", LAUNCH, *argv],
            env=rig.env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
        )
        for argv in commands
    ]  # fmt: skip
    peaks = []
    for child in children:
        said, _ = child.communicate()
        if child.returncode != 0:
            raise BenchError(f"{' '.join(map(str, child.args))[-120:]} failed")  # type: ignore[arg-type]
        peaks.append(int(said) * 1024 / 1e6)
    return peaks


# -- trees ------------------------------------------------------------------------------------------------------------
def tree(rig: Rig) -> Iterator[Result]:
    """1000 files of 4 kB: the first copy, and once more with nothing changed, beside rsync -a."""
    if shutil.which("rsync") is None:
        raise BenchError("rsync is missing here")
    ssh, source = rig.sshd(), rig.root / "tree"
    make_tree(source)
    here, there = rig.pair()
    ours, theirs = rig.root / "ours", rig.root / "theirs"
    send = rig.loopsy(here, "send", "-r", there.name, f"{source}/", str(ours))
    rsync = ["rsync", "-a", "-e", f"ssh -q -F {ssh.config}", f"{source}/", f"bench:{theirs}"]

    def first(argv: Sequence[str], target: Path) -> float:
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir()
        return process_time(argv, rig.env)

    sent, synced, again, resynced = in_turns(
        ROUNDS,
        lambda: first(send, ours),
        lambda: first(rsync, theirs),
        lambda: process_time(send, rig.env),
        lambda: process_time(rsync, rig.env),
    )
    copied = sum(1 for path in ours.rglob("*") if path.is_file())
    if copied != FILES:
        raise BenchError(f"{copied} of {FILES} files arrived (in {sorted(p.name for p in ours.iterdir())[:3]})")
    for label, mine, rival, goal in (("first copy", sent, synced, 0.7), ("nothing changed", again, resynced, 1.0)):
        pairs = Pairs(rival, mine)
        yield Result(
            row=f"{FILES} × 4 kB, {label} : rsync -a",
            measured=ms(mine),
            yardstick=ms(rival),
            value=pairs.ratio,
            goal=at_least(goal),
            older="–",
            remarks=pairs.spread,
        )


def make_tree(root: Path) -> None:
    """Fifty directories of twenty files."""
    for number in range(FILES):
        directory = root / f"d{number % 50:02}"
        directory.mkdir(parents=True, exist_ok=True)
        (directory / f"f{number}").write_bytes(os.urandom(FILE_BYTES))
