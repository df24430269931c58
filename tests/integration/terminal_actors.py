"""Who sits at terminals in the tests: the real command in a terminal of its own, and bare WebSockets."""

from __future__ import annotations

import json
import os
import re
import select
import sys
import time
from collections.abc import Callable
from typing import Any

import psutil
import pyte
from ptyprocess import PtyProcess, PtyProcessError

from loopsy.client.local import LocalDaemon
from loopsy.client.websocket import WebSocket
from loopsy.errors import LoopsyError
from loopsy.testing.nodes import Node
from loopsy.wire import urls
from loopsy.wire.terminals import SUBPROTOCOL
from tests.waiting import PATIENCE_S

NOT_PYTES = re.compile(rb"\x1b\[[>?][0-9;]*m")
"""pyte takes xterm's key options for colours, and fails at some."""


def hang_up(process: Any) -> None:
    """Close a PtyProcess's terminal; its program is gone then."""
    try:
        process.close(force=True)
    except PtyProcessError:  # killed by now; on a busy machine it isn't gone within the tenth of a second it is given
        process.wait()


class Person:
    """The real command in a terminal, whose screen is kept by pyte."""

    def __init__(self, node: Node, *argv: str, columns: int = 80, lines: int = 24) -> None:
        self._screen = pyte.Screen(columns, lines)
        self._stream = pyte.ByteStream(self._screen)
        self.output = b""
        environment = {**node.environment, "TERM": "xterm-256color", "SHELL": "/bin/sh"}
        command = [sys.executable, "-m", "loopsy.cli.main", *argv]
        self.process = PtyProcess.spawn(
            command, cwd=node.environment["HOME"], env=environment, dimensions=(lines, columns)
        )

    def __enter__(self) -> Person:
        return self

    def __exit__(self, *_: object) -> None:
        hang_up(self.process)

    def read(self, seconds: float = 0.05) -> bool:
        """Take what is there; whether something came."""
        if not select.select([self.process.fd], [], [], seconds)[0]:
            return False
        try:
            data = os.read(self.process.fd, 65536)
        except OSError:
            return False
        self.output += data
        self._stream.feed(NOT_PYTES.sub(b"", data))
        return bool(data)

    def sees(self, text: str) -> Person:
        """Waits until it stands on the screen."""
        self.until(lambda: text in "\n".join(self.display), f"{text!r} on the screen")
        return self

    def until(self, condition: Callable[[], Any], what: str) -> None:
        """Waits for it, while reading."""
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < deadline, f"{what} did not come about:\n" + "\n".join(self.display)
            self.read()

    @property
    def display(self) -> list[str]:
        """Its lines."""
        return [line.rstrip() for line in self._screen.display]

    @property
    def cursor(self) -> tuple[int, int]:
        """Column and line."""
        return self._screen.cursor.x, self._screen.cursor.y

    def types(self, text: str | bytes) -> Person:
        """At the keyboard."""
        self.process.write(text.encode() if isinstance(text, str) else text)
        return self

    def resizes(self, columns: int, lines: int) -> Person:
        """The window."""
        self._screen.resize(lines, columns)
        self.process.setwinsize(lines, columns)
        return self

    def status(self) -> int:
        """Waits for the end; the exit status as a shell counts."""
        self.until(lambda: not self.process.isalive(), "the end")
        while self.read(0):
            pass
        if self.process.signalstatus:
            return 128 + int(self.process.signalstatus)
        return int(self.process.exitstatus)


class Seat:
    """A viewer without a command: a WebSocket at a terminal."""

    def __init__(self, node: Node, terminal_id: str, peer: str | None = None, query: str = "mode=write") -> None:
        path = urls.on_peer(urls.fill(urls.TERMINAL_ATTACH, terminal_id=terminal_id), peer)
        self.socket = WebSocket(LocalDaemon(node.root), f"{path}?{query}", SUBPROTOCOL)
        self.told: list[Any] = []
        self.output = b""

    def __enter__(self) -> Seat:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def read(self, seconds: float = 0.05) -> None:
        """Take what is there."""
        if self.socket.has_early or select.select([self.socket], [], [], seconds)[0]:
            for message in self.socket.receive():
                if isinstance(message, bytes):
                    self.output += message
                else:
                    self.told.append(message)

    def until(self, condition: Callable[[], Any], what: str = "the condition") -> Any:
        """Waits for it, while reading."""
        deadline = time.monotonic() + PATIENCE_S
        while not (found := condition()):
            assert time.monotonic() < deadline, f"{what} did not come about: {self.told[-3:]} {self.output[-300:]!r}"
            assert not self.socket.is_closed, f"closed before {what}: {self.told[-3:]}"
            self.read()
        return found

    def sees(self, data: bytes) -> Seat:
        """Waits for this output."""
        self.until(lambda: data in self.output, repr(data))
        return self

    def is_told(self, kind: str) -> Any:
        """Waits for a message of this type; the last one."""
        return self.until(lambda: [words for words in self.told if words["type"] == kind], kind)[-1]

    def types(self, data: bytes) -> Seat:
        """Input."""
        self.socket.send(data)
        return self

    def ends(self) -> Any:
        """Waits for the end; what was said at it."""
        deadline = time.monotonic() + PATIENCE_S
        while self.socket.has_early or not self.socket.is_closed:
            assert time.monotonic() < deadline, "it did not end"
            self.read()
        return next((words for words in self.told if words["type"] == "exit"), None)


def opened(node: Node, command: str | None = None, *args: str, peer: str | None = None, **more: Any) -> Any:
    """A new terminal, as the answer has it."""
    body = {**({"command": command, "args": list(args)} if command else {}), **more}
    answer = node.ask("POST", f"{f'/peers/{peer}' if peer else ''}/terminals", body)
    assert answer.status == 201, answer.body
    return answer.body


def refusal(attempt: Callable[[], Any]) -> LoopsyError:
    """The error of an attempt that must fail."""
    try:
        attempt()
    except LoopsyError as error:
        return error
    raise AssertionError("it was let in")


def is_alive(pid: int) -> bool:
    """Whether a process runs (not: waits to be reaped)."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def rss_mb(node: Node) -> float:
    """Of its daemon."""
    assert node.process is not None
    return float(psutil.Process(node.process.pid).memory_info().rss / 1e6)


def lines_of_audit(node: Node, path: str) -> list[Any]:
    """Audit lines of a route."""
    lines = [json.loads(line) for line in (node.root / "logs" / "audit.jsonl").read_text().splitlines()]
    return [line for line in lines if line.get("path", "").endswith(path)]
