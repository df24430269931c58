"""From bytes as they come to JSON values, line by line."""

from __future__ import annotations

import json
from typing import Any

from attrs import field, frozen, mutable

LINE_MAX = 16 * 1024 * 1024
"""Bytes of one line. An image of 10 MB fits, in base64; as Python values a line takes several times its size, and three
tasks may meet one at once. What is longer is left out, and said."""


@frozen
class TooLong:
    """A line that was left out."""

    size: int


@mutable
class Lines:
    """Splits a stream at line feeds, however it arrives; the time it takes grows with the bytes alone."""

    limit: int = LINE_MAX
    _parts: list[bytes] = field(factory=list, init=False)
    _size: int = field(default=0, init=False)

    def feed(self, data: bytes) -> list[bytes | TooLong]:
        """The lines that are whole now, without their ends; empty ones are left out."""
        *whole, rest = data.split(b"\n")
        lines: list[bytes | TooLong] = []
        for part in whole:
            self._keep(part)
            lines += self.rest()
        self._keep(rest)
        return lines

    def rest(self) -> list[bytes | TooLong]:
        """What has no end yet, as if it had one."""
        size, parts = self._size, self._parts
        self._size, self._parts = 0, []
        if size > self.limit:
            return [TooLong(size)]
        line = b"".join(parts).rstrip(b"\r")
        return [line] if line.strip() else []

    def _keep(self, part: bytes) -> None:
        self._size += len(part)
        if self._size > self.limit:
            self._parts = []
        elif part:
            self._parts.append(part)


def parsed(line: bytes) -> dict[str, Any] | None:
    """The JSON object of a line; None: it is something else. Its texts can be written as UTF-8."""
    try:
        value = json.loads(line, parse_constant=_refused)
        if b"\\ud" in line or b"\\uD" in line:
            value = _writable(value)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def text(line: bytes) -> str:
    """A line as text; bytes that are no UTF-8 are replaced."""
    return line.decode("utf-8", "replace")


def _refused(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def _writable(value: Any) -> Any:
    """Half a surrogate pair, which JSON can hold, is replaced: neither UTF-8 nor the database can hold it."""
    match value:
        case str():
            return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        case dict():
            return {_writable(name): _writable(inner) for name, inner in value.items()}
        case list():
            return [_writable(inner) for inner in value]
    return value
