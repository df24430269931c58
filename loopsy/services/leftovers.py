"""What a task's agent left behind: it starts tools in process groups of their own, so the end of its own isn't enough.

Each child of a task carries ``LOOPSY_TASK=<id>`` in its environment; nothing else does.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import psutil

from loopsy.agents.environment import TASK_ID


def of(task_id: str) -> Iterator[psutil.Process]:
    """The processes of a task that live. Blocks for some milliseconds: call it in a thread."""
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and process.environ().get(TASK_ID) == task_id:
                yield process
        except (psutil.Error, OSError):
            continue  # another user's, or gone


def tell(task_id: str, number: signal.Signals) -> int:
    """Send a signal to each; how many there were."""
    found = 0
    for process in of(task_id):
        try:
            process.send_signal(number)
            found += 1
        except (psutil.Error, OSError):
            continue
    return found
