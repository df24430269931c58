"""An existing 1.x node, as far as messages need one: health, identity, handshake, and a context store behind a key."""

from __future__ import annotations

import json
import secrets
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import unquote

BASE = "/api/v1"


class OldNode:
    """Its context entries, and the requests that it got."""

    def __init__(self, hostname: str = "kais-mac", capabilities: tuple[str, ...] = ("execute", "context")) -> None:
        self.hostname, self.capabilities = hostname, capabilities
        self.key = secrets.token_hex(32)
        """What it lets in."""
        self.node_id = secrets.token_hex(16)
        self.entries: dict[str, dict[str, Any]] = {}
        self.asked: list[str] = []
        self.refuses: tuple[int, int] | None = None
        """Status and code with which it answers every PUT."""
        handler = type("Handler", (_Handler,), {"node": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.port: int = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)

    @property
    def envelopes(self) -> list[Any]:
        """What lies in its inbox, as its own reader sees it."""
        start = f"inbox:{self.hostname}:"
        return [json.loads(entry["value"]) for key, entry in self.entries.items() if key.startswith(start)]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    node: OldNode

    def log_message(self, *_: object) -> None:
        """Nothing."""

    def _say(self, status: int, value: object) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _refuse(self, status: int, code: int) -> None:
        self._say(status, {"error": {"code": code, "message": "no"}})

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        node, path = self.node, self.path.removeprefix(BASE)
        node.asked.append(f"{self.command} {path}")
        if path == "/health":
            self._say(200, {"status": "ok", "nodeId": node.node_id, "uptime": 1, "version": "1.0.0"})
        elif self.headers.get("Authorization") != f"Bearer {node.key}":
            self._refuse(403, 1002)
        elif path in ("/identity", "/peers/handshake"):
            itself = {"nodeId": node.node_id, "hostname": node.hostname, "platform": "darwin", "version": "1.0.0"}
            self._say(200, {**itself, "port": node.port, "capabilities": list(node.capabilities)})
        elif path.startswith("/context/"):
            self._context(unquote(path.removeprefix("/context/")), body)
        else:
            self._refuse(404, 9003)

    def _context(self, key: str, body: bytes) -> None:
        if self.command == "PUT" and self.node.refuses is not None:
            self._refuse(*self.node.refuses)
        elif self.command == "PUT":
            put, now = json.loads(body), int(time.time() * 1000)
            entry = {"key": key, "fromNodeId": "x", "createdAt": now, "updatedAt": now, **put}
            self.node.entries[key] = entry
            self._say(200, entry)
        elif key in self.node.entries:
            self._say(200, self.node.entries[key])
        else:
            self._refuse(404, 5001)

    do_GET = do_PUT = do_POST = _answer
