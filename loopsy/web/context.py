"""The context store over HTTP."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any

from attrs import frozen
from twisted.internet.defer import Deferred

from loopsy.core.principals import Scope, Scoped
from loopsy.core.rates import Category
from loopsy.services.context_stores import Shared
from loopsy.services.daemon import Daemon
from loopsy.web.routes import ANSWERED, Answered, Call, Routes
from loopsy.web.streams import Fed, Pulled
from loopsy.wire import codec, urls
from loopsy.wire.context import Entry, EntryDeleted, EntryList, PutEntry

ACCESS = Scoped(Scope.CONTEXT)


@frozen(eq=False)
class ContextArea:
    """Shared values."""

    daemon: Daemon
    routes = Routes()

    @routes.declare("PUT", urls.CONTEXT_ENTRY, access=ACCESS, rate=Category.CONTEXT, takes=PutEntry, answers=Entry)
    async def put(self, call: Call[PutEntry], key: str) -> Entry:
        """Set a value."""
        call.note(key=key)
        node_id = self.daemon.peers.node_of(call.principal)
        return await self.daemon.context.put(key, call.body, node_id, call.principal)

    @routes.declare("GET", urls.CONTEXT_ENTRY, access=ACCESS, rate=Category.CONTEXT, answers=Entry)
    def get(self, call: Call[None], key: str) -> Entry | Deferred[Entry]:
        """Get a value."""
        call.note(key=key)
        return self.daemon.context.get(key)

    @routes.declare("DELETE", urls.CONTEXT_ENTRY, access=ACCESS, rate=Category.CONTEXT, answers=EntryDeleted)
    async def delete(self, call: Call[None], key: str) -> EntryDeleted:
        """Delete a value."""
        call.note(key=key)
        await self.daemon.context.delete(key, self.daemon.peers.node_of(call.principal))
        return EntryDeleted(success=True, key=key)

    @routes.declare("GET", urls.CONTEXT, access=ACCESS, rate=Category.CONTEXT, answers=EntryList)
    def list(self, call: Call[None]) -> Answered | Deferred[Answered]:
        """All entries, or those whose keys start with ``?prefix=``."""
        context = self.daemon.context
        pieces = listing(context.pages(call.query("prefix") or ""))
        if isinstance(context.store, Shared):
            return Deferred.fromCoroutine(self._fed(call, pieces, context.store.in_thread))
        call.request.begin(200, b"application/json")
        Pulled(call.request, pieces)
        return ANSWERED

    async def _fed(self, call: Call[None], pieces: Iterator[bytes], in_thread: Callable[..., Any]) -> Answered:
        """The same from a store that must be waited for; that it doesn't answer is told before the head is sent."""
        first = await in_thread(next, pieces)
        call.request.begin(200, b"application/json")
        Fed(call.request, chain((first,), pieces), in_thread)
        return ANSWERED


def listing(pages: Iterator[list[Entry]]) -> Iterator[bytes]:
    """The JSON of an EntryList, a page at a time."""
    lead = b'{"entries":['
    for page in pages:
        yield lead + b",".join(codec.dump(entry) for entry in page)
        lead = b","
    yield b"]}" if lead == b"," else lead + b"]}"
