"""What changed on this machine, numbered, and the recent ones held for whoever comes back.

The protocol is docs/protocol/events.md.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

from attrs import frozen

from loopsy.core.principals import Scope

HELD = 1000
"""Events kept for clients that come back: minutes of a busy machine; who was away longer reads the state anew."""
HELD_BYTES = 4 * 1024 * 1024
"""… and no more than this of memory, as encoded data."""


@frozen(kw_only=True)
class Event:
    """One change. ``data`` is its thing, as JSON text."""

    number: int
    kind: str
    at: int
    """ms since the epoch."""
    data: str
    scope: Scope | None = None
    """Peers with this scope may see it; None: the own key only."""
    owner: str | None = None
    """… but of the peers only this one, by name."""

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

    def add(self, kind: str, at: int, data: str, scope: Scope | None = None, owner: str | None = None) -> Event:
        """Number an event and hold it; the oldest go."""
        self._number += 1
        event = Event(number=self._number, kind=kind, at=at, data=data, scope=scope, owner=owner)
        self._held.append(event)
        self._bytes += len(data)
        while len(self._held) > HELD or self._bytes > HELD_BYTES:
            self._bytes -= len(self._held.popleft().data)
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
        first = self._held[0].number if self._held else self._number + 1
        return seen if first - 1 <= seen <= self._number else None

    @property
    def last(self) -> int:
        """The number of the newest."""
        return self._number

    def after(self, number: int) -> Iterator[Event]:
        """Those after ``number``, in order."""
        return (event for event in tuple(self._held) if event.number > number)


def may_see(event: Event, name: str | None, scopes: frozenset[Scope]) -> bool:
    """Whether a peer (None: the own key) may see an event."""
    if name is None:
        return True
    return event.scope in scopes and event.owner in (None, name)


def wanted(event: Event, types: frozenset[str]) -> bool:
    """Whether a client asked for it; with no types it asked for all."""
    return not types or event.area in types or event.kind in types


def on_the_wire(event: Event) -> str:
    """Its JSON: ``{"type", "at", "data"}``."""
    return f'{{"type":"{event.kind}","at":{event.at},"data":{event.data}}}'


HELLO: Mapping[str, Any] = {"type": "hello"}
RESET: Mapping[str, Any] = {"type": "reset"}
