"""Waiting for conditions instead of sleeping."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

from twisted.internet.task import deferLater

T = TypeVar("T")
PATIENCE_S = 120.0
"""No condition takes a tenth of this, on a busy machine either; it is here so that a hanging test ends."""


def wait_until(condition: Callable[[], Any], what: str = "the condition", patience_s: float = PATIENCE_S) -> Any:
    """Wait for ``condition`` to give something true, and return that. For tests outside of a reactor."""
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError(f"{what} did not come about")


async def until(condition: Callable[[], T]) -> T:
    """What ``condition`` returns once that is true; an AssertionError after PATIENCE_S."""
    from twisted.internet import reactor

    end = time.monotonic() + PATIENCE_S
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < end, f"not within {PATIENCE_S:g} s"
        await deferLater(reactor, 0.005)  # type: ignore[arg-type]
