"""Validators for the fields of wire types. Each message reads after the field's name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

type_of_check = Callable[[Any, Any, Any], None]


class Refused(ValueError):
    """A field's value is not what it may be; ``field`` is the attribute's name."""

    def __init__(self, attribute: Any, text: str) -> None:
        super().__init__(text)
        self.field: str = attribute.name


def no_nul(_: Any, attribute: Any, value: Any) -> None:
    """Text that the operating system can take: no NUL."""
    if value is not None and "\0" in value:
        raise Refused(attribute, "must not hold a NUL character")


def not_empty(_: Any, attribute: Any, value: Any) -> None:
    """Some text."""
    if value is not None and not value:
        raise Refused(attribute, "must not be empty")


def each_no_nul(_: Any, attribute: Any, value: Any) -> None:
    """A list (or the keys and values of a map) of texts without NUL."""
    texts = [*value.keys(), *value.values()] if isinstance(value, dict) else value or ()
    if any("\0" in text for text in texts):
        raise Refused(attribute, "must not hold a NUL character")


def env_names(_: Any, attribute: Any, value: Any) -> None:
    """Names of environment variables."""
    if any(not name or "=" in name for name in value or ()):
        raise Refused(attribute, "must have names that are not empty and hold no '='")


def within(low: float, high: float, unit: str) -> type_of_check:
    """A number from ``low`` to ``high``."""

    def check(_: Any, attribute: Any, value: Any) -> None:
        if value is not None and not low <= value <= high:
            raise Refused(attribute, f"must be from {low} to {high} {unit}".rstrip())

    return check


def at_least(low: float, unit: str) -> type_of_check:
    """A number of at least ``low``."""

    def check(_: Any, attribute: Any, value: Any) -> None:
        if value is not None and value < low:
            raise Refused(attribute, f"must be at least {low} {unit}".rstrip())

    return check


def at_most(length: int) -> type_of_check:
    """Text (or a list) of at most ``length`` items."""

    def check(_: Any, attribute: Any, value: Any) -> None:
        if value is not None and len(value) > length:
            raise Refused(attribute, f"must not be longer than {length}")

    return check


def one_of(*choices: str) -> type_of_check:
    """One of some words."""

    def check(_: Any, attribute: Any, value: Any) -> None:
        if value is not None and value not in choices:
            raise Refused(attribute, f"must be one of {', '.join(choices)}")

    return check
