"""Who takes part in tests of pairing: people at terminals, and somebody between two machines."""

from __future__ import annotations

import http.client
import json
import os
import re
import select
import sys
import threading
import time
from base64 import b64decode, b64encode
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from ptyprocess import PtyProcess

from loopsy.core.pairing_messages import decode
from loopsy.testing.nodes import Node
from tests.integration.conftest import PATIENCE_S


class Person:
    """Somebody at a terminal, running one ``loopsy`` command."""

    def __init__(self, node: Node, *words: str) -> None:
        argv = [sys.executable, "-m", "loopsy.cli.main", *words]
        self._process = PtyProcess.spawn(argv, env=node.environment, cwd=node.environment["HOME"], dimensions=(40, 100))
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
            self.seen += os.read(self._process.fd, 4096).decode()
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




class Relay:
    """A machine between a joiner and an inviter. It passes all on, but for what the hooks say of pairing messages."""

    def __init__(self, port: int) -> None:
        self.target = port
        self.to_inviter: Callable[[bytes], bytes | None] = lambda data: data
        self.to_joiner: Callable[[bytes], bytes | None] = lambda data: data
        self.passed: list[bytes] = []
        relay = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                relay._pass_on(self, "POST")

            def do_GET(self) -> None:
                relay._pass_on(self, "GET")

            def log_message(self, *_: Any) -> None:
                """Not here."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _pass_on(self, handler: BaseHTTPRequestHandler, method: str) -> None:
        handler.close_connection = True
        body: bytes | None = handler.rfile.read(int(handler.headers.get("content-length", 0)))
        is_pairing = "/pair/" in handler.path
        if is_pairing and body:
            body = self._through(body, self.to_inviter)
            if body is None:
                return
        try:
            status, answer = self._ask(handler, method, body)
        except OSError:
            return
        if is_pairing and status == 200:
            changed = self._through(answer, self.to_joiner)
            if changed is None:
                return
            answer = changed
        try:
            handler.send_response(status)
            handler.send_header("connection", "close")
            handler.send_header("content-type", "application/json")
            handler.send_header("content-length", str(len(answer)))
            handler.end_headers()
            handler.wfile.write(answer)
        except OSError:
            pass

    def _ask(self, handler: BaseHTTPRequestHandler, method: str, body: bytes | None) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.target, timeout=30)
        names = ("content-type", "authorization")
        headers = {name: handler.headers[name] for name in names if name in handler.headers}
        try:
            connection.request(method, handler.path, body or None, headers)
            response = connection.getresponse()
            return response.status, response.read()
        except http.client.HTTPException as error:
            raise OSError(str(error)) from None
        finally:
            connection.close()

    def _through(self, body: bytes, hook: Callable[[bytes], bytes | None]) -> bytes | None:
        data = b64decode(json.loads(body)["message"])
        changed = hook(data)
        if changed is None:
            return None
        self.passed.append(changed)
        return json.dumps({"message": b64encode(changed).decode()}).encode()


def cuts(kind: type) -> Callable[[bytes], bytes | None]:
    """A hook that lets no message of this kind through."""
    return lambda data: None if isinstance(decode(data), kind) else data


class Cut:
    """The same, telling when it has, and letting all through once it is ``open``."""

    def __init__(self, kind: type) -> None:
        self.kind = kind
        self.met = threading.Event()
        self.open = False

    def __call__(self, data: bytes) -> bytes | None:
        if self.open or not isinstance(decode(data), self.kind):
            return data
        self.met.set()
        return None
