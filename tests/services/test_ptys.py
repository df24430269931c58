"""A program on a pseudo-terminal that closes it before it ends, or goes on without it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor as real_reactor

pytest.importorskip("fcntl")
from loopsy.services import ptys
from tests.waiting import until

reactor: Any = real_reactor


class Watcher:
    """What it is told."""

    def __init__(self) -> None:
        self.output = b""
        self.ends: list[tuple[int | None, str | None]] = []

    def printed(self, data: bytes) -> None:
        self.output += data

    def full(self, is_full: bool) -> None:
        pass

    def ended(self, exit_code: int | None, signal_name: str | None) -> None:
        self.ends.append((exit_code, signal_name))


def run(script: str) -> tuple[ptys.PtyProcess, Watcher]:
    watcher, shell = Watcher(), shutil.which("sh") or "/bin/sh"
    argv = ["sh", "-c", script]
    return ptys.start(reactor, watcher, argv, shell, dict(os.environ), os.getcwd(), (80, 24)), watcher


@pytest_twisted.ensureDeferred
async def test_one_that_closes_its_terminal_and_goes_on_is_not_hung_up_on(tmp_path: Path) -> None:
    """What is done to the terminal meanwhile harms nobody; when it is opened again, what comes is read."""
    waiting = f"until test -e {tmp_path}/go; do sleep 0.05; done"
    process, watcher = run(
        f"echo leaving; exec 0<&- 1>&- 2>&-; {waiting}; stty size > /dev/tty < /dev/tty; echo back > /dev/tty; exit 7"
    )
    await until(lambda: "reopened" in process._timers)
    process.pause()
    process.resume()
    process.resize(100, 30)
    process.write(b"typed")
    (tmp_path / "go").touch()
    await until(lambda: watcher.ends)
    assert watcher.ends == [(7, None)]
    assert watcher.output.startswith(b"leaving\r\n")
    assert b"30 100\r\nback\r\n" in watcher.output


@pytest_twisted.ensureDeferred
async def test_one_that_closes_its_terminal_just_before_it_ends_has_a_status_of_its_own() -> None:
    """As ``cat`` does, and all that make sure that their output was written."""
    process, watcher = run("echo bye; exec 0<&- 1>&- 2>&-; sleep 0.2; exit 3")
    await until(lambda: watcher.ends)
    assert watcher.ends == [(3, None)]
    assert watcher.output == b"bye\r\n"
    process.resize(100, 30)  # its descriptor's number is somebody else's now
    process.write(b"typed")


@pytest_twisted.ensureDeferred
async def test_one_that_has_left_its_terminal_can_be_ended() -> None:
    process, watcher = run("exec 0<&- 1>&- 2>&-; exec sleep 1000")
    await until(lambda: "reopened" in process._timers)
    process.end()
    await until(lambda: watcher.ends)
    assert watcher.ends == [(None, "SIGHUP")]
