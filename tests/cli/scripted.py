"""A server in a thread that reads one request a connection and answers with bytes it was given."""

import json
import socket
import struct
import threading
from types import TracebackType
from typing import Any, Self

from tests.waiting import PATIENCE_S


def answer(status: int, body: object, *headers: str) -> bytes:
    """A whole answer with a JSON body."""
    data = json.dumps(body).encode()
    head = [f"HTTP/1.1 {status} X", "Content-Type: application/json", f"Content-Length: {len(data)}", *headers, "", ""]
    return "\r\n".join(head).encode() + data


def stream(content_type: str, *pieces: bytes, job_id: str = "job-1") -> bytes:
    """An answer of POST /execute/stream, ended by the connection."""
    return f"HTTP/1.0 200 OK\r\nContent-Type: {content_type}\r\nX-Loopsy-Job-Id: {job_id}\r\n\r\n".encode() + b"".join(
        pieces
    )


class ScriptedDaemon:
    """Says ``pieces`` one after the other to whoever asks; ``answers`` gives each next connection another answer."""

    def __init__(
        self,
        *pieces: bytes,
        answers: list[bytes] | None = None,
        reset: bool = False,
        hold: bool = False,
        read_body: bool = True,
    ) -> None:
        self.requests: list[bytes] = []
        self._answers = [[one] for one in answers] if answers is not None else [list(pieces)]
        self._reset, self._hold, self._read_body = reset, hold, read_body
        self._over = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self._over.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive()

    def _serve(self) -> None:
        number = 0
        while not self._over.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                self._converse(connection, self._answers[min(number, len(self._answers) - 1)])
            number += 1

    def _converse(self, connection: socket.socket, pieces: list[bytes]) -> None:
        request = self._read(connection)
        if not request:
            return  # the client left without a word
        self.requests.append(request)
        try:
            for piece in pieces:
                connection.sendall(piece)
            if self._hold:
                self._over.wait(PATIENCE_S)
            if self._reset:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        except OSError:
            pass  # the client left

    def _read(self, connection: socket.socket) -> bytes:
        data = b""
        while b"\r\n\r\n" not in data:
            piece = connection.recv(65536)
            if not piece:
                return data
            data += piece
        head, _, body = data.partition(b"\r\n\r\n")
        lengths = [line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")]
        need = int(lengths[0].split(b":")[1]) if lengths and self._read_body else 0
        while len(body) < need:
            piece = connection.recv(65536)
            if not piece:
                break
            body += piece
        return head + b"\r\n\r\n" + body


def body_of(request: bytes) -> Any:
    """The JSON of a request."""
    return json.loads(request.partition(b"\r\n\r\n")[2])
