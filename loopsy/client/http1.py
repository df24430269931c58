"""One HTTP request over one connection, blocking, for commands that speak to their own machine's daemon.

Why not ``http.client``: importing it (with ``email`` and ``ssl`` behind it) costs about 25 ms, twice the start of
Python itself and half of what ``loopsy exec kai true`` may take; this needs ``socket`` alone. It can be small since it
only ever speaks to our own daemon on loopback: a request goes out as HTTP/1.0 with ``Connection: close``, so the answer
is never chunked and ends by its Content-Length or with the connection.
"""

from __future__ import annotations

import select
import socket
from collections.abc import Iterable, Iterator, Mapping
from types import TracebackType

from loopsy.errors import ConnectionBroken, InvalidRequest

PIECE = 256 * 1024
"""Bytes asked of the kernel at once: with less, the calls cost more than the copying."""
MAX_HEAD = 64 * 1024
"""Of an answer. The daemon's heads are below one KiB."""
BODILESS = (204, 304)


class Response:
    """An answer whose head has been read; closes its connection at the end of a ``with``."""

    def __init__(self, connection: socket.socket, status: int, headers: Mapping[str, str], rest: bytes) -> None:
        self.status = status
        self.headers = headers
        """Names in lower case; of a repeated one, the last."""
        self._connection = connection
        self._rest = rest
        self._left = 0 if status in BODILESS else _length(headers)

    def __enter__(self) -> Response:
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self.close()

    def stream(self) -> Iterator[bytes]:
        """The body in the pieces it comes in.

        :raises ConnectionBroken: it ended before its announced length, or was reset.
        """
        piece, self._rest = self._rest, b""
        while self._left != 0:
            piece = piece or self._receive()
            if not piece:
                return
            if self._left is not None:
                piece = piece[: self._left]
                self._left -= len(piece)
            yield piece
            piece = b""

    def _receive(self) -> bytes:
        piece = _receive(self._connection)
        if not piece and self._left:
            raise ConnectionBroken(f"the answer was cut: {self._left} bytes of it are missing")
        return piece

    def read(self) -> bytes:
        """The whole body.

        :raises ConnectionBroken: as for ``stream``.
        """
        return b"".join(self.stream())

    def wait_at_most(self, seconds: float | None) -> None:
        """From now on, for each piece; None: for as long as it takes."""
        self._connection.settimeout(seconds)

    def close(self) -> None:
        """Close the connection; whatever the daemon was still sending stops."""
        self._connection.close()


def _length(headers: Mapping[str, str]) -> int | None:
    text = headers.get("content-length")
    if text is None:
        return None
    if not (text.isascii() and text.isdigit()):
        raise ConnectionBroken(f"the answer's content-length is not a number: {text[:40]!r}")
    return int(text)


def _words(error: OSError) -> str:
    return (error.strerror or str(error)).lower()


def connect(host: str, port: int, timeout: float) -> socket.socket:
    """Connect to an IP address (no name is looked up: that alone would import a codec of 3 ms).

    :raises OSError: there was no connection within ``timeout`` seconds.
    """
    connection = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        connection.settimeout(timeout)
        connection.connect((host, port))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except BaseException:
        connection.close()
        raise
    return connection


def break_off(connection: socket.socket) -> None:
    """End a connection that another thread waits on: there it looks as if the daemon had closed it. (Closing alone
    would leave that thread waiting.)"""
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass  # it has ended by itself


def request(
    connection: socket.socket,
    method: str,
    path: str,
    headers: Mapping[str, str],
    body: bytes | None = None,
    timeout: float | None = None,
) -> Response:
    """Send one request and read the head of its answer. The connection belongs to the answer from then on.

    ``timeout`` is in seconds for each wait; None waits for as long as a command takes.

    :raises ConnectionBroken: it ended before the head was whole, or what came is not HTTP.
    """
    try:
        connection.settimeout(timeout)
        _send(connection, encode(method, path, headers, body), body or b"")
        return _read_head(connection)
    except BaseException:
        connection.close()
        raise


def encode(method: str, path: str, headers: Mapping[str, str], body: bytes | None) -> bytes:
    """The head of a request.

    :raises InvalidRequest: a value would break out of its line.
    """
    all_headers = {**headers, "Connection": "close"}
    if body is not None:
        all_headers["Content-Length"] = str(len(body))
    lines = [f"{method} {path} HTTP/1.0", *(f"{name}: {value}" for name, value in all_headers.items())]
    if not all(line.isascii() and line.isprintable() for line in lines):
        raise InvalidRequest("a header may hold printable ASCII characters only")
    return "\r\n".join([*lines, "", ""]).encode("ascii")


def upload(
    connection: socket.socket, method: str, path: str, headers: Mapping[str, str], pieces: Iterable[bytes]
) -> Response:
    """Send a body of unknown length, in chunks, and read the head of the answer. The connection belongs to the answer.

    :raises ConnectionBroken: as for ``request``.
    """
    try:
        connection.settimeout(None)
        head = encode(method, path, {**headers, "Transfer-Encoding": "chunked"}, None)
        connection.sendall(head.replace(b" HTTP/1.0\r\n", b" HTTP/1.1\r\n", 1))
        _send_chunks(connection, pieces)
        return _read_head(connection)
    except BaseException:
        connection.close()
        raise


def _send_chunks(connection: socket.socket, pieces: Iterable[bytes]) -> None:
    try:
        for piece in pieces:
            if select.select([connection], [], [], 0)[0]:
                return  # it answered without waiting for the end: a refusal
            connection.sendall(b"%x\r\n%b\r\n" % (len(piece), piece))
        connection.sendall(b"0\r\n\r\n")
    except (BrokenPipeError, ConnectionResetError):
        pass  # the answer says why


def _send(connection: socket.socket, head: bytes, body: bytes) -> None:
    try:
        connection.sendall(head + body if len(body) < PIECE else head)
        if len(body) >= PIECE:
            connection.sendall(body)
    except (BrokenPipeError, ConnectionResetError):
        pass  # it answered without reading to the end (too large …): the answer says why
    except OSError as error:
        raise ConnectionBroken(f"the request could not be sent: {_words(error)}") from None


def _read_head(connection: socket.socket) -> Response:
    data = b""
    while (end := data.find(b"\r\n\r\n")) < 0:
        if len(data) > MAX_HEAD:
            raise ConnectionBroken("the answer's head is larger than 64 KiB")
        data += _receive_head(connection)
    status_line, *lines = data[:end].decode("latin-1").split("\r\n")
    version, _, rest = status_line.partition(" ")
    if not version.startswith("HTTP/1.") or not rest[:3].isdigit():
        raise ConnectionBroken("what listens on the daemon's port does not speak HTTP")
    pairs = (line.partition(":") for line in lines)
    headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
    return Response(connection, int(rest[:3]), headers, data[end + 4 :])


def _receive_head(connection: socket.socket) -> bytes:
    piece = _receive(connection)
    if not piece:
        raise ConnectionBroken("the daemon closed the connection without an answer")
    return piece


def _receive(connection: socket.socket) -> bytes:
    try:
        return connection.recv(PIECE)
    except TimeoutError:
        raise ConnectionBroken("the daemon did not answer in time") from None
    except OSError as error:
        raise ConnectionBroken(f"the connection to the daemon broke: {_words(error)}") from None
