"""Following one AI task (docs/protocol/tasks.md) over lost connections and restarts of the daemon."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from loopsy.client.events import FIRST_WAIT_S, LONGEST_WAIT_S, Event, is_passing, one_connection
from loopsy.client.local import LocalDaemon
from loopsy.errors import LoopsyError
from loopsy.wire import sse, urls

FINAL = ("completed", "failed", "cancelled")
"""The same as ``wire.tasks.FINAL`` (a test says so), whose import would cost more than the request."""


def follow_task(
    daemon: LocalDaemon,
    task_id: str,
    *,
    peer: str | None = None,
    after: int = 0,
    until: float | None = None,
    away: Callable[[LoopsyError], None] = lambda _: None,
) -> Iterator[Event]:
    """Every event of a task behind ``after``, none left out and none twice, to the task's end; or to ``until`` (of
    ``time.monotonic``). ``away`` hears each time that the daemon can't be asked for now.

    :raises LoopsyError: it can't be followed at all: no such task, or not ours.
    """
    path = urls.on_peer(urls.fill(urls.TASK_STREAM, task_id=task_id), peer)
    seen, wait, was_there = after, FIRST_WAIT_S, False
    while until is None or time.monotonic() < until:
        try:
            for event in one_connection(daemon, path, sse.Decoder(last_id=str(seen)), until):
                wait, was_there = FIRST_WAIT_S, True
                if event["seq"] > seen:
                    seen = event["seq"]
                    yield event
                    if event["type"] == "exit":
                        return
            if is_over(daemon, task_id, peer, seen):
                return
        except LoopsyError as error:
            if not (was_there and is_passing(error)):
                raise
            away(error)
        time.sleep(wait if until is None else max(0.0, min(wait, until - time.monotonic())))
        wait = min(2 * wait, LONGEST_WAIT_S)
        daemon = LocalDaemon(daemon.layout.root)  # its configuration may be another one now


def is_over(daemon: LocalDaemon, task_id: str, peer: str | None, seen: int) -> bool:
    """Whether an event with this number was a task's last: the end of a stream alone doesn't say so.

    :raises LoopsyError: the daemon's.
    """
    task = daemon.ask("GET", urls.on_peer(urls.fill(urls.TASK, task_id=task_id), peer))
    return task["status"] in FINAL and int(task["lastSeq"]) <= seen
