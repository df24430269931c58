"""``loopsy logs``: the audit log for a person, as it grows if asked to, and whether anyone has changed it."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from loopsy.cli import arguments, render
from loopsy.errors import DataDirError, UsageError
from loopsy.store.layout import Layout

POLL_S = 0.2
HEAD_FACT = "audit-head"
"""Where the daemon remembers the newest line and the log's begin, in the table ``facts``."""
ROTATIONS = 5
"""So often a log that changes while it is read is read anew."""
DETAILS = {"command": "$ ", "key": "key ", "file": "file "}
"""What of a record's ``what`` is shown, in this order."""


def fill(parser: arguments.Parser, name: str) -> None:
    """The parser of ``logs``."""
    arguments.describe(
        parser,
        "Show the audit log: who asked this machine for what, and how it ended.\n"
        "With --verify, follow its chain of hashes instead: exit status 1 if a line was changed, moved or cut off.",
        "loopsy logs -n 20\nloopsy logs -f\nloopsy logs --verify",
        run,
    )
    parser.add_argument("-f", "--follow", action="store_true", help="go on as lines are added, until Ctrl-C")
    parser.add_argument("-n", "--lines", type=int, default=50, metavar="N", help="how many (default: %(default)s)")
    parser.add_argument("--verify", action="store_true", help="check that no line was changed or removed")
    parser.add_argument(
        "--json",
        action="store_true",
        default=argparse.SUPPRESS,
        help="print the lines as they are, one JSON object each",
    )


def run(args: argparse.Namespace) -> int:
    """Show or verify.

    :raises UsageError: :raises DataDirError: the log can't be read.
    """
    if args.lines < 0:
        raise UsageError("-n takes 0 or more")
    layout = arguments.layout_of(args)
    try:
        return verify(layout, args) if args.verify else show(layout, args)
    except OSError as error:
        raise DataDirError(f"{layout.audit} can't be read: {(error.strerror or str(error)).lower()}") from None


# -- showing ----------------------------------------------------------------------------------------------------------
def show(layout: Layout, args: argparse.Namespace) -> int:
    """The newest lines, then those that come."""
    raw = arguments.wants_json(args)
    follower = Follower(layout.audit) if args.follow else None
    lines = newest(layout.audit, args.lines)
    if not lines and follower is None and not raw:
        print("the audit log is empty")
    for line in lines:
        _print(line, raw)
    if follower is not None:
        sys.stdout.flush()
        _follow(follower, raw)
    return 0


def _follow(follower: Follower, raw: bool) -> None:
    while True:
        for line in follower.new():
            _print(line, raw)
        sys.stdout.flush()
        time.sleep(POLL_S)


def _print(line: bytes, raw: bool) -> None:
    text = line.decode("utf-8", "replace")
    print(text if raw and not sys.stdout.isatty() else render.clean(text) if raw else readable(text))


def newest(path: Path, number: int) -> list[bytes]:
    """The last ``number`` lines, of as many files as that takes; oldest first."""
    from loopsy.store.audit import files

    found: deque[bytes] = deque()
    for file in reversed(files(path)):
        if len(found) >= number:
            break
        with open(file, "rb") as opened:
            last = deque((line[:-1] for line in opened if line.endswith(b"\n")), maxlen=number - len(found))
        found.extendleft(reversed(last))
    return list(found)


class Follower:
    """Lines as they are added, through rotations: a file that was renamed is read to its end first."""

    def __init__(self, path: Path) -> None:
        """What stands there now is old."""
        self._path = path
        self._rest = b""
        self._file = self._open()
        if self._file is not None:
            self._file.seek(0, os.SEEK_END)

    def _open(self, number: int = 0) -> IO[bytes] | None:
        from loopsy.store.audit import numbered

        try:
            return open(numbered(self._path, number), "rb")
        except FileNotFoundError:
            return None

    def new(self) -> Iterator[bytes]:
        """The whole lines that came since."""
        was_replaced = self._was_replaced()  # asked first: what is added between the two is read from the right file
        yield from self._read()
        for file in self._newer() if was_replaced else []:
            if self._file is not None:
                self._file.close()
            self._file, self._rest = file, b""
            yield from self._read()

    def _newer(self) -> list[IO[bytes]]:
        """The files begun since ours was, oldest first: small ones may be rotated faster than we look. Opened from the
        newest on, so that a rotation meanwhile shows one twice and hides none."""
        found: dict[tuple[int, int], IO[bytes]] = {}
        number = 0
        while (file := self._open(number)) is not None and _identity(file) != (self._file and _identity(self._file)):
            found.setdefault(_identity(file), file)
            number += 1
        return [*reversed(found.values())]

    def _read(self) -> Iterator[bytes]:
        if self._file is not None:
            *lines, self._rest = (self._rest + self._file.read()).split(b"\n")
            yield from lines

    def _was_replaced(self) -> bool:
        try:
            now = self._path.stat()
        except FileNotFoundError:
            return False
        if self._file is None:
            return True
        return _identity(self._file) != (now.st_dev, now.st_ino)


