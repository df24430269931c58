"""``loopsy task`` in a terminal, and a person who types."""

from __future__ import annotations

import re
import select
import shlex
import sys
from collections.abc import Mapping
from types import TracebackType

from ptyprocess import PtyProcessUnicode

from loopsy.cli.mailbox import AGENTS
from loopsy.testing.nodes import Node
from tests.integration.conftest import until
from tests.integration.terminal_actors import hang_up

COMMAND = (sys.executable, "-m", "loopsy.cli.main")
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


def persons(environment: Mapping[str, str]) -> dict[str, str]:
    """Without what says that an agent runs us, should one run the tests."""
    return {name: value for name, value in environment.items() if name not in AGENTS}


class Person:
    """Somebody at a terminal with one command."""

    def __init__(self, node: Node, *words: str, pipeline: str = "{}", **variables: str) -> None:
        """``pipeline``: what a shell runs, with the command in the place of ``{}``."""
        environment = {**persons(node.environment), "TERM": "xterm", **variables}
        line = pipeline.format(shlex.join([*COMMAND, *words]))
        self.process = PtyProcessUnicode.spawn(
            ["/bin/sh", "-c", line], env=environment, cwd=node.environment["HOME"], dimensions=(40, 200)
        )
        self.screen = ""
        """All that was shown, with what was typed."""
        self._read = 0

    def __enter__(self) -> Person:
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        hang_up(self.process)

    def sees(self, text: str) -> str:
        """Wait until it is shown, behind what was waited for last; what was shown up to there."""

        def shown() -> bool:
            if text in self.plain[self._read :]:
                return True
            assert self._more(), f"it ended without {text!r}; it showed:\n{self.screen}"
            return text in self.plain[self._read :]

        until(shown, f"{text!r} in what it shows")
        start, self._read = self._read, self.plain.index(text, self._read) + len(text)
        return self.plain[start : self._read]

    def _more(self) -> bool:
        """Read what there is; False: there will be no more."""
        if select.select([self.process.fd], [], [], 0)[0]:
            try:
                self.screen += self.process.read(4096)
            except EOFError:
                return False
        return True

    @property
    def plain(self) -> str:
        """Without colours and with plain line ends."""
        return ESCAPES.sub("", self.screen).replace("\r\n", "\n")

    def types(self, text: str) -> None:
        """And Enter."""
        self.process.write(text + "\n")

    def interrupts(self) -> None:
        """Ctrl-C."""
        self.process.sendintr()

    def leaves(self) -> int:
        """Read on to the end of the command; its exit status."""
        until(lambda: not self._more(), "the end of the command")
        self.process.wait()
        status = self.process.exitstatus
        return 128 + (self.process.signalstatus or 0) if status is None else int(status)
