"""Running git in a repository that nobody vouches for: what its own settings would have it run, doesn't run."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, BinaryIO

from attrs import frozen
from twisted.internet.defer import Deferred

from loopsy.errors import CommandFailedToStart, TaskFailed
from loopsy.services.processes import Command, ProcessGroup, Receiver, spawn

SAFE = (
    ("core.hooksPath", "/dev/null"), ("core.fsmonitor", "false"), ("core.splitIndex", "false"), ("gc.auto", "0"),
    ("maintenance.auto", "false"), ("submodule.recurse", "false"),
)  # fmt: skip
ENVIRONMENT = {
    "LC_ALL": "C",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_NO_LAZY_FETCH": "1",
}
KEPT_OUTPUT = 1024 * 1024
"""Of what a git command prints; what is asked here prints some lines."""


@frozen
class Printed:
    """How a git command ended."""

    status: int
    out: bytes

    @property
    def text(self) -> str:
        """Its output, without the last line break."""
        return os.fsdecode(self.out).rstrip("\n")


class Running(Receiver):
    """One git command."""

    def __init__(self, file: BinaryIO | None, limit: int) -> None:
        self.over: Deferred[Printed] = Deferred()
        self.group: ProcessGroup | None = None
        self.is_too_much = False
        self._file, self._left = file, limit
        self._out: list[bytes] = []

    def out(self, data: bytes) -> None:
        """Keep it, or write it to the file: the system takes it into memory."""
        self._left -= len(data)
        if self._left < 0:
            self.is_too_much = True
            if self.group is not None:
                self.group.kill()
        elif self._file is not None:
            self._file.write(data)
        else:
            self._out.append(data)

    def err(self, data: bytes) -> None:
        """Nobody asks: a failure is told by the status."""

    def ended(self, status: int) -> None:
        """Tell."""
        self.over.callback(Printed(status, b"".join(self._out)))


@frozen
class Git:
    """Git, in some directory."""

    reactor: Any
    directory: str
    environment: Mapping[str, str]
    settings: tuple[tuple[str, str], ...] = SAFE

    async def run(
        self,
        *words: str,
        within: float,
        more: Mapping[str, str] | None = None,
        file: BinaryIO | None = None,
        limit: int = KEPT_OUTPUT,
    ) -> Printed:
        """Run a command; its output goes to ``file``, if there is one.

        :raises TaskFailed: there is no git, it took longer than ``within`` seconds, or printed more than ``limit``.
        """
        env = {**self.environment, **ENVIRONMENT, **as_variables(self.settings), **(more or {})}
        command = Command(argv=("git", "--no-pager", *words), cwd=self.directory, env=env)
        running = Running(file, limit)
        try:
            group = running.group = await spawn(self.reactor, self.reactor.getThreadPool(), command, running)
        except CommandFailedToStart as error:
            raise TaskFailed(error.message) from None
        timer = self.reactor.callLater(within, group.kill)
        printed = await running.over
        in_time = timer.active()
        if in_time:
            timer.cancel()
        if not in_time or running.is_too_much:
            raise TaskFailed(f"git {words[0]} {'printed too much' if in_time else 'took too long'}")
        return printed

    async def must(self, *words: str, within: float, more: Mapping[str, str] | None = None) -> str:
        """The same, for a command that must not fail; its output.

        :raises TaskFailed: it did.
        """
        printed = await self.run(*words, within=within, more=more)
        if printed.status != 0:
            raise TaskFailed(f"git {words[0]} failed with status {printed.status}")
        return printed.text


def as_variables(settings: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Settings for git's environment: unlike with ``-c``, a name may hold any character."""
    variables = {"GIT_CONFIG_COUNT": str(len(settings))}
    for at, (name, value) in enumerate(settings):
        variables |= {f"GIT_CONFIG_KEY_{at}": name, f"GIT_CONFIG_VALUE_{at}": value}
    return variables


def clean(environment: Mapping[str, str]) -> dict[str, str]:
    """Without what would have git look elsewhere, and without ours."""
    return {name: value for name, value in environment.items() if not name.startswith(("GIT_", "LOOPSY_"))}
