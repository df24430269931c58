"""A process with all that it started, to be ended together: a process group where there are such (POSIX), else the
process and its descendants as they are found (Windows)."""

from __future__ import annotations

import os
import signal
from typing import Protocol

import psutil


class Group(Protocol):
    """A leader, which is not reaped yet, and what it started."""

    def terminate(self) -> None:
        """TERM to all."""

    def kill(self) -> None:
        """KILL to all."""

    def has_others(self) -> bool:
        """Whether any but the leader is left."""


class PosixGroup:
    """Of POSIX. What leaves the group is not followed."""

    def __init__(self, leader: int) -> None:
        self._leader = leader

    def terminate(self) -> None:
        """TERM to all."""
        self._send(signal.SIGTERM)

    def kill(self) -> None:
        """KILL to all."""
        self._send(signal.SIGKILL)

    def has_others(self) -> bool:
        """The leader is not reaped yet, so the id is still its own."""
        return any(pid != self._leader and _group_of(pid) == self._leader for pid in psutil.pids())

    def _send(self, number: signal.Signals) -> None:
        try:
            os.killpg(self._leader, number)
        except (ProcessLookupError, PermissionError):
            pass  # all of it is gone, or (by sudo) another user's: the outputs are closed in any case


class Descendants:
    """Found by who started whom. What was started by one that is gone already is not found."""

    def __init__(self, leader: int) -> None:
        self._leader = leader
        self._found: dict[int, psutil.Process] = {}

    def terminate(self) -> None:
        """TERM to all."""
        for process in self._look():
            _tell(process, kill=False)

    def kill(self) -> None:
        """KILL to all."""
        for process in self._look():
            _tell(process, kill=True)

    def has_others(self) -> bool:
        """Of those that were found when it was told to end."""
        return any(pid != self._leader and _lives(process) for pid, process in self._found.items())

    def _look(self) -> list[psutil.Process]:
        """Those found now and before, the children first: their parent may end when they do."""
        for top in [*self._found.values()] or _process(self._leader):
            try:
                for found in (top, *top.children(recursive=True)):
                    self._found.setdefault(found.pid, found)
            except psutil.Error:
                continue  # it is gone
        return [*reversed(self._found.values())]


def group_of(leader: int) -> Group:
    """The group of a process that was started to lead one."""
    return PosixGroup(leader) if hasattr(os, "killpg") else Descendants(leader)


def _process(pid: int) -> list[psutil.Process]:
    try:
        return [psutil.Process(pid)]
    except psutil.Error:
        return []


def _group_of(pid: int) -> int:
    try:
        return os.getpgid(pid)
    except OSError:
        return -1


def _tell(process: psutil.Process, *, kill: bool) -> None:
    try:
        process.kill() if kill else process.terminate()
    except psutil.Error:
        pass  # gone, or another user's


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False
