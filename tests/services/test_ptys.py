"""A program on a pseudo-terminal that leaves it and goes on: what is done to its terminal then is done to nobody."""

from __future__ import annotations

import os
import shutil
from typing import Any

import pytest
from twisted.internet import reactor as real_reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

pytest.importorskip("fcntl")
from loopsy.services import ptys

reactor: Any = real_reactor
LEAVES = "trap '' HUP; echo leaving; exec 0<&- 1>&- 2>&-; exec sleep 100"


class Watcher:
    """What it is told."""

    def __init__(self) -> None:
        self.output = b""
        self.over: Deferred[None] = Deferred()

    def printed(self, data: bytes) -> None:
        self.output += data

    def full(self, is_full: bool) -> None:
        pass

    def ended(self, exit_code: int | None, signal_name: str | None) -> None:
        self.over.callback(None)


async def test_a_terminal_that_its_program_closed_is_left_alone() -> None:
    watcher = Watcher()
    shell = shutil.which("sh") or "/bin/sh"
    process = ptys.start(reactor, watcher, ["sh", "-c", LEAVES], shell, dict(os.environ), os.getcwd(), (80, 24))
    process.resize(81, 25)
    while process._process.connected:
        await deferLater(reactor, 0.01)
    number = process._process.fd
    ends = [os.pipe()]
    while number not in ends[-1]:  # somebody opens files until one has the number of that terminal
        ends.append(os.pipe())
        assert len(ends) < 1000
    try:
        os.write(ends[-1][1], b"of somebody else")
        process.pause()
        process.resume()
        process.resize(100, 30)
        process.write(b"typed")
        await deferLater(reactor, 0.05)
        assert watcher.output == b"leaving\r\n"
        assert os.read(ends[-1][0], 100) == b"of somebody else"
    finally:
        process.end()
        os.kill(process.pid, 9)
        await watcher.over
        for pair in ends:
            for end in pair:
                os.close(end)
