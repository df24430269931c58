"""What changed on this machine, numbered, and the recent ones held for whoever comes back.

The protocol is docs/protocol/events.md. Readers have a place in what is held, not queues of their own: however many
are slow, each event is in memory once.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator
from itertools import islice

from attrs import frozen

from loopsy.core.principals import Local, PeerPrincipal, Principal, Scope
from loopsy.wire import sse

HELD = 1000
"""Events kept for clients that come back: minutes of a busy machine; who was away longer reads the state anew."""
HELD_BYTES = 4 * 1024 * 1024
"""… and no more than this of memory."""
LAG_BYTES = 1024 * 1024
"""A reader that is further behind than this is cut: it comes back and goes on, or reads the state anew."""
STREAMS = 64
"""Open streams of one caller: some windows, agents and watchers each; more are a mistake."""
HELLO, RESET, ALIVE = "hello", "reset", "alive"
ALL = "all"


@frozen(kw_only=True)
class Event:
    """One change."""

    number: int
    kind: str
    frame: bytes
    """As it goes over the wire."""
    scope: Scope | None = None
    """Peers with this scope may see it; None: the own key only."""
    owner: str | None = None
    """… but of the peers only this one, by name."""
    machine: str | None = None
    """The peer that told us of it; None: it happened here."""

    @property
    def area(self) -> str:
        """The first word of its kind."""
        return self.kind.partition(".")[0]


class Recent:
    """The events since ``epoch`` (ms, the daemon's start), numbered from 1; the latest are held."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        self._held: deque[Event] = deque()
        self._bytes = 0
        self._number = 0

    def add(
        self,
        kind: str,
        at: int,
        data: str,
        scope: Scope | None = None,
        owner: str | None = None,
        machine: str | None = None,
    ) -> Event:
        """Number an event (``at``: ms since the epoch, ``data``: its thing as JSON text) and hold it; the oldest go."""
        self._number += 1
        where = "" if machine is None else f',"machine":{json.dumps(machine)}'
        frame = sse.frame(f'{{"type":"{kind}","at":{at}{where},"data":{data}}}', self.event_id(self._number))
        event = Event(number=self._number, kind=kind, frame=frame, scope=scope, owner=owner, machine=machine)
        self._held.append(event)
        self._bytes += len(frame)
        while len(self._held) > HELD or self._bytes > HELD_BYTES:
            self._bytes -= len(self._held.popleft().frame)
        return event

    def event_id(self, number: int) -> str:
        """The ``id:`` of an event on the wire."""
        return f"{self.epoch}.{number}"

    def position(self, event_id: str | None) -> int | None:
        """The number that a client has seen last; None: what it missed is not held, or the id is not of this epoch."""
        epoch, _, number = (event_id or "").partition(".")
        if epoch != str(self.epoch) or not number.isascii() or not number.isdigit() or len(number) > 18:
            return None
        seen = int(number)
        return seen if self.first - 1 <= seen <= self._number else None

    @property
    def first(self) -> int:
        """The number of the oldest that is held; of the next one, where none is."""
        return self._held[0].number if self._held else self._number + 1

    @property
    def last(self) -> int:
        """The number of the newest."""
        return self._number

    def after(self, number: int) -> Iterator[Event]:
        """Those held after ``number``, in order. No event may be added meanwhile."""
        return islice(self._held, max(0, number + 1 - self.first), None)


@frozen
class Wish:
    """What a reader asked for: areas or whole types; nothing means all."""

    types: frozenset[str] = frozenset()
    all_machines: bool = False
    """Those of peers too, which they tell us."""

    @classmethod
    def of(cls, text: str | None, machines: str | None = None) -> Wish:
        """``message,job.ended``, as in ``?types=``; ``all``, as in ``?machines=``."""
        types = frozenset(word for part in (text or "").split(",") if (word := part.strip()))
        return cls(types, machines == ALL)

    def has(self, event: Event) -> bool:
        """Whether an event is among it."""
        if event.machine is not None and not self.all_machines:
            return False
        return not self.types or event.area in self.types or event.kind in self.types


def may_see(event: Event, principal: Principal) -> bool:
    """Whether a caller may know of an event."""
    match principal:
        case Local():
            return True
        case PeerPrincipal(name=name, scopes=scopes):
            return event.scope in scopes and event.owner in (None, name)
    return False
