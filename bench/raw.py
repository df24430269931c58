"""A client that is not the bottleneck: a socket, one buffer, no parsing while it reads."""

from __future__ import annotations

import re
import socket
import time

from attrs import frozen

from bench.table import BenchError

BUFFER = 1024 * 1024
TIMEOUT_S = 120.0
TAIL = 4096


@frozen
class Read:
    """An answer that was read to its end."""

    status: int
    body_bytes: int
    tail: bytes
    """Its last bytes."""
    seconds: float


def read(port: int, request: bytes) -> Read:
    """Send a request and read its answer to the end of the connection, as fast as it comes."""
    begin = time.perf_counter()
    buffer = bytearray(BUFFER)
    with socket.create_connection(("127.0.0.1", port), TIMEOUT_S) as connection:
        connection.sendall(request)
        head, body = _head(connection)
        size, tail = len(body), body
        while count := connection.recv_into(buffer):
            size += count
            last = bytes(buffer[max(0, count - TAIL) : count])
            tail = last if count >= TAIL else (tail + last)[-TAIL:]
    return Read(_status(head), size, tail, time.perf_counter() - begin)


def ask(port: int, request: bytes) -> tuple[int, bytes]:
    """A small answer: its status and body."""
    with socket.create_connection(("127.0.0.1", port), TIMEOUT_S) as connection:
        connection.sendall(request)
        head, body = _head(connection)
        parts = [body]
        while piece := connection.recv(BUFFER):
            parts.append(piece)
    return _status(head), b"".join(parts)


def read_slowly(port: int, request: bytes, bytes_a_second: int, seconds: float) -> int:
    """Read an answer at that speed for so long, then leave; the bytes read."""
    step_s = 0.05
    step = int(bytes_a_second * step_s)
    size, begin, steps = 0, time.monotonic(), 0
    with socket.create_connection(("127.0.0.1", port), TIMEOUT_S) as connection:
        connection.sendall(request)
        head, _ = _head(connection)
        if _status(head) != 200:
            raise BenchError(f"the stream was refused: {head[:80]!r}")
        while time.monotonic() - begin < seconds:
            size += len(connection.recv(step))
            steps += 1
            time.sleep(max(0.0, begin + steps * step_s - time.monotonic()))
    return size


def _head(connection: socket.socket) -> tuple[bytes, bytes]:
    data = b""
    while b"\r\n\r\n" not in data:
        piece = connection.recv(BUFFER)
        if not piece:
            raise BenchError("the connection was closed without an answer")
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    return head, body


def _status(head: bytes) -> int:
    found = re.match(rb"HTTP/1\.[01] (\d{3})", head)
    if found is None:
        raise BenchError(f"not HTTP: {head[:40]!r}")
    return int(found[1])
