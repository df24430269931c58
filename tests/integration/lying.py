"""A peer that says of its files whatever a test wants it to say."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

BASE = "/api/v1"
WHEN = 10**18 + 5
Headers = dict[str, str]


def line(path: str, kind: str = "file", **more: Any) -> bytes:
    """A line of a manifest."""
    entry = {"path": path, "type": kind, "size": 0, "mtimeNs": WHEN, "mode": 0o644, **more}
    return json.dumps(entry).encode() + b"\n"


ROOT = line("", "directory", mode=0o755)


class LyingPeer:
    """Its answers: ``manifest`` lines, the bytes of ``fetch``, and ``file``: headers and the body's pieces."""

    def __init__(self) -> None:
        self.manifest: Callable[[], Iterable[bytes]] = lambda: [ROOT]
        self.fetch: Callable[[], Iterable[bytes]] = list
        self.file: Callable[[], tuple[Headers, Iterable[bytes]]] = lambda: ({}, [])
        self.checksum: str | None = None
        self.asked: list[str] = []
        handler = type("Handler", (_Handler,), {"peer": self})
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


def chunked(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """With a proper end."""
    for piece in pieces:
        if piece:
            yield f"{len(piece):x}\r\n".encode() + piece + b"\r\n"
    yield b"0\r\n\r\n"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    peer: LyingPeer

    def log_message(self, *_: object) -> None:
        """Nothing."""

    def _say(self, headers: Headers, pieces: Iterable[bytes]) -> None:
        self.close_connection = True
        fields = (f"{name}: {value}" for name, value in headers.items())
        head = ["HTTP/1.1 200 OK", "Connection: close", *fields, "", ""]
        try:
            self.wfile.write("\r\n".join(head).encode())
            for piece in pieces:
                self.wfile.write(piece)
            self.wfile.flush()
        except OSError:
            pass  # we had enough of it

    def _json(self, value: object) -> None:
        data = json.dumps(value).encode()
        self._say({"Content-Type": "application/json", "Content-Length": str(len(data))}, [data])

    def do_HEAD(self) -> None:
        """A checksum."""
        said = {} if self.peer.checksum is None else {"X-Loopsy-Checksum": self.peer.checksum}
        self._say({"Content-Length": "0", **said}, [])

    def do_GET(self) -> None:
        """Health, or a file."""
        self.peer.asked.append(self.path)
        if self.path.startswith(f"{BASE}/transfer/file"):
            headers, pieces = self.peer.file()
            self._say(headers, pieces)
        else:
            self._json({"status": "ok", "nodeId": "1" * 32, "uptime": 1.0, "version": "1.0.0"})

    def do_POST(self) -> None:
        """A manifest, small files, or a handshake."""
        self.peer.asked.append(self.path)
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or b"{}")
        lines = {"Content-Type": "application/x-ndjson", "Transfer-Encoding": "chunked"}
        if self.path == f"{BASE}/transfer/manifest":
            self._say(lines, chunked([ROOT] if body.get("depth") == 0 else self.peer.manifest()))
        elif self.path == f"{BASE}/transfer/fetch":
            self._say(lines, chunked(self.peer.fetch()))
        else:
            self._json({"nodeId": "1" * 32, "hostname": "liar", "version": "1.0.0", "platform": "linux", "port": 1})
