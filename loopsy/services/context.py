"""The context store as a service."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from loopsy.core import context as rules
from loopsy.core.principals import LOCAL, Principal, Scope
from loopsy.services.clock import now_ms
from loopsy.services.context_stores import Embedded, Shared
from loopsy.services.events import Events
from loopsy.services.settings import Settings
from loopsy.services.storage import Storage
from loopsy.wire.context import Entry, PutEntry

PURGE_S = 60.0
EMBEDDED = "sqlite"
Listener = Callable[[Entry, Principal], Awaitable[None] | None]


class Context(Service):
    """Entries, set and read; what has expired is purged once a minute (and never shown before that)."""

    name = "context"
    log = Logger()

    def __init__(self, reactor: Any, storage: Storage, settings: Settings, events: Events) -> None:
        where = settings.config.context.backend
        self.store = Embedded(storage) if where == EMBEDDED else Shared(reactor, where)
        self._events = events
        self._settings = settings
        self._listeners: list[Listener] = []
        self._purge = LoopingCall(self._purge_expired)
        self._purge.clock = reactor

    def startService(self) -> None:
        """Start purging."""
        super().startService()
        self._purge.start(PURGE_S, now=False).addErrback(
            lambda failure: self.log.failure("purging the context stopped", failure)
        )

    def stopService(self) -> None:
        """Stop purging."""
        super().stopService()
        if self._purge.running:
            self._purge.stop()
        self.store.close()

    def _purge_expired(self) -> None:
        done = self.store.purge(now_ms())
        done.addErrback(lambda failure: self.log.failure("expired entries could not be purged", failure))

    def when_put(self, listener: Listener) -> None:
        """Call ``listener`` with each entry that was set, and by whom. What it awaits is done before they are answered,
        and its error is their answer."""
        self._listeners.append(listener)

    async def put(self, key: str, put: PutEntry, from_node_id: str, by: Principal = LOCAL) -> Entry:
        """Set a value; on disk when this returns.

        :raises InvalidRequest: the key. :raises ValueTooLarge: :raises TooManyEntries:
        """
        limits, now = self._settings.config.context, now_ms()
        rules.check_key(key)
        rules.check_value(put.value, limits)
        entry = rules.entry(key, put, from_node_id, now)
        stored = await self.store.put(entry, limits, now)
        self._tell("context.changed", key, from_node_id)
        for listener in self._listeners:
            heard = listener(stored, by)
            if heard is not None:
                await heard
        return stored

    def _tell(self, kind: str, key: str, from_node_id: str) -> None:
        """The key and who; a value may be a secret, and large."""
        self._events.publish(kind, {"key": key, "fromNodeId": from_node_id}, scope=Scope.CONTEXT)

    def get(self, key: str) -> Entry | Deferred[Entry]:
        """One entry; at once where the store is at hand.

        :raises KeyNotFound: there is none, or no longer. :raises ContextUnreachable:
        """
        found = self.store.get(rules.check_key(key), now_ms())
        if isinstance(found, Deferred):
            return found.addCallback(_present, key)
        return _present(found, key)

    async def delete(self, key: str, from_node_id: str) -> None:
        """Remove an entry, for a node.

        :raises KeyNotFound: there is none.
        """
        rules.check_key(key)
        if not await self.store.delete(key, now_ms()):
            raise rules.missing(key)
        self._tell("context.deleted", key, from_node_id)

    def pages(self, prefix: str) -> Iterator[list[Entry]]:
        """All entries whose keys start with ``prefix``, by key, a few at a time; to be asked for in a thread where the
        store ``blocks``."""
        return self.store.pages(prefix, now_ms())

    def count(self) -> int:
        """How many entries there are (of a shared store: were, when it was asked last)."""
        return self.store.count(now_ms())


def _present(entry: Entry | None, key: str) -> Entry:
    if entry is None:
        raise rules.missing(key)
    return entry
