"""Drives a session over a plain subprocess, so that tests see it with the real CLI and without the daemon."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from typing import IO, Any

from loopsy.agents.adapter import Asked, Began, Ended, Event, Happening, Launch, Run, Session, Step
from loopsy.agents.table import AGENTS
from loopsy.testing.agents.real import RealAgent

PATIENCE_S = 120.0
"""No run takes a tenth of this; it is here so that a hanging one ends."""


def run_of(agent: RealAgent, prompt: str, **more: Any) -> Run:
    """What a real agent is asked to do, in its own environment."""
    executable = str(agent.commands / agent.name)
    given = {"executable": executable, "cwd": str(agent.work), "environment": agent.environment, **more}
    return Run(prompt=prompt, **given)


class Driven:
    """One run, from ``with`` to its end."""

    def __init__(self, name: str, run: Run) -> None:
        self.session: Session = AGENTS[name](run)
        self.launch: Launch = self.session.launch()
        self.happenings: list[Happening] = []
        self.times: list[float] = []
        """Seconds since the start, of each happening."""
        self.recorded: list[tuple[str, bytes]] = []
        """What came and went, in order: ``out``, ``err``, ``in``."""
        self.exit_code: int | None = None
        self._began = time.monotonic()
        self._read: queue.Queue[tuple[str, bytes]] = queue.Queue()
        self.process = subprocess.Popen(
            self.launch.argv,
            env=dict(self.launch.environment),
            cwd=run.cwd,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    def __enter__(self) -> Driven:
        for name, stream in (("out", self.process.stdout), ("err", self.process.stderr)):
            threading.Thread(target=self._pump, args=(name, stream), daemon=True).start()
        self._write(self.launch.first)
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def kill(self) -> None:
        """End all of its processes at once."""
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()

    def until(self, wanted: Callable[[Happening], bool]) -> Happening:
        """Read on until something has happened, or has already happened."""
        looked = 0
        while True:
            while looked < len(self.happenings):
                looked += 1
                if wanted(self.happenings[looked - 1]):
                    return self.happenings[looked - 1]
            if self.exit_code is not None or not self._go_on():
                raise AssertionError(f"it ended before that; it said {self.happenings[-20:]}")

    def until_asked(self, number: int = 1) -> Asked:
        """The so manieth that it asks."""
        self.until(lambda _: len(self.asked) >= number)
        return self.asked[number - 1]

    def to_the_end(self) -> Ended:
        """Read all, and wait for its exit; its last word."""
        while self.exit_code is None and self._go_on():
            pass
        return next(happening for happening in self.happenings if isinstance(happening, Ended))

    def answer(self, asked: Asked, approved: bool, message: str | None = None) -> None:
        """Answer it."""
        self._take(self.session.answer(asked.request_id, approved, message))

    def interrupt(self) -> None:
        """Ask it to stop."""
        self._take(self.session.interrupt())

    @property
    def asked(self) -> list[Asked]:
        """All that it asked."""
        return [happening for happening in self.happenings if isinstance(happening, Asked)]

    @property
    def began(self) -> Began:
        """Its session."""
        return next(happening for happening in self.happenings if isinstance(happening, Began))

    def events(self, kind: str) -> list[Mapping[str, Any]]:
        """The data of all events of a type."""
        return [each.data for each in self.happenings if isinstance(each, Event) and each.type == kind]

    def _pump(self, name: str, stream: IO[bytes] | None) -> None:
        assert stream is not None
        while data := os.read(stream.fileno(), 65536):
            self._read.put((name, data))
        self._read.put((name, b""))

    def _go_on(self) -> bool:
        """Take in what comes next; False: there is no more."""
        name, data = self._read.get(timeout=PATIENCE_S)
        self.recorded.append((name, data))
        if data:
            self._take(self.session.feed(data) if name == "out" else self.session.feed_error(data))
            return True
        if sum(not data for _, data in self.recorded) < 2:
            return True
        self.exit_code = self.process.wait(PATIENCE_S)
        self._take(self.session.ended(self.exit_code))
        return False

    def _take(self, step: Step) -> None:
        self.happenings += step.happenings
        self.times += [time.monotonic() - self._began] * len(step.happenings)
        self._write(step.write)
        if step.close_stdin and self.process.stdin is not None:
            self.process.stdin.close()

    def _write(self, data: bytes) -> None:
        assert self.process.stdin is not None
        if data and not self.process.stdin.closed:
            self.recorded.append(("in", data))
            try:
                self.process.stdin.write(data)
                self.process.stdin.flush()
            except BrokenPipeError:
                pass
