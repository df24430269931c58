"""Somebody between a joiner and an inviter, or between any client and a daemon."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import threading
from base64 import b64decode, b64encode
from collections.abc import Callable, Sequence
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from loopsy.core.pairing_messages import decode

Hook = Callable[[bytes], bytes | None]
"""What becomes of a pairing message; None: it is lost."""
HANDSHAKE = b"\x16"
HELD_S = 60.0
"""A mute one holds its connections at most so long, and nobody here waits longer for an answer."""


def untrusting() -> ssl.SSLContext:
    """TLS to whoever answers."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


class Between:
    """A machine between a joiner and an inviter: what comes to ``port`` is passed on, but for what the hooks say of
    pairing messages. How connections are taken is told by ``fronts``, one after the other, the last for all others:

    - ``splice``: byte for byte, TLS and all
    - ``tls``: with the certificate given
    - ``plain``: plain HTTP; whoever wants TLS gets an answer that is none
    - ``mute``: plain HTTP; whoever wants TLS hears nothing
    """

    def __init__(
        self,
        target: int | tuple[str, int],
        *,
        listen: tuple[str, int] = ("127.0.0.1", 0),
        fronts: Sequence[str] = ("plain",),
        certificate: ssl.SSLContext | None = None,
        secure: bool = False,
    ) -> None:
        """``secure``: the target is asked over TLS."""
        self.target = ("127.0.0.1", target) if isinstance(target, int) else target
        self.to_inviter: Hook = lambda data: data
        self.to_joiner: Hook = lambda data: data
        self.passed: list[bytes] = []
        """The pairing messages that went through, as they were passed on."""
        self.heard = bytearray()
        """All that came in clear: the heads and bodies of requests."""
        self._fronts, self._certificate, self._secure = fronts, certificate, secure
        self._count = 0
        self._lock = threading.Lock()
        self._server = _Server(listen, self)
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()

    # -- connections ------------------------------------------------------------------------------------------------
    def take(self, sock: socket.socket, address: Any) -> None:
        """A connection, in a thread of its own."""
        with self._lock:
            front = self._fronts[min(self._count, len(self._fronts) - 1)]
            self._count += 1
        if front == "splice":
            self._splice(sock)
        elif front == "tls":
            assert self._certificate is not None
            with self._certificate.wrap_socket(sock, server_side=True) as wrapped:
                _Handler(wrapped, address, self._server)
        elif front == "mute" and sock.recv(1, socket.MSG_PEEK) == HANDSHAKE:
            sock.settimeout(HELD_S)
            while sock.recv(65536):
                pass
        else:
            _Handler(sock, address, self._server)

    def _splice(self, sock: socket.socket) -> None:
        with socket.create_connection(self.target, timeout=HELD_S) as there:
            there.settimeout(None)
            back = threading.Thread(target=_pump, args=(there, sock), daemon=True)
            back.start()
            _pump(sock, there)
            back.join()

    # -- requests ---------------------------------------------------------------------------------------------------
    def pass_on(self, handler: BaseHTTPRequestHandler, method: str) -> None:
        """A request, and its answer."""
        handler.close_connection = True
        body: bytes | None = handler.rfile.read(int(handler.headers.get("content-length", 0)))
        self.heard += f"{method} {handler.path}\n{handler.headers}\n".encode() + (body or b"")
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
        with suppress(OSError):
            handler.send_response(status)
            handler.send_header("connection", "close")
            handler.send_header("content-type", "application/json")
            handler.send_header("content-length", str(len(answer)))
            handler.end_headers()
            handler.wfile.write(answer)

    def _ask(self, handler: BaseHTTPRequestHandler, method: str, body: bytes | None) -> tuple[int, bytes]:
        names = ("content-type", "authorization")
        headers = {name: handler.headers[name] for name in names if name in handler.headers}
        return ask(self.target, method, handler.path, body, headers, secure=self._secure)

    def _through(self, body: bytes, hook: Hook) -> bytes | None:
        changed = hook(b64decode(json.loads(body)["message"]))
        if changed is None:
            return None
        self.passed.append(changed)
        return json.dumps({"message": b64encode(changed).decode()}).encode()


def ask(
    target: tuple[str, int], method: str, path: str, body: bytes | None, headers: dict[str, str], *, secure: bool
) -> tuple[int, bytes]:
    """One request of an attacker's.

    :raises OSError: there was no answer.
    """
    connection = http.client.HTTPConnection(*target, timeout=HELD_S)
    if secure:
        connection = http.client.HTTPSConnection(*target, timeout=HELD_S, context=untrusting())
    try:
        connection.request(method, path, body or None, headers)
        response = connection.getresponse()
        return response.status, response.read()
    except http.client.HTTPException as error:
        raise OSError(str(error)) from None
    finally:
        connection.close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, listen: tuple[str, int], between: Between) -> None:
        super().__init__(listen, _Handler)
        self.between = between

    def finish_request(self, request: Any, client_address: Any) -> None:
        self.between.take(request, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Connections break: that is what happens to attackers."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.server.between.pass_on(self, "POST")  # type: ignore[attr-defined]

    def do_GET(self) -> None:
        self.server.between.pass_on(self, "GET")  # type: ignore[attr-defined]

    def log_message(self, *_: Any) -> None:
        """Not here."""


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    with suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


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
