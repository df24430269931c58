"""Plain text for people: tables, times, sizes; and JSON for programs.

Whatever another machine, a file or a command may have put into a text is shown by ``clean``: a terminal obeys escape
sequences, so none gets through.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence


def clean(value: object) -> str:
    """Text without what a terminal would obey (control characters, those that turn the direction of writing, half
    characters); such a one is shown as its escape, ``\\x1b``."""
    text = str(value)
    return text if text.isprintable() else "".join(c if c.isprintable() else _escape(ord(c)) for c in text)


def clean_text(text: str) -> str:
    """The same for text of several lines: line breaks and tabs stay."""
    return "\n".join("\t".join(clean(part) for part in line.split("\t")) for line in text.split("\n"))


def _escape(number: int) -> str:
    if number < 0x100:
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def print_json(value: object) -> None:
    """One document. On a terminal only ASCII goes out, since JSON leaves C1 control characters as they are."""
    print(json.dumps(value, ensure_ascii=sys.stdout.isatty(), indent=2))


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Columns as wide as their widest cell; the last is not padded."""
    cells = [[column.upper() for column in head], *([clean(cell) for cell in row] for row in rows)]
    widths = [max(len(row[at]) for row in cells) for at in range(len(head))]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in cells)
    return "\n".join(line.rstrip() for line in lines)


def facts(pairs: Iterable[tuple[str, object]]) -> str:
    """Names and values below each other."""
    shown = [(name, clean(value)) for name, value in pairs]
    width = max((len(name) for name, _ in shown), default=0)
    return "\n".join(f"  {name.ljust(width)}  {value}" for name, value in shown)


def size(count: float) -> str:
    """Bytes, in the unit that suits (1024 to the next)."""
    if count < 1024:
        return f"{count:.0f} B"
    for unit in ("KiB", "MiB", "GiB"):
        count /= 1024
        if count < 1024:
            return f"{count:.1f} {unit}"
    return f"{count / 1024:.1f} TiB"


def span(seconds: float) -> str:
    """A length of time in its two largest units."""
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, days = minutes // 60, minutes // 1440
    if not hours:
        return f"{minutes} min {rest} s"
    if not days:
        return f"{hours} h {minutes % 60} min"
    return f"{days} d {hours % 24} h"


def ago(then_ms: float, now_ms: float) -> str:
    """How long ago, in its largest unit; 0 is never."""
    if not then_ms:
        return "never"
    seconds = (now_ms - then_ms) / 1000
    if seconds < 1:
        return "now"
    for length, unit in ((86400, "d"), (3600, "h"), (60, "min"), (1, "s")):
        if seconds >= length:
            return f"{seconds // length:.0f} {unit} ago"
    return "now"


def count(number: int, one: str, many: str | None = None) -> str:
    """``1 peer``, ``2 peers``."""
    return f"{number} {one if number == 1 else many or one + 's'}"
