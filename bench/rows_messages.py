"""Messages: to a reader who waits on the other machine, and many at once to a peer that comes back."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from statistics import median, quantiles
from typing import Any

from bench.rig import TWISTD, Daemon, Rig, end
from bench.table import BenchError, Result, at_least, at_most

SINGLE, MANY = 200, 10_000
SETTLE_S = 0.02
"""The reader is surely waiting again by then."""
PATIENCE_S = 120.0


def messages(rig: Rig) -> Iterator[Result]:
    """A message to a waiting reader on the other daemon; 10,000 queued ones to a peer that comes back."""
    here, there = rig.pair()
    taken = sorted(waited_for(here, there) for _ in range(SINGLE))
    yield Result(
        row="message to a waiting reader on the other daemon", measured=f"{median(taken) * 1000:.3g} ms",
        value=median(taken), goal=at_most(0.05, "s"), older="–",
        remarks=f"n={SINGLE}, the slowest twentieth from {quantiles(taken, n=20)[-1] * 1000:.3g} ms on; from before the"
        " POST to after the answer to the reader, on disk three times in between",
    )  # fmt: skip
    begin, delivered, read = returned(rig, here, there)
    yield Result(
        row="10,000 queued messages to a peer that comes back", measured=f"{MANY / (delivered - begin):,.0f}/s",
        value=MANY / (delivered - begin), goal=at_least(500, "/s"), older="–",
        remarks="from its daemon's first answer to the last one on disk there; none lost, doubled or out of order;"
        f" all read {read - begin:.3g} s after that first answer, by one reader of 200 at a time",
    )  # fmt: skip


def waited_for(here: Daemon, there: Daemon) -> float:
    """Seconds from the sending to the reading, the reader waiting."""
    ends: list[float] = []

    def read() -> None:
        answer = there.ask("POST", "/messages/take", {"wait": 20})
        ends.append(time.perf_counter() if answer["messages"] else 0.0)

    reader = threading.Thread(target=read)
    reader.start()
    time.sleep(SETTLE_S)
    begin = time.perf_counter()
    here.ask("POST", "/messages", {"to": there.name, "body": "hello"})
    reader.join()
    if not ends or not ends[0]:
        raise BenchError("a message did not come within 20 s")
    return ends[0] - begin


def returned(rig: Rig, here: Daemon, there: Daemon) -> tuple[float, float, float]:
    """When the peer was back, had all of them, and its reader had all of them.

    :raises BenchError: one was lost, doubled, or out of order.
    """
    end(there.process)
    sent = [queue(here, there, number) for number in range(MANY)]
    time.sleep(2)  # the postman is in one of his waits
    argv = [*TWISTD, "loopsy", "--data-dir", str(there.data_dir)]
    served = rig.serve(argv, there.name, there.port, "/api/v1/health")
    object.__setattr__(there, "process", served.process)
    begin = time.perf_counter()
    wait_until(lambda: there.ask("GET", "/status")["messages"]["unread"] == MANY)
    delivered = time.perf_counter()
    got: list[str] = []
    while len(got) < MANY:
        page = there.ask("POST", "/messages/take", {"limit": 200, "wait": 5})["messages"]
        if not page:
            break
        got += [message["id"] for message in page]
    read = time.perf_counter()
    if got != sent:
        raise BenchError(f"{len(sent)} messages became {len(got)}, {len(set(got))} different ones")
    wait_until(lambda: here.ask("GET", "/messages/outbox?state=delivered&limit=1")["messages"] == [])
    return begin, delivered, read


def queue(here: Daemon, there: Daemon, number: int) -> str:
    """A message that waits; its id."""
    answer: Any = here.ask("POST", "/messages", {"to": there.name, "body": f"message {number} of many"})
    return str(answer["messages"][0]["id"])


def wait_until(ready: Any) -> None:
    """Ask every 20 ms.

    :raises BenchError: it took more than two minutes.
    """
    deadline = time.monotonic() + PATIENCE_S
    while not ready():
        if time.monotonic() > deadline:
            raise BenchError(f"not within {PATIENCE_S:g} s")
        time.sleep(0.02)
