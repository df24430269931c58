"""Validators for the fields of wire types. Each message reads after the field's name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

type_of_check = Callable[[Any, Any, Any], None]


def no_nul(_: Any, __: Any, value: Any) -> None:
    """Text that the operating system can take: no NUL."""
    if value is not None and "\0" in value:
        raise ValueError("must not hold a NUL character")


def not_empty(_: Any, __: Any, value: Any) -> None:
    """Some text."""
    if value is not None and not value:
        raise ValueError("must not be empty")


def each_no_nul(_: Any, __: Any, value: Any) -> None:
    """A list (or the keys and values of a map) of texts without NUL."""
    texts = [*value.keys(), *value.values()] if isinstance(value, dict) else value or ()
    if any("\0" in text for text in texts):
        raise ValueError("must not hold a NUL character")


def env_names(_: Any, __: Any, value: Any) -> None:
    """Names of environment variables."""
    if any(not name or "=" in name for name in value or ()):
        raise ValueError("must have names that are not empty and hold no '='")


def within(low: float, high: float, unit: str) -> type_of_check:
    """A number from ``low`` to ``high``."""

    def check(_: Any, __: Any, value: Any) -> None:
        if value is not None and not low <= value <= high:
            raise ValueError(f"must be from {low:g} to {high:g} {unit}".rstrip())

    return check


def at_most(length: int) -> type_of_check:
    """Text (or a list) of at most ``length`` items."""

    def check(_: Any, __: Any, value: Any) -> None:
        if value is not None and len(value) > length:
            raise ValueError(f"must not be longer than {length}")

    return check


def one_of(*choices: str) -> type_of_check:
    """One of some words."""

    def check(_: Any, __: Any, value: Any) -> None:
        if value is not None and value not in choices:
            raise ValueError(f"must be one of {', '.join(choices)}")

    return check
