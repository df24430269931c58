"""A paced client that measures how long answers take."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable

from attrs import frozen

from bench.table import BenchError

PACE_S = 0.005
ENOUGH = 100


@frozen
class Latencies:
    """Seconds, of some hundred requests."""

    p50: float
    p99: float


def latencies(port: int, path: str, seconds: float, stop: Callable[[], bool] = lambda: False) -> Latencies:
    """Ask 200 times a second over one connection, until ``seconds`` are over or ``stop`` says so; a late answer delays
    the next, so none is asked for twice."""
    request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()
    taken: list[float] = []
    with socket.create_connection(("127.0.0.1", port), 10) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and not stop():
            begin = time.perf_counter()
            connection.sendall(request)
            if b" 200 " not in connection.recv(65536)[:16]:
                raise BenchError(f"{path} was not answered with 200")
            taken.append(time.perf_counter() - begin)
            time.sleep(max(0.0, PACE_S - taken[-1]))
    if len(taken) < ENOUGH:
        raise BenchError(f"{len(taken)} answers are too few to tell a p99 by")
    taken.sort()
    return Latencies(taken[len(taken) // 2], taken[len(taken) * 99 // 100])