def _identity(file: IO[bytes]) -> tuple[int, int]:
    found = os.fstat(file.fileno())
    return found.st_dev, found.st_ino


def readable(text: str) -> str:
    """One record for a person; a line that is none is shown as it is, made harmless."""
    try:
        record = json.loads(text)
        stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record["time"] / 1000))
        outcome = f"{record['status']}" + (f"/{record['code']}" if record.get("code") else "")
        what, took = _what(record), render.span((record.get("ms") or 0) / 1000)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, OSError):
        return f"?  {render.clean(text)}"
    return f"{stamp}  {render.clean(record.get('who')):<12}  {render.clean(outcome):<8}  {took:>7}  {what}"


def _what(record: dict[str, Any]) -> str:
    what = record.get("what") or {}
    shown = what["path"] if "peer" in what and "path" in what else record.get("path")
    words = [str(record.get("method")), str(shown)]
    if "peer" in what:
        words.append(f"on {what['peer']}")
    words += [f"{mark}{what[name]}" for name, mark in DETAILS.items() if name in what]
    if "direction" in what:
        words.append(f"{what['direction']} {', '.join(map(str, what.get('sources', ())))} → {what.get('destination')}")
    if "exit" in what or "signal" in what:
        words.append(f"→ {what.get('signal') or what.get('exit')}")
    return render.clean(" ".join(words))


# -- verifying --------------------------------------------------------------------------------------------------------
def verify(layout: Layout, args: argparse.Namespace) -> int:
    """Follow the chain."""
    result = check(layout)
    if arguments.wants_json(args):
        render.print_json(result)
    elif result["fault"] is None:
        print(f"{render.count(result['lines'], 'line')}, unbroken")
    else:
        fault = result["fault"]
        print(f"{fault['file']}:{fault['line']}: {render.clean(fault['text'])}")
    return 0 if result["fault"] is None else 1


def check(layout: Layout) -> dict[str, Any]:
    """What following the chain found: ``lines``, and the first ``fault`` with its file and line, or None."""
    from loopsy.core import audit
    from loopsy.store.audit import lines

    for _ in range(ROTATIONS):
        expected = remembered(layout)  # read first: the log may grow meanwhile, but only beyond this line
        found = audit.verify(lines(layout.audit), expected and expected.head, expected.begin if expected else 0)
        if found.fault is None or expected == remembered(layout):
            break  # else it was rotated under our eyes, and the oldest file is rightly gone
    fault = None
    if found.fault is not None:
        file, number = place(layout.audit, found.fault.line)
        fault = {"file": str(file), "line": number, "text": found.fault.text}
    return {"lines": found.lines, "fault": fault}


def remembered(layout: Layout) -> Any:
    """What the daemon remembers of the log (a ``core.audit.Remembered``), or None.

    :raises DataDirError: the database can't be read.
    """
    import sqlite3

    from loopsy.core.audit import Remembered
    from loopsy.store.database import get_fact

    if not layout.database.exists():
        return None
    try:
        with open_read_only(layout) as connection:
            fact = get_fact(connection, HEAD_FACT)
    except sqlite3.Error as error:
        raise DataDirError(f"{layout.database} can't be read: {error}") from None
    return Remembered.of(fact)


def open_read_only(layout: Layout) -> Any:
    """The database, for a ``with`` that closes it. Works beside a running daemon and changes nothing in it; SQLite may
    leave its empty ``-wal`` and ``-shm`` there, with the database's own permissions."""
    import sqlite3
    from contextlib import closing

    return closing(sqlite3.connect(f"{layout.database.as_uri()}?mode=ro", uri=True, timeout=5))


def place(path: Path, number: int) -> tuple[Path, int]:
    """The file and its line where the log's line ``number`` (from 1, over all files) stands or should stand."""
    from loopsy.store.audit import files

    file, length = path, 0
    for file in files(path):
        number -= length
        with open(file, "rb") as opened:
            length = sum(1 for line in opened if line.endswith(b"\n"))
        if number <= length:
            break
    return file, number
