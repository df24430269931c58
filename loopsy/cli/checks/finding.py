"""What a check is given, and what it says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from loopsy.client.local import LocalDaemon
from loopsy.config import Config
from loopsy.store.layout import Layout

PASS, WARN, FAIL = "pass", "warn", "fail"
ASK_S = 5.0
"""The longest that a question to our own daemon takes."""


class Check(NamedTuple):
    """What looking at one thing found."""

    name: str
    level: str
    text: str
    remedy: str | None = None


class Patient(NamedTuple):
    """What the checks look at."""

    layout: Layout
    config: Config | None
    """None: it can't be used."""
    pid: int | None
    """Of the daemon that runs; None: none does."""
    fix: bool

    @property
    def daemon(self) -> LocalDaemon:
        """Its client."""
        return LocalDaemon(self.layout.root)


Look = Callable[[Patient], Iterator[Check]]


def title(look: Look) -> str:
    """What a check is called that broke before it could say so itself."""
    return look.__name__.replace("_", " ")
