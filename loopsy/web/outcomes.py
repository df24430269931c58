"""How a command on a peer ended, for our own audit line: read off the two ends of its answer, whatever lies between.

The answer itself is forwarded as it comes and is not parsed. What is found here is what the peer said.
"""

from __future__ import annotations

import json
import re
from typing import Any

from loopsy.wire import frames, sse

HEAD, TAIL = 256, 1024
"""Bytes kept of either end: an Outcome is smaller."""
WHOLE = re.compile(rb'\{"jobId":"([^"\\]*)","exitCode":(null|-?\d+),')


class Ends:
    """The first and last bytes of an answer."""

    def __init__(self) -> None:
        self.head = self.tail = b""

    def add(self, data: bytes) -> None:
        """Some of it passes."""
        if len(self.head) < HEAD:
            self.head += data[: HEAD - len(self.head)]
        self.tail = data[-TAIL:] if len(data) >= TAIL else (self.tail + data)[-TAIL:]

    def outcome(self, content_type: bytes) -> dict[str, Any]:
        """``exit`` and ``signal`` as an audit line names them; empty where the answer does not tell."""
        kind = content_type.partition(b";")[0].strip().decode("latin-1")
        read = {
            frames.CONTENT_TYPE: self._of_frames,
            sse.CONTENT_TYPE: self._of_events,
            "application/json": self._of_json,
        }
        try:
            found = read[kind]()
            exit_code, signal = found.get("exitCode"), found.get("signal")
        except (KeyError, ValueError, AttributeError, RecursionError):
            return {}
        known = {"exit": exit_code} if exit_code is None or type(exit_code) is int else {}
        return {**known, "signal": signal[:32]} if isinstance(signal, str) else known

    def _of_frames(self) -> Any:
        """The last frame, if it is an EXIT that ends where the answer does."""
        at = len(self.tail)
        while (at := self.tail.rfind(bytes([frames.EXIT]), 0, at)) >= 0:
            payload = self.tail[at + frames.HEAD.size :]
            if self.tail[at:].startswith(frames.head(frames.EXIT, len(payload))):
                return json.loads(payload)
        raise ValueError("no end")

    def _of_events(self) -> Any:
        """The last event, if it is an exit."""
        name, _, data = self.tail.rstrip(b"\n").rpartition(b"\n")[2].partition(b":")
        event = json.loads(data) if name == b"data" else {}
        if event.get("type") != "exit":
            raise ValueError("no end")
        return event

    def _of_json(self) -> Any:
        """An ExecuteResult: its first fields, and those behind the outputs. A quote within an output is escaped, so the
        last ``"duration":`` is the field."""
        first = WHOLE.match(self.head)
        at = self.tail.rfind(b'"duration":')
        if first is None or at < 0:
            raise ValueError("no result")
        return {**json.loads(b"{" + self.tail[at:]), "exitCode": json.loads(first[2])}
