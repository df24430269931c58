"""The one place that areas tell what changed, and that readers of ``/events`` hang on to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.application.service import Service
from twisted.logger import Logger

from loopsy.core.events import Event, Recent
from loopsy.core.principals import Scope
from loopsy.services.clock import now_ms
from loopsy.wire import codec

Listener = Callable[[Event], None]


class Events(Service):
    """Publishes what changed. Never blocks and never fails: a listener that can't take more must let go itself."""

    name = "events"
    log = Logger()

    def __init__(self) -> None:
        self.recent = Recent(now_ms())
        self._listeners: list[Listener] = []

    def publish(
        self,
        kind: str,
        thing: Any,
        *,
        scope: Scope | None = None,
        owner: str | None = None,
        machine: str | None = None,
    ) -> None:
        """Tell that ``thing`` (a wire type, or a mapping) changed; ``kind`` as ``message.received``.

        Peers see it only with ``scope``; with ``owner`` only that peer. ``machine``: the peer that told us.
        """
        event = self.recent.add(kind, now_ms(), as_json(thing), scope, owner, machine)
        for listener in tuple(self._listeners):
            try:
                listener(event)
            except Exception:
                self.log.failure("a reader could not be told of {kind}", kind=kind)

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Call ``listener`` with each event from now on, in order; call the answer to stop that."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)


def as_json(thing: Any) -> str:
    """The JSON text of a wire type, or of a mapping of plain values and wire types."""
    return codec.encode(codec.plain_value(thing))
