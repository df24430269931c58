"""The scripted model API: an HTTP server on loopback that answers as its scenarios say, and keeps what it got.

It speaks three dialects at once, told apart by the path. Agents ask things on the side too (a title, a summary); such
requests offer the model no tools, and get a short text instead of a turn.
"""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self, cast

from attrs import frozen

from loopsy.testing.model_api import anthropic, gemini, openai
from loopsy.testing.model_api.asked import Asked, example, named
from loopsy.testing.model_api.scenario import OVER, Scenario, Turn

HOLD_S = 120.0
"""A turn that nobody releases ends: the agent gives up, and the test says why."""
ASIDE = Turn(say="ok")


@frozen(kw_only=True)
class ModelRequest:
    """One request as it came."""

    method: str
    path: str
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes
    asked: Asked | None
    """What it asked of the model; None if it asked for something else."""

    @property
    def is_turn(self) -> bool:
        """Whether a turn of a scenario answers it."""
        return self.asked is not None and bool(self.asked.offered)

    @property
    def everything(self) -> bytes:
        """All of its bytes, to be searched for what must not be there."""
        head = "\n".join([f"{self.method} {self.path}", *(f"{name}: {value}" for name, value in self.headers.items())])
        return head.encode() + b"\n\n" + self.body


class ModelApi:
    """The server, running from ``with`` to its end. ``url`` is what agents take as their base URL."""

    def __init__(self, *scenarios: Scenario, port: int = 0) -> None:
        self.scenarios = scenarios
        self.requests: list[ModelRequest] = []
        self.faults: list[str] = []
        """What the scenarios asked of an agent that it doesn't have, and requests nobody could read."""
        self._released = threading.Semaphore(0)
        self._server = _Server(("127.0.0.1", port), _Exchange)
        self._server.api = self
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def release(self) -> None:
        """Let one turn go on that holds, or will hold."""
        self._released.release()

    def held(self) -> None:
        """Wait until ``release``, at most HOLD_S."""
        self._released.acquire(timeout=HOLD_S)

    @property
    def turns(self) -> list[ModelRequest]:
        """The requests that turns answered, in the order in which they came."""
        return [request for request in self.requests if request.is_turn]

    @property
    def results(self) -> tuple[str, ...]:
        """What the tools gave the model, as the longest conversation shows it."""
        return max((request.asked.results for request in self.turns if request.asked), key=len, default=())

    def mentions(self, secret: str) -> bool:
        """Whether any request holds that text, in its path, headers or body."""
        plain = secret.encode()
        return any(plain in request.everything for request in self.requests)

    def turn_for(self, asked: Asked) -> Turn:
        """What the model says now."""
        if not asked.offered:
            return ASIDE if asked.schema is None else Turn(say=json.dumps(example(asked.schema)))
        for scenario in self.scenarios:
            if scenario.when in asked.prompt:
                return scenario.turns[asked.turn] if asked.turn < len(scenario.turns) else OVER
        return OVER


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    api: ModelApi


class _Exchange(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    @property
    def api(self) -> ModelApi:
        return cast(_Server, self.server).api

    def do_GET(self) -> None:
        self._keep(b"", None)
        self._json(200, {"object": "list", "data": [], "models": []})

    do_HEAD = do_GET

    def do_POST(self) -> None:
        body = self._body()
        path = self.path.partition("?")[0]
        try:
            content = json.loads(body)
            dialect = _dialect(path)
            asked = dialect.read(content) if dialect else None
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            self.api.faults.append(f"{path}: {error!r}")
            dialect = asked = None
        self._keep(body, asked)
        if dialect is None or asked is None:
            self._json(200, {"totalTokens": 10, "input_tokens": 10})  # token counts, telemetry
            return
        with suppress(ConnectionError):
            self._answer(dialect, asked, content)

    def _body(self) -> bytes:
        if "chunked" in self.headers.get("transfer-encoding", "").lower():
            return b"".join(self._chunks())
        return self.rfile.read(int(self.headers.get("content-length") or 0))

    def _chunks(self) -> Iterator[bytes]:
        while size := int(self.rfile.readline().partition(b";")[0], 16):
            yield self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()

    def _keep(self, body: bytes, asked: Asked | None) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.api.requests.append(
            ModelRequest(method=self.command, path=self.path, headers=headers, body=body, asked=asked)
        )

    def _answer(self, dialect: Any, asked: Asked, content: Any) -> None:
        turn = self.api.turn_for(asked)
        time.sleep(turn.wait)
        if turn.hold:
            self.api.held()
        if turn.status != 200:
            self._refuse(turn.status, "scripted refusal")
            return
        try:
            calls = [named(call, asked.offered, dialect.SHELLS) for call in turn.calls]
        except LookupError as error:
            self.api.faults.append(str(error))
            self._refuse(400, str(error))  # agents don't try that again
            return
        if dialect is openai or _streams(self.path, content):
            self._stream(turn, dialect.events(turn, calls, content))
        else:
            self._json(200, dialect.whole(turn, calls, content))

    def _stream(self, turn: Turn, events: Iterator[bytes]) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for number, event in enumerate(events):
            if turn.crash and number >= 2:
                self._break()
                return
            self.wfile.write(f"{len(event):x}\r\n".encode() + event + b"\r\n")
            time.sleep(turn.pace)
        self.wfile.write(b"0\r\n\r\n")

    def _refuse(self, status: int, message: str) -> None:
        self._json(status, {"type": "error", "error": {"type": "invalid_request_error", "message": message}})

    def _break(self) -> None:
        """End the connection in mid-answer."""
        self.close_connection = True
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def _json(self, status: int, value: Any) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Nothing: ``requests`` has it all."""


def _dialect(path: str) -> Any:
    if path.endswith("/v1/messages"):
        return anthropic
    if path.endswith("/responses"):
        return openai
    return gemini if path.endswith((":generateContent", ":streamGenerateContent")) else None


def _streams(path: str, content: Any) -> bool:
    return "streamGenerateContent" in path or bool(content.get("stream"))
