"""Reading the audit log from its newest end, page by page, at the cost of a page."""

from __future__ import annotations

import mmap
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from loopsy.store.audit import files

SEQ = re.compile(rb'\{"seq":(\d+),')


def newest_first(path: Path) -> Iterator[bytes]:
    """Every whole line, the newest first, without line breaks."""
    for file in reversed(files(path)):
        with open(file, "rb") as opened:
            if file.stat().st_size:
                with mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as data:
                    yield from _backwards(data)


def _backwards(data: mmap.mmap) -> Iterator[bytes]:
    end = data.rfind(b"\n")
    while end > 0:
        start = data.rfind(b"\n", 0, end) + 1
        yield data[start:end]
        end = start - 1


def page(path: Path, before: int | None, word: str, limit: int) -> list[bytes]:
    """At most ``limit`` lines older than number ``before`` which hold ``word``, the newest first."""
    needle = word.lower().encode()
    lines = (line for line in newest_first(path) if _is_before(line, before) and needle in line.lower())
    return list(islice(lines, limit))


def _is_before(line: bytes, before: int | None) -> bool:
    match = SEQ.match(line)
    return match is not None and (before is None or int(match[1]) < before)
