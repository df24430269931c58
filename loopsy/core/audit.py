"""The audit log's lines and their chain.

Each line is one JSON object with ``seq`` (1, 2, 3 …) and ``prev``: the SHA-256 of the line before, without its line
break. A changed, missing or moved line breaks the chain at its successor; a cut end is found by the head (seq and hash
of the newest line) that the daemon keeps elsewhere.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import Any

from attrs import frozen

from loopsy.wire.codec import encode

GENESIS = "0" * 64


@frozen
class Head:
    """The newest line: its number and hash."""

    seq: int
    hash: str


START = Head(0, GENESIS)


@frozen
class Remembered:
    """What the daemon keeps of the log outside of it."""

    head: Head = START
    begin: int = 0
    """The number of the oldest line that rotation has left; 0: not known."""

    def text(self) -> str:
        """For the database: ``seq:hash:begin``."""
        return f"{self.head.seq}:{self.head.hash}:{self.begin}"

    @classmethod
    def of(cls, text: str | None) -> Remembered:
        """From there; nothing is remembered where it can't be read."""
        seq, _, rest = (text or "").partition(":")
        digest, _, begin = rest.partition(":")
        return cls(Head(int(seq), digest), int(begin)) if seq.isdigit() and begin.isdigit() else cls()


NOTHING = Remembered()


def link(head: Head, record: Mapping[str, Any]) -> tuple[bytes, Head]:
    """The line for ``record`` behind ``head`` (without line break), and the new head."""
    text = encode(record)
    line = f'{{"seq":{head.seq + 1},{text[1:-1]},"prev":"{head.hash}"}}'.encode("utf-8", "backslashreplace")
    return line, Head(head.seq + 1, sha256(line).hexdigest())


@frozen
class Fault:
    """Where a chain is broken."""

    line: int
    """Of those read, from 1."""
    text: str


@frozen
class Verified:
    """What a reading of the chain found."""

    lines: int
    first_seq: int
    head: Head
    fault: Fault | None


def verify(lines: Iterable[bytes], expected: Head | None = None, begin: int = 0) -> Verified:
    """Follow the chain through ``lines`` (oldest first, without line breaks), up to its first fault.

    The oldest line's predecessor may have been rotated away, so its ``prev`` is taken as given unless it is line 1.
    ``expected`` is a head that must lie on the chain, or just before its oldest line; ``begin`` the number that the
    oldest line has at most (0: not known).
    """
    head, first, count, seen = START, 0, 0, expected is None or expected.seq == 0
    for count, line in enumerate(lines, 1):
        got = _read(line)
        if got is None:
            return Verified(count, first, head, Fault(count, "is not a whole audit line"))
        seq, prev = got
        if count == 1:
            first, head = seq, Head(seq - 1, GENESIS if seq == 1 else prev)
            if expected is not None and 0 < expected.seq < seq and head != expected:
                text = f"is number {seq}, but the daemon remembers {expected.seq}: what lay between is missing"
                return Verified(count, first, head, Fault(count, text))
            if 0 < begin < seq:
                text = f"is number {seq}, but the log should begin with {begin}: what lay before is missing"
                return Verified(count, first, head, Fault(count, text))
        if seq != head.seq + 1:
            return Verified(count, first, head, Fault(count, f"has number {seq}, but {head.seq + 1} should stand here"))
        if prev != head.hash:
            return Verified(count, first, head, Fault(count, "does not follow from the line before, which was changed"))
        head = Head(seq, sha256(line).hexdigest())
        if expected is not None and seq == expected.seq:
            if head.hash != expected.hash:
                return Verified(count, first, head, Fault(count, "was changed: the daemon remembers another"))
            seen = True
    if not seen and expected is not None and head.seq < expected.seq:
        more = expected.seq - head.seq - 1
        return Verified(count, first, head, Fault(count + 1, f"and {more} more are missing: the end was cut off"))
    return Verified(count, first, head, None)


def _read(line: bytes) -> tuple[int, str] | None:
    try:
        record = json.loads(line)
        seq, prev = record["seq"], record["prev"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return (seq, prev) if type(seq) is int and isinstance(prev, str) and seq > 0 else None
