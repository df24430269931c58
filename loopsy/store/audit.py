"""``logs/audit.jsonl`` on disk: appended, rotated (``audit.jsonl.1`` is the newest of the old), read back in order."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from loopsy.core.audit import NOTHING, START, Head, Remembered, link, verify

SURPLUS = 8
"""Old files beyond ``keep`` that wait to be dropped: that is done once the log's new begin is remembered. Where nothing
can be remembered (a full disk), no more than these wait."""


class AuditLog:
    """The open log and its head."""

    def __init__(self, path: Path, max_bytes: int, keep: int, remembered: Remembered = NOTHING) -> None:
        """Open the log; a last line that a crash left half-written goes, so that the next one stands alone.

        Where the log does not reach the head that is ``remembered``, which was on disk once, its end was cut off or
        changed: the chain goes on from what is remembered, so that the gap stays to be seen.
        """
        self.path, self._max_bytes, self._keep = path, max_bytes, keep
        self.head = last_head(path)
        self.was_cut = self.head.seq <= remembered.head.seq and self.head != remembered.head
        if self.was_cut:
            self.head = remembered.head
        self._begin = remembered.begin or _first_seq(files(path)) or self.head.seq + 1
        self.has_surplus = numbered(path, keep).exists()
        self._open()

    @property
    def state(self) -> Remembered:
        """What is to be remembered of it now."""
        return Remembered(self.head, self._begin)

    def _open(self) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0)
        self._descriptor = os.open(self.path, flags, 0o600)
        self._size = os.fstat(self._descriptor).st_size
        if self._size and not _ends_whole(self.path):
            self._cut_torn_end()

    def _cut_torn_end(self) -> None:
        """A line that was never finished was never acknowledged as written: it goes."""
        with open(self.path, "rb+") as file:
            data = file.read()
            end = data.rfind(b"\n") + 1
            file.truncate(end)
        self._size = end

    def append(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Add a line for each record, in one write."""
        head, lines = self.head, []
        for record in records:
            line, head = link(head, record)
            lines.append(line + b"\n")
        data = b"".join(lines)
        if self._size and self._size + len(data) > self._max_bytes:
            self._rotate()
        try:
            written = os.write(self._descriptor, data)
            while written < len(data):
                written += os.write(self._descriptor, data[written:])
        except OSError:
            os.ftruncate(self._descriptor, self._size)  # half a line (the disk is full) would break the chain for good
            raise
        self._size += len(data)
        self.head = head

    def _rotate(self) -> None:
        os.fsync(self._descriptor)
        os.close(self._descriptor)
        for number in range(self._keep + SURPLUS - 1, -1, -1):
            old = numbered(self.path, number)
            if old.exists():
                os.replace(old, numbered(self.path, number + 1))
        numbered(self.path, self._keep + SURPLUS).unlink(missing_ok=True)
        self.has_surplus = numbered(self.path, self._keep).exists()
        if self.has_surplus:
            kept = [file for n in range(self._keep - 1, 0, -1) if (file := numbered(self.path, n)).exists()]
            self._begin = _first_seq(kept) or self.head.seq + 1
        self._open()

    def drop(self, remembered: Remembered) -> None:
        """Remove the files beyond ``keep``, if the log's begin is remembered to lie behind them: were they gone first,
        a kill in between would look as if somebody had taken them."""
        if self.has_surplus and remembered.begin == self._begin:
            for number in range(self._keep, self._keep + SURPLUS + 1):
                numbered(self.path, number).unlink(missing_ok=True)
            self.has_surplus = False

    def duplicate(self) -> int:
        """Another descriptor of the open file, for whoever makes it durable in another thread and closes it then."""
        return os.dup(self._descriptor)

    def close(self) -> None:
        """Make all of it durable and close."""
        os.fsync(self._descriptor)
        os.close(self._descriptor)


def numbered(path: Path, number: int) -> Path:
    """``audit.jsonl``, ``audit.jsonl.1`` …"""
    return path if number == 0 else path.with_name(f"{path.name}.{number}")


def files(path: Path) -> list[Path]:
    """The log's files, oldest first."""
    found = []
    number = 1
    while numbered(path, number).exists():
        found.append(numbered(path, number))
        number += 1
    return [*reversed(found), *([path] if path.exists() else [])]


def lines(path: Path) -> Iterator[bytes]:
    """Every whole line, oldest first, without line breaks."""
    for file in files(path):
        with open(file, "rb") as opened:
            for line in opened:
                if line.endswith(b"\n"):
                    yield line[:-1]


def last_head(path: Path) -> Head:
    """The head of what is on disk."""
    for file in reversed(files(path)):
        line = _last_line(file)
        if line is not None:
            found = verify([line])
            return Head(found.first_seq, sha256(line).hexdigest()) if found.fault is None else START
    return START


def _first_seq(oldest_first: list[Path]) -> int | None:
    """The number of the oldest line in these files, None where it can't be told."""
    for file in oldest_first[:1]:
        with open(file, "rb") as opened:
            found = verify([opened.readline().removesuffix(b"\n")])
        return found.first_seq if found.fault is None else None
    return None


def _last_line(path: Path) -> bytes | None:
    """The last whole line; lines are bounded by the request sizes, so the last MiBs hold one."""
    with open(path, "rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 4 * 1024 * 1024))
        whole = file.read().rpartition(b"\n")[0]
    return whole.rpartition(b"\n")[2] or None


def _ends_whole(path: Path) -> bool:
    with open(path, "rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"
