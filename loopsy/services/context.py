"""The context store as a service."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from functools import partial

from twisted.application.service import Service
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from loopsy.core import context as rules
from loopsy.core.principals import LOCAL, Principal, Scope
from loopsy.services.clock import now_ms
from loopsy.services.events import Events
from loopsy.services.settings import Settings
from loopsy.services.storage import Storage
from loopsy.store import context as table
from loopsy.wire.context import Entry, PutEntry

PURGE_S = 60.0
RECENT = 1024
RECENT_CHARACTERS = 4096
"""So many entries, of values up to this long, are held in memory too (some MiB at most): a read of a hot key then costs
nothing beside the request."""
Listener = Callable[[Entry, Principal], Awaitable[None] | None]


class Context(Service):
    """Entries, set and read; what has expired is purged once a minute (and never shown before that)."""

    name = "context"
    log = Logger()

    def __init__(self, reactor: IReactorTime, storage: Storage, settings: Settings, events: Events) -> None:
        self._storage = storage
        self._events = events
        self._settings = settings
        self._recent: dict[str, Entry] = {}
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

    def _purge_expired(self) -> None:
        done = self._storage.write(lambda db: table.purge(db, now_ms()))
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
        stored: Entry = await self._storage.write(partial(table.put, entry=entry, limits=limits, now=now))
        self._remember(stored)
        self._tell("context.changed", key, from_node_id)
        for listener in self._listeners:
            heard = listener(stored, by)
            if heard is not None:
                await heard
        return stored

    def _tell(self, kind: str, key: str, from_node_id: str) -> None:
        """The key and who; a value may be a secret, and large."""
        self._events.publish(kind, {"key": key, "fromNodeId": from_node_id}, scope=Scope.CONTEXT)

    def _remember(self, entry: Entry) -> None:
        """Only what is on disk comes here, in the order in which it came there."""
        self._recent.pop(entry.key, None)
        if len(entry.value) <= RECENT_CHARACTERS:
            if len(self._recent) >= RECENT:
                del self._recent[next(iter(self._recent))]
            self._recent[entry.key] = entry

    def get(self, key: str) -> Entry:
        """One entry.

        :raises KeyNotFound: there is none, or no longer.
        """
        now, entry = now_ms(), self._recent.get(key)
        if entry is None:
            entry = table.get(self._storage.reader, rules.check_key(key), now)
            if entry is None:
                raise rules.missing(key)
            self._remember(entry)
        if entry.expires_at is not None and entry.expires_at <= now:
            raise rules.missing(key)
        return entry

    async def delete(self, key: str, from_node_id: str) -> None:
        """Remove an entry, for a node.

        :raises KeyNotFound: there is none.
        """
        rules.check_key(key)
        existed = await self._storage.write(partial(table.delete, key=key, now=now_ms()))
        self._recent.pop(key, None)
        if not existed:
            raise rules.missing(key)
        self._tell("context.deleted", key, from_node_id)

    def pages(self, prefix: str) -> Iterator[list[Entry]]:
        """All entries whose keys start with ``prefix``, by key, a few at a time."""
        return table.pages(self._storage.reader, prefix, now_ms())

    def count(self) -> int:
        """How many entries there are."""
        return table.count(self._storage.reader, now_ms())
