"""The processes that a terminal's program started: all of its session, and what descends from them into other ones."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable

import psutil


def members(leader: int) -> set[psutil.Process]:
    """Those of the leader's session, and their descendants. Looking through all processes takes some milliseconds.

    A process that left the session and whose parent is gone too can't be told from a stranger: ask while they live.
    """
    found: set[psutil.Process] = set()
    for pid in psutil.pids():
        try:
            if pid == leader or os.getsid(pid) == leader:
                process = psutil.Process(pid)
                found |= {process, *process.children(recursive=True)}
        except (psutil.Error, OSError):
            continue  # it has just gone
    return found


def send(processes: Iterable[psutil.Process], *signals: signal.Signals) -> None:
    """Send to those that are still there; never to another process that has got the id of one."""
    for process in processes:
        for number in signals:
            try:
                process.send_signal(number)
            except (psutil.Error, OSError):
                break  # gone, or (by sudo) another user's


def living(processes: Iterable[psutil.Process]) -> bool:
    """Whether any of them is left."""
    return any(map(_lives, processes))


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False
