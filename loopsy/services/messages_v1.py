"""Existing nodes speak of messages in our context; here that becomes what it means, and back."""

from __future__ import annotations

from collections.abc import Awaitable
from contextlib import suppress
from functools import partial

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from loopsy.core import messages_v1 as v1
from loopsy.core.messages import Sender
from loopsy.core.principals import LOCAL, PeerPrincipal, Principal, Scope
from loopsy.errors import BoxFull, KeyNotFound, LoopsyError
from loopsy.services.clock import now_ms
from loopsy.services.context import Context
from loopsy.services.messages import Messages
from loopsy.services.peers import Peers
from loopsy.store import delivery as table
from loopsy.store.messages import Found
from loopsy.wire import urls
from loopsy.wire.context import Entry, PutEntry
from loopsy.wire.messages import LATER, REFUSED


class OldMessages:
    """Reads what is put into our context, and clears away there what was acknowledged."""

    log = Logger()

    def __init__(self, messages: Messages, context: Context, peers: Peers) -> None:
        self._messages, self._context, self._peers = messages, context, peers
        context.when_put(self._put)
        messages.when_acked(self._acked)

    def _put(self, entry: Entry, by: Principal) -> Awaitable[None] | None:
        if isinstance(by, PeerPrincipal) and Scope.MESSAGES not in by.scopes:
            return None  # the context is no way round the scope
        own = self._peers.own.hostname
        old = v1.read(entry.key, entry.value, own)
        if old is not None:
            return self._arrived(old, by)
        acked = v1.acked_id(entry.key, entry.value)
        return None if acked is None else self._read_there(acked, by)

    async def _arrived(self, old: v1.OldEnvelope, by: Principal) -> None:
        """:raises BoxFull: then the other side tries again."""
        (result,) = await self._messages.arrive([v1.as_ours(old)], self._sender(old, by))
        if result.result == LATER:
            raise BoxFull(result.reason)
        if result.result == REFUSED:
            self.log.warn("the message {id} stays in the context only: {reason}", id=old.id, reason=result.reason)

    def _sender(self, old: v1.OldEnvelope, by: Principal) -> Sender:
        own = self._peers.own
        is_peer = isinstance(by, PeerPrincipal)
        name = by.name if is_peer else own.hostname
        record = self._peers.holding(name) if is_peer else None
        itself = {name, *([] if record is None else [record.hostname])}
        return Sender(
            peer=by.name if is_peer else LOCAL.name,
            name=name,
            node_id=self._peers.node_of(by),
            to=own.hostname,
            is_v1=True,
            claimed_from=None if old.from_ in itself else old.from_[:255],
        )

    async def _read_there(self, message_id: str, by: Principal) -> None:
        peer = by.name if isinstance(by, PeerPrincipal) else None
        operation = partial(table.acked_by_v1, peer=peer, message_id=message_id, now=now_ms())
        await self._messages.change(operation)

    async def _acked(self, found: Found) -> None:
        if not found.is_v1:
            return
        own, claimed = self._peers.own, found.message.claimed_from
        with suppress(KeyNotFound):
            await self._context.delete(v1.inbox_key(own.hostname, found.message.id), own.node_id)
        if found.peer == LOCAL.name and claimed is not None:
            told = Deferred.fromCoroutine(self._tell_once(claimed, found.message.id))
            told.addErrback(lambda failure: self.log.failure("an ack could not be told", failure))

    async def _tell_once(self, word: str, message_id: str) -> None:
        """One that shares our key can't be told apart from ourselves, so no postman goes there: whoever it says it is
        hears of the ack, if it is there. An id that it does not know is nothing to it."""
        try:
            target = self._peers.keyed(self._peers.resolve(word))
            path = urls.fill(urls.CONTEXT_ENTRY, key=f"{v1.ACK}{self._peers.own.hostname}")
            await self._peers.client.ask(target, b"PUT", path, Entry, PutEntry(value=message_id, ttl=v1.ACK_TTL_S))
        except LoopsyError as error:
            self.log.info("{peer} was not told of the ack of {id}: {error}", peer=word, id=message_id, error=error)
