"""Where the context is kept: embedded in this machine's database, or in a store that several machines share."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

from loopsy.config import ContextLimits
from loopsy.services.storage import Storage
from loopsy.store import context as table
from loopsy.wire.context import Entry

RECENT = 1024
RECENT_CHARACTERS = 4096
"""So many entries, of values up to this long, are held in memory too (some MiB at most): a read of a hot key then costs
nothing beside the request."""
THREADS = 4
"""That wait for a shared store at once."""


class Embedded:
    """In SQLite, by group commit. Recent entries are held in memory too: only what is on disk, in its order."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._recent: dict[str, Entry] = {}

    async def put(self, entry: Entry, limits: ContextLimits, now: int) -> Entry:
        """Store an entry; on disk when this returns.

        :raises TooManyEntries:
        """
        stored: Entry = await self._storage.write(partial(table.put, entry=entry, limits=limits, now=now))
        self._remember(stored)
        return stored

    def _remember(self, entry: Entry) -> None:
        self._recent.pop(entry.key, None)
        if len(entry.value) <= RECENT_CHARACTERS:
            if len(self._recent) >= RECENT:
                del self._recent[next(iter(self._recent))]
            self._recent[entry.key] = entry

    def get(self, key: str, now: int) -> Entry | None:
        """One that has not expired."""
        entry = self._recent.get(key)
        if entry is None:
            entry = table.get(self._storage.reader, key, now)
            if entry is None:
                return None
            self._remember(entry)
        return None if entry.expires_at is not None and entry.expires_at <= now else entry

    async def delete(self, key: str, now: int) -> bool:
        """Remove one; False: there was none."""
        existed: bool = await self._storage.write(partial(table.delete, key=key, now=now))
        self._recent.pop(key, None)
        return existed

    def pages(self, prefix: str, now: int) -> Iterator[list[Entry]]:
        """By key, a few at a time."""
        return table.pages(self._storage.reader, prefix, now)

    def count(self, now: int) -> int:
        """How many there are."""
        return table.count(self._storage.reader, now)

    def purge(self, now: int) -> Deferred[Any]:
        """Strike what has expired."""
        return self._storage.write(partial(table.purge, now=now))

    def close(self) -> None:
        """The database is somebody else's."""


class Shared:
    """In Redis or Valkey. Nothing is held here: other machines change it."""

    def __init__(self, reactor: Any, url: str) -> None:
        """:raises ConfigError: the address can't be read."""
        from loopsy.errors import ConfigError
        from loopsy.store.shared_context import SharedContext  # only where it is used: it takes a while to load

        try:
            self._context = SharedContext(url)
        except ValueError:
            raise ConfigError("context.backend: the address can't be read") from None
        self._reactor = reactor
        self._threads = ThreadPool(0, THREADS, "shared context")
        self._threads.start()
        self._count = 0

    def in_thread(self, work: Any, *arguments: Any) -> Deferred[Any]:
        """Wait for the store, but not in the reactor."""
        return deferToThreadPool(self._reactor, self._threads, work, *arguments)

    async def put(self, entry: Entry, limits: ContextLimits, now: int) -> Entry:
        """Store an entry; in the store when this returns.

        :raises TooManyEntries: :raises ContextUnreachable:
        """
        stored: Entry = await self.in_thread(self._context.put, entry, limits, now)
        return stored

    def get(self, key: str, now: int) -> Deferred[Entry | None]:
        """One that has not expired.

        :raises ContextUnreachable:
        """
        return self.in_thread(self._context.get, key, now)

    async def delete(self, key: str, now: int) -> bool:
        """Remove one; False: there was none.

        :raises ContextUnreachable:
        """
        existed: bool = await self.in_thread(self._context.delete, key, now)
        return existed

    def pages(self, prefix: str, now: int) -> Iterator[list[Entry]]:
        """By key, a few at a time; each ``next`` waits for the store."""
        return self._context.pages(prefix, now)

    def count(self, now: int) -> int:
        """How many there were when it was asked last; asks again."""
        self.in_thread(self._context.count, now).addCallbacks(self._counted, lambda _: None)
        return self._count

    def _counted(self, count: int) -> None:
        self._count = count

    def purge(self, now: int) -> Deferred[Any]:
        """It strikes by itself; see whether it answers."""
        return self.in_thread(self._context.count, now).addCallbacks(self._counted, lambda _: None)

    def close(self) -> None:
        """Let go of it."""
        self._threads.stop()
        self._context.close()
