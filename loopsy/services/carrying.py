"""How letters and receipts get to a peer: by our own protocol, or as an existing node's context entries."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import ClassVar

from attrs import frozen
from twisted.logger import Logger

from loopsy.client.peer import PeerClient, Target
from loopsy.core import messages as rules
from loopsy.core import messages_v1 as v1
from loopsy.errors import BoxFull, InvalidRequest, TooManyEntries, UnknownRoute, ValueTooLarge, WrongMethod
from loopsy.services.clock import now_ms
from loopsy.services.context import Context
from loopsy.services.messages import Messages
from loopsy.store import delivery as table
from loopsy.wire import codec, urls
from loopsy.wire.context import Entry, PutEntry
from loopsy.wire.messages import (
    ACKED,
    DELIVER_BYTES,
    DELIVERED,
    DUPLICATE,
    REFUSED,
    Deliver,
    Deliveries,
    Envelope,
    Message,
    Receipt,
    Receipts,
)
from loopsy.wire.peers import NodeIdentity

BAD, TOO_LARGE = 400, 413


@frozen(kw_only=True)
class Round:
    """What a postman takes with him."""

    letters: list[Message]
    receipts: list[Message]
    """Of letters that the peer sent: in what state they are now."""

    @property
    def is_empty(self) -> bool:
        """Nothing to do."""
        return not self.letters and not self.receipts


@frozen(kw_only=True)
class Carrier:
    """The way to one peer."""

    log: ClassVar[Logger] = Logger()
    capability: ClassVar[str]
    """What a peer must be able to do for it."""

    name: str
    hostname: str
    """What the peer calls itself."""
    target: Target
    client: PeerClient
    messages: Messages
    context: Context
    own: NodeIdentity

    async def carry(self, found: Round) -> None:
        """Carry all, or raise after some.

        :raises LoopsyError: the rest is worth another try. :raises Forbidden: the peer has no place for it.
        """
        raise NotImplementedError


class OurCarrier(Carrier):
    """``/messages/deliver`` and ``/messages/receipts``."""

    capability = "messages"

    async def carry(self, found: Round) -> None:
        """Receipts first: who waits for one waits longer already."""
        if found.receipts:
            await self._report(found.receipts)
        if found.letters:
            await self._deliver(found.letters)

    async def _report(self, letters: Sequence[Message]) -> None:
        receipts = Receipts(receipts=tuple(Receipt(id=m.id, state=m.state, at=m.state_at) for m in letters))
        try:
            await self.client.ask(self.target, b"POST", urls.RECEIPTS, Deliveries, receipts)
        except InvalidRequest as error:
            if error.status != BAD:
                raise
            self.log.warn("{peer} does not understand our receipts: {error}", peer=self.name, error=error)
        await self.messages.told(letters)

    async def _deliver(self, letters: Sequence[Message]) -> None:
        batch = fitting(letters, now_ms())
        asked = Deliver(envelopes=tuple(batch))
        try:
            answer = await self.client.ask(self.target, b"POST", urls.DELIVER, Deliveries, asked)
        except InvalidRequest as error:
            if error.status not in (BAD, TOO_LARGE):
                raise
            await self._without_the_bad_one(letters, len(batch), error)
            return
        results = {result.id: result for result in answer.results}
        settled: list[tuple[Message, str, str | None]] = []
        for letter, _ in zip(letters, batch, strict=False):
            result = results.get(letter.id)
            if result is not None and result.result in (DELIVERED, DUPLICATE):
                settled.append((letter, DELIVERED, None))
            elif result is not None and result.result == REFUSED:
                settled.append((letter, REFUSED, (result.reason or "without a reason")[:500]))
        await self.messages.change(partial(table.settle, results=settled, now=now_ms()))
        if len(settled) < len(batch):
            raise BoxFull(f"the inbox of {self.name} is full")

    async def _without_the_bad_one(self, letters: Sequence[Message], many: int, error: InvalidRequest) -> None:
        """The peer can't read a delivery at all: its first letter goes alone, so that a bad one holds up no other."""
        if many > 1:
            await self._deliver(letters[:1])
        else:
            settled = [(letters[0], REFUSED, error.message)]
            await self.messages.change(partial(table.settle, results=settled, now=now_ms()))


def fitting(letters: Sequence[Message], now: int) -> list[Envelope]:
    """The envelopes of as many of the first letters as one delivery holds."""
    batch: list[Envelope] = []
    size = len(b'{"envelopes":[]}')
    for letter in letters:
        envelope = rules.on_its_way(letter, now)
        size += len(codec.dump(envelope)) + 1
        if batch and size > DELIVER_BYTES:
            break
        batch.append(envelope)
    return batch


class OldCarrier(Carrier):
    """Context entries, one letter after the other."""

    capability = "context"

    async def carry(self, found: Round) -> None:
        """An existing node hears of the last letter that was acknowledged, and of nothing else."""
        acked = [letter for letter in found.receipts if letter.state == ACKED]
        if acked:
            key, value = f"{v1.ACK}{self.own.hostname}", PutEntry(value=acked[-1].id, ttl=v1.ACK_TTL_S)
            await self._put(key, value)
        await self.messages.told(found.receipts)
        for letter in found.letters:
            state, reason = await self._send(letter)
            await self.messages.change(partial(table.settle, results=[(letter, state, reason)], now=now_ms()))

    async def _send(self, letter: Message) -> tuple[str, str | None]:
        envelope = PutEntry(value=v1.written(letter, self.own.hostname, self.hostname), ttl=v1.ENVELOPE_TTL_S)
        try:
            await self._put(v1.inbox_key(self.hostname, letter.id), envelope)
        except (UnknownRoute, WrongMethod):
            raise  # there is something else at that address
        except (InvalidRequest, ValueTooLarge) as error:
            return REFUSED, error.message
        with suppress(TooManyEntries, InvalidRequest, ValueTooLarge):  # our own copy is for whoever looks there
            await self.context.put(f"{v1.OUTBOX}{letter.id}", envelope, self.own.node_id)
        return DELIVERED, None

    async def _put(self, key: str, value: PutEntry) -> None:
        await self.client.ask(self.target, b"PUT", urls.fill(urls.CONTEXT_ENTRY, key=key), Entry, value)
