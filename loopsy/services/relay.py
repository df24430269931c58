"""Events of other machines for this machine's own readers: one stream from each peer that is online, while somebody
here asks for those of all machines. So a browser needs one connection, whatever their number."""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http_headers import Headers

from loopsy.client.peer import cut
from loopsy.core.events import RESET
from loopsy.core.peers import Record
from loopsy.errors import LoopsyError
from loopsy.services.events import Events
from loopsy.services.peers import Peers
from loopsy.wire import sse, urls
from loopsy.wire.peers import EVENTS, ONLINE

AGAIN_S, AGAIN_MOST_S = 1.0, 30.0
SILENT_S = 45.0
"""A peer says something every 15 s; one that is silent for three times that is gone without a word."""
EVENT_BYTES = 256 * 1024
"""Far more than a notice has: a peer can't make us hold more."""

A_SECOND, BYTES_A_SECOND = 100, 256 * 1024
"""Of one peer's events: a busy machine has some tens a second. What comes faster waits in the network, so that a bad
peer can't push out the events of others, which are held for readers that come back."""
KIND = re.compile(r"[A-Za-z0-9_.]{1,64}")
ID = re.compile(r"[0-9]{1,18}\.[0-9]{1,18}")
"""What isn't one is not said back to the peer, nor kept: it might be anything, of any length."""


class Relay(Service):
    """Who listens to whom."""

    name = "relay"

    def __init__(self, reactor: Any, peers: Peers, events: Events) -> None:
        self._reactor, self._peers, self._events = reactor, peers, events
        self._readers = 0
        self._wires: dict[str, Wire] = {}
        peers.when_changed(self._peer_changed)

    def stopService(self) -> None:
        """Listen to nobody."""
        super().stopService()
        self._readers = 0
        self._hang_up()

    def want(self) -> Callable[[], None]:
        """Somebody here asks for the events of all machines; call the answer when that ends."""
        self._readers += 1
        if self._readers == 1:
            for record in self._peers.records():
                self._peer_changed(record, False)
        return self._unwant

    def _unwant(self) -> None:
        self._readers = max(0, self._readers - 1)
        if not self._readers:
            self._hang_up()

    def _hang_up(self) -> None:
        for wire in self._wires.values():
            wire.close()
        self._wires.clear()

    def _peer_changed(self, record: Record, is_gone: bool) -> None:
        known = self._wires.get(record.node_id)
        wanted = bool(self._readers) and not is_gone and record.status == ONLINE and EVENTS in record.capabilities
        if not wanted or record.name is None:
            if known is not None:
                self._wires.pop(record.node_id).close()
        elif known is None:
            wire = self._wires[record.node_id] = Wire(self._reactor, self._peers, self._events, record)
            wire.open()


class Wire:
    """The stream of one peer, for as long as it is wanted; it comes back by itself."""

    log = Logger()

    def __init__(self, reactor: Any, peers: Peers, events: Events, record: Record) -> None:
        self._reactor, self._peers, self._events, self._record = reactor, peers, events, record
        self._closed = False
        self._wait = AGAIN_S
        self._timer: IDelayedCall | None = None
        self._under_way: Deferred[Any] | None = None
        self._listening: Listening | None = None
        self._last_id: str | None = None

    def open(self) -> None:
        """Ask for the events behind the last one heard."""
        self._timer = None
        self._under_way = Deferred.fromCoroutine(self._ask())
        self._under_way.addErrback(self._failed)

    async def _ask(self) -> None:
        headers = Headers({b"accept": [sse.CONTENT_TYPE.encode()]})
        if self._last_id is not None:
            headers.setRawHeaders(b"last-event-id", [self._last_id.encode("latin-1", "replace")])
        target = self._peers.keyed(self._record)
        response = await self._peers.client.request(target, b"GET", urls.EVENTS, headers)
        self._under_way = None
        self._listening = Listening(self._reactor, self._heard, self._lost)
        response.deliverBody(self._listening)
        if response.code != 200:
            self._wait = AGAIN_MOST_S  # it will not have us now: scopes, or an older version
            self._listening.close()

    def _heard(self, text: str, last_id: str | None) -> None:
        try:
            event = json.loads(text, parse_constant=_refused)
            kind, data = str(event["type"]), event.get("data") or {}
            if isinstance(data, dict) and KIND.fullmatch(kind):
                self._events.publish(RESET if kind == "hello" else kind, data, machine=self._record.name)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return  # what is no event of ours is not shown as one
        self._wait = AGAIN_S
        self._last_id = last_id if last_id is not None and ID.fullmatch(last_id) else None

    def _failed(self, failure: Failure) -> None:
        self._under_way = None
        if not failure.check(LoopsyError, CancelledError):
            self.log.failure("the events of {peer} can't be heard", failure, peer=self._record.label)
        self._lost()

    def _lost(self) -> None:
        self._listening = None
        if not self._closed and self._timer is None:
            self._timer = self._reactor.callLater(self._wait, self.open)
            self._wait = min(self._wait * 2, AGAIN_MOST_S)

    def close(self) -> None:
        """It is wanted no longer."""
        self._closed = True
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        if self._under_way is not None:
            self._under_way.cancel()
        if self._listening is not None:
            self._listening.close()


class Listening(Protocol):
    """The body of the answer, event by event, no faster than a peer may tell them."""

    def __init__(self, reactor: Any, heard: Callable[[str, str | None], None], lost: Callable[[], None]) -> None:
        self._reactor, self._heard, self._lost = reactor, heard, lost
        self._decoder = sse.Decoder(EVENT_BYTES)
        self._pieces: deque[bytes] = deque()
        """What came behind the pause; no more than was on its way."""
        self._texts: Iterator[str] = iter(())
        self._paid_until = 0.0
        self._pause: IDelayedCall | None = None
        self._silence: IDelayedCall | None = None

    def connectionMade(self) -> None:
        """Wait for its word."""
        self._silence = self._reactor.callLater(SILENT_S, self.close)

    def dataReceived(self, data: bytes) -> None:
        """Some of it."""
        if self._silence is not None and self._silence.active():
            self._silence.reset(SILENT_S)
        self._pieces.append(data)
        if self._pause is None:
            self._go_on()

    def _go_on(self) -> None:
        was_paused, self._pause = self._pause is not None, None
        try:
            while (text := self._next()) is not None:
                self._heard(text, self._decoder.last_id)
                if self._wait_after(len(text)):
                    return
        except ValueError:
            self.close()
            return
        if was_paused:
            self._way.resumeProducing()

    def _next(self) -> str | None:
        while (text := next(self._texts, None)) is None:
            if not self._pieces:
                return None
            self._texts = self._decoder.feed(self._pieces.popleft())
        return text

    def _wait_after(self, size: int) -> bool:
        """Whether it told more in a second than it may: then it isn't read until that has been made up for."""
        now = self._reactor.seconds()
        self._paid_until = max(self._paid_until, now) + 1 / A_SECOND + size / BYTES_A_SECOND
        wait = self._paid_until - now - 1
        if wait <= 0:
            return False
        self._pause = self._reactor.callLater(wait, self._go_on)
        self._way.pauseProducing()
        return True

    @property
    def _way(self) -> Any:
        return self.transport

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """It ended. What was not told yet comes again behind the last that was."""
        for timer in (self._silence, self._pause):
            if timer is not None and timer.active():
                timer.cancel()
        self._pieces.clear()
        self._lost()

    def close(self) -> None:
        """Hear no more."""
        cut(self.transport)


def _refused(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")
