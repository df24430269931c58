"""Following ``GET /events`` (docs/protocol/events.md) over lost connections and restarts of the daemon."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

from loopsy.client.local import LocalDaemon
from loopsy.errors import ConnectionBroken, DaemonNotRunning, LoopsyError
from loopsy.wire import sse, urls

SILENCE_S = 40.0
"""A stream that is silent for so long is dead: the daemon gives a sign of life every 15 s."""
FIRST_WAIT_S, LONGEST_WAIT_S = 0.05, 2.0
"""Before it is tried again: at once after a lost connection, and often enough while the daemon is away."""
PEER_AWAY = (2002, 2003, 2008)
BUSY = (429, 502, 503, 504)
Event = dict[str, Any]


def follow(
    daemon: LocalDaemon, types: str = "", *, peer: str | None = None, until: float | None = None
) -> Iterator[Event]:
    """Every event from now on, none twice. It begins with a ``hello``; where some were missed for good there is a
    ``reset``: then the state must be read anew. Ends at ``until`` (of ``time.monotonic``), or never.

    :raises LoopsyError: it can't be followed at all: the daemon is not running at the beginning, or refuses.
    """
    path = urls.on_peer(urls.EVENTS, peer) + (f"?types={urls.segment(types)}" if types else "")
    decoder, wait, was_there = sse.Decoder(), FIRST_WAIT_S, False
    while until is None or time.monotonic() < until:
        try:
            for event in one_connection(daemon, path, decoder, until):
                wait, was_there = FIRST_WAIT_S, True
                yield event
        except LoopsyError as error:
            if not (was_there and is_passing(error)):
                raise
        decoder = sse.Decoder(last_id=decoder.last_id)
        time.sleep(wait if until is None else max(0.0, min(wait, until - time.monotonic())))
        wait = min(2 * wait, LONGEST_WAIT_S)
        daemon = LocalDaemon(daemon.layout.root)  # its configuration may be another one now


def is_passing(error: LoopsyError) -> bool:
    """Whether the same request may succeed later."""
    gone = isinstance(error, ConnectionBroken | DaemonNotRunning)
    return gone or error.code in PEER_AWAY or error.status in BUSY


def one_connection(daemon: LocalDaemon, path: str, decoder: sse.Decoder, until: float | None) -> Iterator[Event]:
    """One connection, to its end."""
    headers = {"Last-Event-ID": decoder.last_id} if decoder.last_id else {}
    with daemon.stream("GET", path, headers=headers, timeout=_patience(until)) as response:
        try:
            for piece in response.stream():
                for text in decoder.feed(piece):
                    yield json.loads(text)
                response.wait_at_most(_patience(until))
        except ValueError:
            raise ConnectionBroken("what the daemon tells is no event") from None


def _patience(until: float | None) -> float:
    return SILENCE_S if until is None else max(0.01, min(SILENCE_S, until - time.monotonic()))
