"""Waiting for conditions instead of sleeping."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from twisted.internet.task import deferLater

T = TypeVar("T")
CAP_S = 20.0


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
