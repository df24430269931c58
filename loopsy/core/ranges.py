"""Which part of a file is asked for, and whether at all (RFC 9110, sections 13 and 14)."""

from __future__ import annotations

import re

from attrs import frozen

from loopsy.errors import RangeUnsatisfiable

_RANGE = re.compile(r"bytes\s*=\s*(\d*)\s*-\s*(\d*)\s*", re.IGNORECASE)
_DIGITS = 20
"""2**64 has as many; a longer number is no place in a file."""


@frozen
class Span:
    """Bytes from ``start`` up to, not with, ``end``."""

    start: int
    end: int

    @property
    def length(self) -> int:
        """How many."""
        return self.end - self.start


def wanted(range_: str | None, if_range: str | None, etag: str, size: int) -> Span | None:
    """The one range that is asked for; None: the whole file (no range, several, another unit, or the file changed).

    :raises RangeUnsatisfiable: it begins behind the end.
    """
    match = _RANGE.fullmatch(range_.strip()) if range_ else None
    if match is None or (if_range is not None and if_range.strip() != etag):
        return None
    first, last = match.groups()
    if max(len(first), len(last)) > _DIGITS or not (first or last):
        return None
    if not first:
        return _suffix(int(last), size)
    start, end = int(first), min(int(last) + 1, size) if last else size
    if last and int(last) < start:
        return None
    if start >= size:
        raise _behind(size)
    return Span(start, end)


def _suffix(length: int, size: int) -> Span | None:
    if length == 0:
        raise _behind(size)
    return Span(max(0, size - length), size) if size else None


def _behind(size: int) -> RangeUnsatisfiable:
    return RangeUnsatisfiable(f"the file has {size} bytes; the range begins behind them", details={"size": size})


def is_known(if_none_match: str | None, etag: str) -> bool:
    """Whether the asker has this very content already."""
    if if_none_match is None:
        return False
    tags = [tag.strip().removeprefix("W/") for tag in if_none_match.split(",")]
    return etag in tags or "*" in tags
