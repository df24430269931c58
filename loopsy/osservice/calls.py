"""Speaking to the system's own service commands."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence

from loopsy.errors import LoopsyError

CALL_S = 30.0
"""They answer at once; a start waits until the daemon was executed."""
NOT_FOUND = 127
"""As a shell says it."""

Call = Callable[[Sequence[str]], tuple[int, str]]
"""Runs a command: its exit status, and what it printed on both outputs."""


class ServiceFailed(LoopsyError):
    """The system refuses."""


def call(argv: Sequence[str]) -> tuple[int, str]:
    """Run one.

    :raises ServiceFailed: it does not end.
    """
    try:
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=CALL_S,
            check=False,
        )
    except FileNotFoundError:
        return NOT_FOUND, f"{argv[0]} is not installed"
    except subprocess.TimeoutExpired:
        raise ServiceFailed(f"{argv[0]} did not end within {CALL_S:g} s") from None
    return done.returncode, done.stdout.decode("utf-8", "replace")


def told(run: Call, *argv: str) -> str:
    """Run one that must succeed; what it printed.

    :raises ServiceFailed: it did not.
    """
    status, text = run(argv)
    if status:
        raise ServiceFailed(f"{' '.join(argv)} failed (status {status})", hint=text.strip()[-1000:] or None)
    return text
