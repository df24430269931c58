"""Waiting for conditions instead of sleeping."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

from twisted.internet.task import deferLater

T = TypeVar("T")
CAP_S = 20.0
PATIENCE_S = 60.0
"""No condition takes a tenth of this; it is here so that a hanging test ends."""


def wait_until(condition: Callable[[], Any], what: str = "the condition") -> Any:
    """Wait for ``condition`` to give something true, and return that. For tests outside of a reactor."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError(f"{what} did not come about")


async def until(condition: Callable[[], T], cap_s: float = CAP_S) -> T:
    """What ``condition`` returns once that is true; an AssertionError after ``cap_s`` seconds."""
    from twisted.internet import reactor

    end = time.monotonic() + cap_s
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < end, f"not within {cap_s:g} s"
        await deferLater(reactor, 0.005)  # type: ignore[arg-type]
