"""Terminals: the echo of a key, a large file on the screen, and a command's standard input."""

from __future__ import annotations

import os
import pty
import random
import select
import subprocess
import sys
import termios
import time
import tty
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from bench.measure import in_turns, memory_kib, ms, peak_growth, reset_peak
from bench.rig import Daemon, Rig
from bench.table import BenchError, Result, at_least, at_most

KEYS = 300
SHOWN = 50_000_000
INPUT = 200_000_000
ROUNDS = 5
WAIT_S = 60.0
READY = b"ready-for-keys"
ECHOES = f"stty raw -echo; printf {READY.decode()}; exec cat"
"""The PTY's own echo would do as well; cat's goes through a program, as an editor's does."""


class Window:
    """A command in a terminal of its own."""

    def __init__(self, rig: Rig, argv: Sequence[str]) -> None:
        self._fd, theirs = pty.openpty()
        tty.setraw(theirs)
        termios.tcsetwinsize(theirs, (24, 80))
        self._process = subprocess.Popen(
            argv,
            cwd=rig.root,
            env={**rig.env, "TERM": "xterm-256color"},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)

    def __enter__(self) -> Window:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(10)
        os.close(self._fd)

    def read(self) -> bytes:
        """:raises BenchError: nothing comes."""
        if not select.select([self._fd], [], [], WAIT_S)[0]:
            raise BenchError("the terminal is silent")
        return os.read(self._fd, 65536)

    def until(self, text: bytes) -> None:
        """Reads up to there."""
        seen = b""
        while text not in seen:
            seen = seen[-len(text) :] + self.read()

    def echo(self) -> float:
        """Seconds from a key to its echo."""
        begin = time.perf_counter()
        os.write(self._fd, b"k")
        while b"k" not in self.read():
            pass
        return time.perf_counter() - begin


def terminal(rig: Rig) -> Iterator[Result]:
    """A key's echo through both daemons beside ssh -tt; 50 MB on a screen; 200 MB as a command's input."""
    ssh = rig.sshd()
    here, there = rig.pair()
    secure_here, secure_there = rig.pair(tls=True)
    windows = {
        "ssh -tt": ssh.command("-tt", ECHOES),
        "plain": loopsy(here, "exec", "-t", there.name, "--", "sh", "-c", ECHOES),
        "TLS": loopsy(secure_here, "exec", "-t", secure_there.name, "--", "sh", "-c", ECHOES),
    }
    yield from echo(rig, windows)
    yield from shown(rig, here, there)
    yield from as_input(rig, loopsy(here, "exec", "-i", there.name, "--", "cat"), ssh.command("cat"), (here, there))


def loopsy(daemon: Daemon, *words: str) -> list[str]:
    """The real command on a daemon."""
    return ["env", f"LOOPSY_DATA_DIR={daemon.data_dir}", sys.executable, "-m", "loopsy.cli.main", *words]


def echo(rig: Rig, commands: Mapping[str, Sequence[str]]) -> Iterator[Result]:
    """Keys in turns, in an order of chance (what ran just before warms the caches); the first is the yardstick."""
    with ExitStack() as stack:
        windows = {name: stack.enter_context(Window(rig, argv)) for name, argv in commands.items()}
        for window in windows.values():
            window.until(READY)
        times: dict[str, list[float]] = {name: [] for name in windows}
        for number in range(KEYS + 20):
            for name in random.sample(list(windows), len(windows)):
                seconds = windows[name].echo()
                if number >= 20:
                    times[name].append(seconds)
                time.sleep(0.01)
    yardstick, *ours = (sorted(each) for each in times.values())
    for link, measured in zip(list(times)[1:], ours, strict=True):
        for name, place in (("p50", 0.5), ("p95", 0.95)):
            a, b = measured[int(KEYS * place)], yardstick[int(KEYS * place)]
            yield Result(
                row=f"echo of a key through a peer's terminal ({link}), {name} : ssh -tt",
                measured=ms([a]),
                yardstick=ms([b]),
                value=a / b,
                goal=at_most(2),
                remarks=f"n={KEYS}, in turns",
            )


def shown(rig: Rig, here: Daemon, there: Daemon) -> Iterator[Result]:
    """``cat`` of a large file."""
    file = Path(rig.root) / "shown.txt"
    line = b"the quick brown fox jumps over the lazy dog 0123456789 and so on\n"
    file.write_bytes(line * (SHOWN // len(line)))
    speeds = []
    idle = {daemon.pid: memory_kib(daemon.pid, "VmRSS") for daemon in (here, there)}
    for daemon in (here, there):
        reset_peak(daemon.pid)
    for _ in range(ROUNDS):
        command = f"cat {file}; printf the-end; read x"
        with Window(rig, loopsy(here, "exec", "-t", there.name, "--", "sh", "-c", command)) as window:
            window.until(b"quick")
            begin = time.perf_counter()
            window.until(b"the-end")
            speeds.append(SHOWN / (time.perf_counter() - begin) / 1e6)
    speed = sorted(speeds)[len(speeds) // 2]
    grown = [peak_growth(daemon.pid, idle[daemon.pid]) for daemon in (here, there)]
    yield Result(
        row="cat of 50 MB in a peer's terminal",
        measured=f"{speed:.0f} MB/s",
        value=speed,
        goal=at_least(20, "MB/s"),
        remarks=f"n={ROUNDS}",
    )
    yield Result(
        row="memory for that",
        measured=" and ".join(f"{mb:.1f} MB" for mb in grown),
        value=max(grown),
        goal=at_most(20, "MB"),
        remarks="above idle; the emulator and its scrollback are part of it",
    )


def as_input(rig: Rig, ours: Sequence[str], theirs: Sequence[str], daemons: Sequence[Daemon]) -> Iterator[Result]:
    """A large file to ``cat`` there, and back."""
    file = Path(rig.root) / "input"
    with file.open("wb") as out:
        for _ in range(INPUT // 1_000_000):
            out.write(os.urandom(1_000_000))
    idle = [memory_kib(daemon.pid, "VmRSS") for daemon in daemons]
    for daemon in daemons:
        reset_peak(daemon.pid)
    us, them = in_turns(ROUNDS, lambda: fed(rig, ours, file), lambda: fed(rig, theirs, file))
    ratios = sorted(b / a for a, b in zip(us, them, strict=True))
    grown = max(peak_growth(daemon.pid, then) for daemon, then in zip(daemons, idle, strict=True))
    yield Result(
        row="200 MB through exec -i cat and back : ssh host cat",
        measured=ms(us),
        yardstick=ms(them),
        value=ratios[len(ratios) // 2],
        goal=at_least(0.3),
        remarks=f"n={ROUNDS}, {ratios[0]:.2g}–{ratios[-1]:.2g}; the larger daemon grew by {grown:.1f} MB",
    )


def fed(rig: Rig, argv: Sequence[str], file: Path) -> float:
    """Seconds."""
    begin = time.perf_counter()
    with (
        file.open("rb") as source,
        subprocess.Popen(argv, env=rig.env, cwd=rig.root, stdin=source, stdout=subprocess.PIPE) as run,
    ):
        assert run.stdout is not None
        count = 0
        while data := run.stdout.read(1 << 20):
            count += len(data)
    if run.returncode or count != INPUT:
        raise BenchError(f"{argv[0]}: status {run.returncode}, {count} bytes came back")
    return time.perf_counter() - begin
