"""Recordings of terminals in asciinema's format (asciicast v2), readable by this user only."""

from __future__ import annotations

import codecs
import json
import os
import time
from pathlib import Path
from typing import IO

MOST_BYTES = 256 * 1024 * 1024
"""A recording ends here: a terminal that prints without end must not fill the disk."""


class Recording:
    """One file being written. Whatever goes wrong with it, the terminal goes on."""

    def __init__(self, path: Path, columns: int, lines: int, title: str) -> None:
        """:raises OSError: it can't be made."""
        path.parent.mkdir(mode=0o700, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        self.path = path
        self._file: IO[str] | None = open(descriptor, "w", encoding="utf-8", errors="replace")  # noqa: SIM115 - closed by close()
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._began = time.monotonic()
        self._size = 0
        head = {"version": 2, "width": columns, "height": lines, "timestamp": int(time.time()), "title": title}
        self._line(json.dumps(head))

    def printed(self, data: bytes) -> None:
        """Some output."""
        text = self._decoder.decode(data)
        if text:
            self._event("o", text)

    def resized(self, columns: int, lines: int) -> None:
        """Another size."""
        self._event("r", f"{columns}x{lines}")

    def _event(self, kind: str, text: str) -> None:
        self._line(json.dumps([round(time.monotonic() - self._began, 6), kind, text], ensure_ascii=False))

    def _line(self, line: str) -> None:
        if self._file is None:
            return
        self._size += len(line.encode("utf-8", "replace")) + 1
        try:
            self._file.write(line + "\n")
        except OSError:
            self._size = MOST_BYTES + 1
        if self._size > MOST_BYTES:
            self.close()

    def close(self) -> None:
        """No more."""
        file, self._file = self._file, None
        try:
            if file is not None:
                file.close()
        except OSError:
            pass  # a full disk: what was written stays
