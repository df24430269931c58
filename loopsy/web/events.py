"""``GET /events``: what changes on this machine, as it changes (docs/protocol/events.md)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from attrs import evolve, field, frozen
from twisted.internet.interfaces import IDelayedCall, IPushProducer
from zope.interface import implementer

from loopsy.core import events as rules
from loopsy.core.events import Event, Recent, Wish
from loopsy.core.principals import AnyKey, Local, PeerPrincipal, Principal, scopes_of
from loopsy.errors import RateLimited
from loopsy.services.clock import now_ms
from loopsy.services.daemon import Daemon
from loopsy.web.request import EdgeRequest
from loopsy.web.routes import ANSWERED, Answered, Call, Routes
from loopsy.wire import sse, urls

ALIVE_S = 15.0
"""Between two signs of life: half of what the least patient reader or middle box waits on a quiet stream."""
LAST_ID = b"last-event-id"


@frozen(eq=False)
class EventsArea:
    """What changed."""

    daemon: Daemon
    open: Counter[str] = field(factory=Counter)
    """Streams, by caller."""
    routes = Routes()

    @routes.declare("GET", urls.EVENTS, access=AnyKey())
    def events(self, call: Call[None]) -> Answered:
        """Server-sent events: what changes, as it changes; ``?types=`` for some areas or types only, ``?machines=all``
        for those of all peers too, ``?alive=1`` for a sign of life that is an event."""
        who, wish = call.principal, Wish.of(call.query("types"), call.query("machines"))
        if self.open[who.name] >= rules.STREAMS:
            raise RateLimited(f"{rules.STREAMS} event streams are open for {who.name} already", retry_after=1)
        call.request.begin(200, sse.CONTENT_TYPE.encode())
        if call.request.method == b"HEAD":
            call.request.finish()
            return ANSWERED
        recent = self.daemon.events.recent
        seen = recent.position(call.request.header(LAST_ID))
        if seen is None:
            self._greet(call.request, recent)
        reader = Reader(recent, call.request, recent.last if seen is None else seen, self._filter(who, wish))
        reader.tells_alive = call.query("alive") == "1"
        self._follow(reader, who.name)
        if wish.all_machines and isinstance(who, Local):
            stop = self.daemon.relay.want()
            call.request.notifyFinish().addBoth(lambda _: stop())
        return ANSWERED

    def _greet(self, request: EdgeRequest, recent: Recent) -> None:
        """The first event of a reader that begins, or that must begin anew."""
        kind = rules.HELLO if request.header(LAST_ID) is None else rules.RESET
        data: Mapping[str, Any] = {"nodeId": self.daemon.own.node_id, "epoch": recent.epoch}
        request.write(sse.encode({"type": kind, "at": now_ms(), "data": data}, recent.event_id(recent.last)))

    def _filter(self, who: Principal, wish: Wish) -> Callable[[Event], bool]:
        """What the reader is told, by the scopes that it has then. (One that lost its key is cut by the site.)"""

        def is_for(event: Event) -> bool:
            now = who
            if isinstance(who, PeerPrincipal):
                now = evolve(who, scopes=scopes_of(self.daemon.settings.config.auth, who.name))
            return wish.has(event) and rules.may_see(event, now)

        return is_for

    def _follow(self, reader: Reader, name: str) -> None:
        self.open[name] += 1
        stop = self.daemon.events.listen(reader.happened)

        def gone(_: object) -> None:
            stop()
            reader.close()
            self.open[name] -= 1

        reader.request.notifyFinish().addBoth(gone)
        reader.start()


@implementer(IPushProducer)
class Reader:
    """One open stream: a place in what is held, and how far behind that is."""

    def __init__(self, recent: Recent, request: EdgeRequest, seen: int, is_for: Callable[[Event], bool]) -> None:
        """``seen``: the number of the last event that it knows."""
        self.request = request
        self._recent, self._at, self._is_for = recent, seen, is_for
        self._lag = 0
        self._full = self._over = False
        self.tells_alive = False
        """A browser shows no comments to the page, so the page asks for an event."""
        self._alive: IDelayedCall | None = None

    def start(self) -> None:
        """Tell what it missed, then what comes."""
        self.request.write(b"")
        self.request.registerProducer(self, True)
        self._beat(first=True)
        self._catch_up()

    def happened(self, event: Event) -> None:
        """Something changed."""
        if self._over:
            return
        is_next = self._at == event.number - 1
        if not self._is_for(event):
            self._at = event.number if is_next else self._at
        elif is_next and not self._full:
            self._tell(event)
        else:
            self._lag += len(event.frame)
            if self._lag > rules.LAG_BYTES or self._missed_some:
                self._cut()

    @property
    def _missed_some(self) -> bool:
        """Whether what comes next for it is held no longer: when it comes back it hears that it must begin anew."""
        return self._at < self._recent.first - 1

    def _tell(self, event: Event) -> None:
        self._at = event.number
        self.request.write(event.frame)

    def _catch_up(self) -> None:
        """What is held and was not told, as far as the reader takes it."""
        if self._missed_some:
            self._cut()
            return
        for event in tuple(self._recent.after(self._at)):
            if self._full or self._over:
                return
            if self._is_for(event):
                self._lag = max(0, self._lag - len(event.frame))
                self._tell(event)
            self._at = event.number
        self._lag = 0

    def _beat(self, first: bool = False) -> None:
        if not (first or self._full):
            event_id = self._recent.event_id(self._at)
            alive = sse.encode({"type": rules.ALIVE}, event_id) if self.tells_alive else sse.still_there(event_id)
            self.request.write(alive)
        self._alive = self.request.channel.callLater(ALIVE_S, self._beat)

    def _cut(self) -> None:
        self.close()
        self.request.cut()

    def close(self) -> None:
        """It is gone."""
        self._over = True
        if self._alive is not None and self._alive.active():
            self._alive.cancel()

    def pauseProducing(self) -> None:
        """It is slow."""
        self._full = True

    def resumeProducing(self) -> None:
        """It takes more."""
        self._full = False
        if not self._over:
            self._catch_up()

    def stopProducing(self) -> None:
        """It left; notifyFinish tells too."""
