"""Waiting for what is typed. The platforms differ, so they meet here: Windows waits for sockets only."""

from __future__ import annotations

import sys
import time

LOOK_S = 0.05

try:
    import fcntl  # noqa: F401 - where it is, select takes standard input
except ImportError:  # Windows

    def has_line(timeout: float) -> bool:
        """Whether something can be read from standard input within ``timeout`` seconds (a key was pressed)."""
        import msvcrt

        if not sys.stdin.isatty():
            return True  # of a pipe nobody can tell: reading waits
        deadline = time.monotonic() + timeout
        while not msvcrt.kbhit():  # type: ignore[attr-defined]
            if time.monotonic() > deadline:
                return False
            time.sleep(LOOK_S)
        return True

else:

    def has_line(timeout: float) -> bool:
        """Whether something can be read from standard input within ``timeout`` seconds."""
        import select

        return bool(select.select([sys.stdin], [], [], timeout)[0])
