"""Whether an MCP server really starts: it is started as agents do, greeted over its pipes, and asked for its tools.

By hand, since importing the SDK takes longer than the question.
https://modelcontextprotocol.io/specification/2025-06-18/basic/lifecycle
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from typing import IO, Any

from loopsy.agents import calling
from loopsy.errors import LoopsyError

ANSWER_S = 10.0
"""The server answers within a second; codex, the least patient of the agents, waits this long."""
LINE_MOST = 4 << 20
PAGES_MOST = 20
"""Servers may list tools in pages; ours has one."""
LAST_WORDS = 400
GREETING = {
    "protocolVersion": "2025-06-18",
    "capabilities": {},
    "clientInfo": {"name": "loopsy-status", "version": "1"},
}


class NoHandshake(LoopsyError):
    """The server does not answer as an MCP server."""


def count_tools(command: Sequence[str], timeout: float = ANSWER_S) -> int:
    """How many tools the server offers that ``command`` starts.

    :raises NoHandshake: it can't be started, ends, or does not answer within ``timeout`` seconds.
    """
    with tempfile.TemporaryFile() as words:
        try:
            with calling.running(command, _environment(), subprocess.PIPE, words) as process:
                return _converse(process, time.monotonic() + timeout, timeout)
        except calling.CallFailed as error:
            raise NoHandshake(error.message) from None
        except NoHandshake as error:
            words.seek(max(0, words.seek(0, os.SEEK_END) - LAST_WORDS))
            last = words.read().decode("utf-8", "replace").strip()
            raise NoHandshake(
                error.message, hint=f"its last words: {last.splitlines()[-1]}" if last else None
            ) from None


def _environment() -> dict[str, str]:
    """Nothing of ours: an agent would not hand on which data directory we use."""
    return {name: value for name, value in os.environ.items() if not name.startswith("LOOPSY_")}


def _converse(process: subprocess.Popen[bytes], deadline: float, timeout: float) -> int:
    assert process.stdin is not None
    assert process.stdout is not None
    lines = _lines(process.stdout, deadline, timeout)
    _ask(process.stdin, lines, 1, "initialize", GREETING)
    _say(process.stdin, {"method": "notifications/initialized"})
    count, cursor = 0, None
    for number in range(2, PAGES_MOST + 2):
        page = _ask(process.stdin, lines, number, "tools/list", {"cursor": cursor} if cursor else {})
        tools = page.get("tools")
        if not isinstance(tools, list):
            raise NoHandshake("the server lists no tools")
        count, cursor = count + len(tools), page.get("nextCursor")
        if not cursor:
            break
    return count


def _ask(stdin: IO[bytes], lines: Iterator[bytes], number: int, method: str, params: Any) -> dict[str, Any]:
    _say(stdin, {"id": number, "method": method, "params": params})
    for line in lines:
        try:
            message = json.loads(line)
        except ValueError:
            continue  # agents pass over it too
        if isinstance(message, dict) and message.get("id") == number and "method" not in message:
            if isinstance(result := message.get("result"), dict):
                return result
            raise NoHandshake(f"the server refuses {method}: {json.dumps(message.get('error'))[:LAST_WORDS]}")
    raise NoHandshake("the server ended without an answer")


def _say(stdin: IO[bytes], message: dict[str, Any]) -> None:
    try:
        stdin.write(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")
        stdin.flush()
    except OSError:
        raise NoHandshake("the server ended without an answer") from None


def _lines(stdout: IO[bytes], deadline: float, timeout: float) -> Iterator[bytes]:
    """Lines as they come.

    :raises NoHandshake: the time is over, or a line does not end.
    """
    buffer, arrivals = b"", calling.arriving(stdout)
    while True:
        left = deadline - time.monotonic()
        try:
            if left <= 0:
                raise queue.Empty  # one that never stops is no better than one that says nothing
            _, piece = arrivals.get(timeout=left)
        except queue.Empty:
            raise NoHandshake(f"the server did not answer within {timeout:g} s") from None
        if not piece:
            return
        *whole, buffer = (buffer + piece).split(b"\n")
        yield from whole
        if len(buffer) > LINE_MOST:
            raise NoHandshake("the server says what is no MCP")
