"""Who takes part in tests of pairing: people at terminals. Who sits between two machines is in between.py."""

from __future__ import annotations

import codecs
import os
import re
import select
import sys
import time

from ptyprocess import PtyProcess

from loopsy.testing.nodes import Node
from tests.integration.conftest import PATIENCE_S


class Person:
    """Somebody at a terminal, running one ``loopsy`` command."""

    def __init__(self, node: Node, *words: str) -> None:
        argv = [sys.executable, "-m", "loopsy.cli.main", *words]
        self._process = PtyProcess.spawn(argv, env=node.environment, cwd=node.environment["HOME"], dimensions=(40, 100))
        self._decoder = codecs.getincrementaldecoder("utf-8")()  # a read may end inside of a character
        self.seen = ""

    def sees(self, pattern: str) -> str:
        """Wait for a pattern on the screen; its first group, or all of it. What came before it is done with."""
        end = time.monotonic() + PATIENCE_S
        while (found := re.search(pattern, self.seen)) is None:
            assert time.monotonic() < end, (pattern, self.seen)
            assert self._read(), f"the command ended without {pattern!r}: {self.seen!r}"
        self.seen = self.seen[found.end() :]
        return found.group(found.lastindex or 0)

    def _read(self) -> bool:
        if not select.select([self._process.fd], [], [], 0.2)[0]:
            return True
        try:
            self.seen += self._decoder.decode(os.read(self._process.fd, 4096))
        except OSError:
            return False
        return True

    def types(self, text: str) -> None:
        """And presses Enter."""
        self._process.write(f"{text}\n".encode())

    def interrupts(self) -> None:
        """Ctrl-C."""
        self._process.sendintr()

    def ends(self) -> int:
        """The command's exit status; ``seen`` then holds what it said at the end."""
        end = time.monotonic() + PATIENCE_S
        while self._read():
            assert time.monotonic() < end, self.seen
        status = self._process.wait()
        self._process.close()
        return int(status)
