"""Events of other machines for this machine's own readers: one stream from each peer that is online, while somebody
here asks for those of all machines. So a browser needs one connection, whatever their number."""

from __future__ import annotations

import json
from collections.abc import Callable
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
            event = json.loads(text)
            kind, data = str(event["type"]), event.get("data") or {}
        except (ValueError, TypeError, KeyError, AttributeError):
            return  # what is no event of ours is not shown as one
        self._wait = AGAIN_S
        self._last_id = last_id
        if isinstance(data, dict) and kind.replace(".", "").replace("_", "").isalnum() and kind.isascii():
            self._events.publish(RESET if kind == "hello" else kind, data, machine=self._record.name)

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
    """The body of the answer, event by event."""

    def __init__(self, reactor: Any, heard: Callable[[str, str | None], None], lost: Callable[[], None]) -> None:
        self._reactor, self._heard, self._lost = reactor, heard, lost
        self._decoder = sse.Decoder(EVENT_BYTES)
        self._silence: IDelayedCall | None = None

    def connectionMade(self) -> None:
        """Wait for its word."""
        self._silence = self._reactor.callLater(SILENT_S, self.close)

    def dataReceived(self, data: bytes) -> None:
        """Some of it."""
        if self._silence is not None and self._silence.active():
            self._silence.reset(SILENT_S)
        try:
            for text in self._decoder.feed(data):
                self._heard(text, self._decoder.last_id)
        except ValueError:
            self.close()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """It ended."""
        if self._silence is not None and self._silence.active():
            self._silence.cancel()
        self._lost()

    def close(self) -> None:
        """Hear no more."""
        cut(self.transport)
