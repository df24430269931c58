"""How much of what an agent says is kept."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any

from loopsy.wire.tasks import (
    ERROR,
    EXIT,
    PERMISSION_ANSWER,
    PERMISSION_REQUEST,
    RESULT,
    STATUS,
    SYSTEM,
    TEXT,
    THINKING,
    TOOL_RESULT,
    TOOL_USE,
)

LONGEST = 256 * 1024
"""Characters of a text or a tool's output in one event; what is longer loses its middle."""
LONGEST_INPUT = 1024 * 1024
"""Characters of a tool's input in all, and of an approval: nobody can judge more."""
TASK_BYTES = 64 * 1024 * 1024
"""Of one task's events."""
ALWAYS = frozenset({STATUS, PERMISSION_REQUEST, PERMISSION_ANSWER, RESULT, EXIT})
"""What tells how a task went is kept in any case, up to twice the limits."""


class Verdict(Enum):
    """What becomes of an event."""

    KEEP = "keep"
    FIRST_LEFT_OUT = "first left out"
    """A notice says so."""
    LEAVE_OUT = "leave out"
    TOO_MANY = "too many"
    """It is kept, and the task is ended."""


class Budget:
    """Counts a task's events."""

    def __init__(self, max_events: int, max_bytes: int = TASK_BYTES) -> None:
        self._max_events, self._max_bytes = max_events, max_bytes
        self._events = self._bytes = 0
        self._full = False

    def judge(self, kind: str, size: int) -> Verdict:
        """One more, of ``size`` bytes."""
        events, bytes_ = self._events + 1, self._bytes + size
        if kind in ALWAYS:
            self._events, self._bytes = events, bytes_
            is_flood = events > 2 * self._max_events or bytes_ > 2 * self._max_bytes
            return Verdict.TOO_MANY if is_flood else Verdict.KEEP
        if not self._full and events <= self._max_events and bytes_ <= self._max_bytes:
            self._events, self._bytes = events, bytes_
            return Verdict.KEEP
        first, self._full = not self._full, True
        return Verdict.FIRST_LEFT_OUT if first else Verdict.LEAVE_OUT


def fitting(kind: str, data: Mapping[str, Any]) -> dict[str, Any]:
    """The event's data within its bounds; what was cut says ``truncated``."""
    fitted = dict(data)
    field = {TEXT: "text", THINKING: "text", TOOL_RESULT: "output", ERROR: "message", SYSTEM: "text"}.get(kind)
    text = fitted.get(field or "")
    if isinstance(text, str) and len(text) > LONGEST:
        fitted[field or ""] = without_middle(text, LONGEST)
        fitted["truncated"] = True
    if kind == TOOL_USE and is_long(fitted.get("input"), LONGEST_INPUT):
        fitted["input"] = {"truncated": without_middle(str(fitted["input"]), LONGEST)}
        fitted["truncated"] = True
    if kind == RESULT and isinstance(fitted.get("text"), str):
        fitted["text"] = without_middle(fitted["text"], LONGEST_INPUT)
    return fitted


def without_middle(text: str, limit: int) -> str:
    """At most ``limit`` characters, about, of both ends."""
    if len(text) <= limit:
        return text
    half = limit // 2
    return f"{text[:half]}\n[… {len(text) - 2 * half} characters left out …]\n{text[-half:]}"


def is_long(value: Any, limit: int) -> bool:
    """Whether a JSON value holds more than ``limit`` characters, without making its text."""
    left = limit
    stack = [value]
    while stack and left >= 0:
        item = stack.pop()
        left -= len(item) if isinstance(item, str) else 8
        if isinstance(item, Mapping):
            left -= sum(len(str(key)) for key in item)
            stack.extend(item.values())
        elif isinstance(item, list | tuple):
            stack.extend(item)
    return left < 0
