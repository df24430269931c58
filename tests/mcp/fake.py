"""A daemon that is a table of answers, and an MCP client in this process that calls the tools over it."""

from __future__ import annotations

import json
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import anyio
from mcp import Client
from mcp_types import CallToolResult

from loopsy.errors import ConnectionBroken, UnknownRoute
from loopsy.mcp.server import Bridge, make_server
from loopsy.store.layout import Layout
from loopsy.wire import frames
from tests.waiting import PATIENCE_S

OWN, KAI = "own-node-id", "6f1c7c1e-0000-4000-8000-00000000000a"
KEY, PEER_KEY, PIN = "5e" * 32, "c4" * 32, "ab" * 32
CONFIG = f"""\
server:
  port: 19532
auth:
  apiKey: {KEY}
  allowedKeys:
    kai: "{PEER_KEY}"
execution:
  denylist: [a-word-of-more-than-sixteen-letters]
"""
PEER = {
    "nodeId": KAI, "hostname": "kai-laptop", "address": "192.168.1.7", "port": 19532, "platform": "linux",
    "version": "1.0.0", "capabilities": ["execute"], "status": "online", "lastSeen": 1_700_000_000_000, "trusted": True,
    "name": "kai", "pin": PIN, "pinnedAt": 1, "scopes": ["execute"], "failureCount": 0,
}  # fmt: skip


class FakeAnswer:
    """An answer of ``stream``: pieces, then its end, unless it holds until it is broken off."""

    def __init__(self, daemon: FakeDaemon, pieces: Sequence[bytes], content_type: str, hold: bool) -> None:
        self._daemon, self._pieces, self._hold = daemon, pieces, hold
        self.headers = {"content-type": content_type, "x-loopsy-job-id": "job-1"}

    def __enter__(self) -> FakeAnswer:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def wait_at_most(self, seconds: float | None) -> None:
        pass

    def stream(self) -> Iterator[bytes]:
        yield from self._pieces
        if self._hold:
            self._daemon.reached.set()
            assert self._daemon.broken_off.wait(PATIENCE_S)
            self._daemon.ended.set()


class FakeDaemon:
    """Answers by ``"METHOD path"``: a value, an error to raise, or a function of the body."""

    def __init__(self, root: Path, answers: dict[str, Any] | None = None) -> None:
        self.layout = Layout(root)
        self.layout.config.write_text(CONFIG)
        self.layout.node_id.write_text(f"{OWN}\n")
        self.answers = {"GET /api/v1/peers": {"peers": [PEER]}, **(answers or {})}
        self.asked: list[tuple[str, str, Any]] = []
        self.reached, self.broken_off, self.ended = threading.Event(), threading.Event(), threading.Event()

    def ask(self, method: str, path: str, body: Any = None, timeout: float | None = None) -> Any:
        self.asked.append((method, path, body))
        answer = self.answers.get(f"{method} {path}", UnknownRoute())
        answer = answer(body) if callable(answer) else answer
        if isinstance(answer, Exception):
            raise answer
        return answer

    def stream(self, method: str, path: str, body: Any = None, headers: Any = None, timeout: Any = None) -> Any:
        return self.ask(method, path, body)

    def break_off(self) -> None:
        self.broken_off.set()

    def hangs(self, _: Any) -> Any:
        """An answer that never comes."""
        self.reached.set()
        assert self.broken_off.wait(PATIENCE_S)
        self.ended.set()
        raise ConnectionBroken

    def runs(self, out: bytes = b"", err: bytes = b"", hold: bool = False, **outcome: Any) -> FakeAnswer:
        """An answer of execute/stream."""
        pieces = [frames.encode(frames.OUT, out[at : at + 65536]) for at in range(0, len(out), 65536)]
        pieces += [frames.encode(frames.ERR, err)] if err else []
        ended = {"exitCode": 0, "killed": False, "duration": 5, **outcome}
        pieces += [] if hold else [frames.encode(frames.EXIT, json.dumps(ended).encode())]
        return FakeAnswer(self, pieces, frames.CONTENT_TYPE, hold)


def with_client(daemon: FakeDaemon, talk: Callable[[Client], Awaitable[Any]], mode: str = "auto") -> Any:
    """What ``talk`` returns, given a client of a server over this daemon."""
    bridge = Bridge(lambda: daemon)  # type: ignore[arg-type,return-value]

    async def main() -> Any:
        async with Client(make_server(bridge), mode=mode) as client:
            return await talk(client)

    try:
        return anyio.run(main)
    finally:
        bridge.outputs.remove()


def call(daemon: FakeDaemon, name: str, **arguments: Any) -> CallToolResult:
    """One call."""

    async def talk(client: Client) -> CallToolResult:
        return await client.call_tool(name, arguments)

    result: CallToolResult = with_client(daemon, talk)
    return result


def good(daemon: FakeDaemon, name: str, **arguments: Any) -> dict[str, Any]:
    """One call that works: what it gives, the same as text and structured."""
    result = call(daemon, name, **arguments)
    assert not result.is_error, result.content
    assert result.structured_content == json.loads(text_of(result))
    return dict(result.structured_content or {})


def bad(daemon: FakeDaemon, name: str, **arguments: Any) -> str:
    """One call that fails: what it says."""
    result = call(daemon, name, **arguments)
    assert result.is_error, result.content
    return text_of(result)


def text_of(result: CallToolResult) -> str:
    """Its text."""
    (content,) = result.content
    assert content.type == "text"
    return content.text
