"""The inbox and the outbox. What leaves here for a peer is carried by services/delivery.py."""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

from attrs import evolve
from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from loopsy.core import messages as rules
from loopsy.core.messages import Sender, Wanted
from loopsy.core.principals import LOCAL, PeerPrincipal, Principal
from loopsy.core.rates import Category, Rates
from loopsy.errors import Forbidden, InvalidRequest, LoopsyError, PeerNotFound, PeerWithoutKey
from loopsy.services.clock import now_ms
from loopsy.services.events import Events
from loopsy.services.peers import Peers
from loopsy.services.settings import Settings
from loopsy.services.storage import Storage
from loopsy.services.waiting import Turn, WaitingRoom
from loopsy.store import delivery
from loopsy.store import messages as boxes
from loopsy.store.messages import Found
from loopsy.wire.messages import (
    ACKED,
    AGENT,
    BROADCAST,
    CANCELLED,
    CHAT,
    EVERYONE,
    IN,
    OUT,
    PAGE_MAX,
    QUEUED,
    READ,
    UNREAD,
    Deliveries,
    Delivery,
    Envelope,
    Message,
    MessagePage,
    Receipts,
    SendMessage,
    Take,
)
from loopsy.wire.status import MessageCounts

SWEEP_S = 60.0
"""At the latest after this the boxes are looked through for what is over (clocks may jump)."""
BATCH = 1000
"""Messages that are brought to their end at once: some tens of ms, in which nothing else is written."""


class Messages(Service):
    """What was sent and what came, each on disk before it is answered for."""

    name = "messages"
    log = Logger()

    def __init__(self, reactor: Any, settings: Settings, storage: Storage, events: Events, peers: Peers) -> None:
        self._reactor = reactor
        self._settings = settings
        self._storage = storage
        self._events = events
        self._peers = peers
        self._room = WaitingRoom(reactor)
        self._rates = Rates()
        self._ack_listeners: list[Callable[[Found], Awaitable[None]]] = []
        self._couriers: list[Callable[[str, bool], None]] = []
        self._sweep_at = 0
        self._sweep: IDelayedCall | None = None
        self._purged = 0.0

    # -- life -------------------------------------------------------------------------------------------------------
    def startService(self) -> None:
        """Begin to look after deadlines."""
        super().startService()
        self._plan(now_ms())

    def stopService(self) -> None:
        """No more."""
        super().stopService()
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
        self._room.end()

    def when_waiting(self, courier: Callable[[str, bool], None]) -> None:
        """Call ``courier`` with a peer's name when there is something for it, or (True) when it has taken some."""
        self._couriers.append(courier)

    def when_acked(self, listener: Callable[[Found], Awaitable[None]]) -> None:
        """Call ``listener`` with a message that was acknowledged here, before the answer."""
        self._ack_listeners.append(listener)

    def turn(self, seconds: float) -> Turn:
        """A reader's turn; it must leave it in the end.

        :raises RateLimited: too many wait already.
        """
        return self._room.turn(seconds)

    # -- sending ----------------------------------------------------------------------------------------------------
    async def send(self, asked: SendMessage) -> tuple[tuple[Message, ...], bool]:
        """Queue a message for each recipient; on disk when this returns. The messages, and whether any is new.

        :raises PeerNotFound: :raises PeerWithoutKey: :raises MessageTooLarge: :raises TooManyReplies:
        :raises MessageIdTaken: :raises BoxFull: :raises RateLimited: :raises InvalidRequest:
        """
        settings = self._settings.config
        if asked.origin == AGENT:
            self._rates.spend("agents here", Category.MESSAGES, settings.rate_limits, time.monotonic())
        rules.check_body(asked.body, settings.messages)
        drafts = self._drafts(asked, self._recipients(asked.to))
        operation = partial(boxes.queue, drafts=drafts, limits=settings.messages)
        messages, new = await self._storage.write(operation)
        self._tell_new(new)
        return tuple(messages), bool(new)

    def _recipients(self, word: str) -> list[str]:
        """The names of the keys of who is meant; ``local`` for this machine."""
        if word == EVERYONE:
            names = {self._peers.key_name(self._peers.resolve(peer.node_id)) for peer in self._peers.list()}
            found = sorted(name for name in names if name is not None)
            if not found:
                raise PeerNotFound("no peer is trusted yet, so there is nobody to tell", hint="pair: loopsy pair")
            return found
        own = self._peers.own
        if word in (own.hostname, own.node_id) and self._peers.holding(word) is None:
            return [LOCAL.name]
        record = self._peers.resolve(word)
        name = self._peers.key_name(record)
        if name is None:
            raise PeerWithoutKey(f"there is no key for {record.label}", hint="pair with it: loopsy pair")
        return [name]

    def _drafts(self, asked: SendMessage, names: Sequence[str]) -> list[tuple[str, Message]]:
        limits, now, own = self._settings.config.messages, now_ms(), self._peers.own
        base = asked.id or rules.new_id(now, own.hostname, os.urandom(8))
        many = asked.to == EVERYONE
        drafts: list[tuple[str, Message]] = []
        for name in names:
            identifier = rules.id_for(base, name) if many else base
            answered = boxes.answered(self._storage.reader, asked.in_reply_to, name)
            is_reply = asked.in_reply_to is not None
            message = Message(
                id=identifier,
                direction=OUT,
                seq=0,
                from_=own.hostname,
                from_node_id=own.node_id,
                to=own.hostname if name == LOCAL.name else name,
                type=asked.type or (BROADCAST if many else CHAT),
                body=asked.body,
                ts=now,
                state=QUEUED,
                state_at=now,
                thread=(asked.in_reply_to or base) if answered is None else answered.thread,
                origin=asked.origin,
                depth=rules.depth_of_reply(asked.origin, answered, is_reply, asked.force, limits),
                trust=rules.trust_of(OUT, name, None),
                in_reply_to=asked.in_reply_to,
                expires_at=rules.deadline(asked.ttl, now, limits),
            )
            drafts.append((name, message))
        return drafts

    # -- reading ----------------------------------------------------------------------------------------------------
    async def page(self, wanted: Wanted, turn: Turn) -> MessagePage:
        """A page of a box, as soon as there is something on it or the turn is over."""
        wanted = self._named(wanted)
        while True:
            found, following = boxes.page(self._storage.reader, wanted)
            if found or not await turn.wait():
                return MessagePage(messages=tuple(found), unread=self.counts().unread, next=following)

    async def take(self, asked: Take, turn: Turn) -> MessagePage:
        """Unread messages, read on disk when this returns, as soon as there are any or the turn is over."""
        wanted = Wanted(direction=IN, states=(UNREAD,), peer=asked.from_, thread=asked.thread, limit=asked.limit)
        wanted = self._named(wanted)
        while True:
            now = now_ms()
            if boxes.page(self._storage.reader, evolve(wanted, limit=1), now)[0]:
                taken, changed = await self._storage.write(partial(boxes.take, wanted=wanted, now=now))
                self._tell(changed)
                if taken:
                    return MessagePage(messages=tuple(taken), unread=self.counts().unread)
            if not await turn.wait():
                return MessagePage(messages=(), unread=self.counts().unread)

    def _named(self, wanted: Wanted) -> Wanted:
        """With the name under which the boxes know the peer."""
        if wanted.peer is None:
            return wanted
        own = self._peers.own
        if wanted.peer in (own.hostname, own.node_id) and self._peers.holding(wanted.peer) is None:
            return evolve(wanted, peer=LOCAL.name)
        try:
            record = self._peers.resolve(wanted.peer)
        except PeerNotFound:
            return wanted  # one that was removed: its messages are still here
        return evolve(wanted, peer=self._peers.key_name(record) or wanted.peer)

    def get(self, message_id: str, box: str | None) -> Message:
        """One message.

        :raises MessageNotFound:
        """
        return boxes.by_id(self._storage.reader, message_id, box).message

    def thread(self, identifier: str) -> tuple[Message, ...]:
        """A conversation, oldest first: its last messages where it is long.

        :raises MessageNotFound:
        """
        found = boxes.thread(self._storage.reader, identifier, PAGE_MAX)
        if not found:
            raise rules.not_found(identifier)
        return tuple(found)

    def counts(self) -> MessageCounts:
        """How many are unread, and how many wait for a peer."""
        reader = self._storage.reader
        return MessageCounts(unread=boxes.count(reader, UNREAD), queued=boxes.count(reader, QUEUED))

    # -- changing ---------------------------------------------------------------------------------------------------
    async def mark(self, message_id: str, box: str | None, state: str) -> Message:
        """Read or acknowledge a message; on disk when this returns. What is so already stays.

        :raises MessageNotFound: :raises InvalidRequest: it is one of our own.
        """
        assert state in (READ, ACKED)
        if self.get(message_id, box).direction == OUT:
            raise InvalidRequest("this message was sent from here; only its recipient can read and acknowledge it")
        operation = partial(boxes.mark, message_id=message_id, box=IN, state=state, now=now_ms())
        found, changed = await self._storage.write(operation)
        self._tell(changed)
        assert isinstance(found, Found)
        if changed and state == ACKED:
            for listener in self._ack_listeners:
                await listener(found)
        return found.message

    async def remove(self, message_id: str, box: str | None) -> None:
        """Cancel one that waits, or strike any other from our list; on disk when this returns.

        :raises MessageNotFound:
        """
        now = now_ms()

        def act(db: Any) -> list[Message]:
            found = boxes.by_id(db, message_id, box)
            if found.message.state == QUEUED:
                return boxes.move(db, found, CANCELLED, now)
            return boxes.strike(db, found, now)

        self._tell(await self._storage.write(act))

    # -- from and for peers -----------------------------------------------------------------------------------------
    async def accept(self, raw: Sequence[Any], principal: Principal) -> Deliveries:
        """Take what a peer delivers; on disk when this returns.

        :raises InvalidRequest: one of them can't even be told apart. :raises Forbidden: no peer delivers it.
        """
        if not isinstance(principal, PeerPrincipal):
            raise Forbidden("messages are delivered with a peer's key, which tells who sends them", hint="pair anew")
        name, own = principal.name, self._peers.own
        sender = Sender(peer=name, name=name, node_id=self._peers.node_of(principal), to=own.hostname)
        envelopes = [rules.envelope_of(item, at) for at, item in enumerate(raw)]
        return Deliveries(results=tuple(await self.arrive(envelopes, sender)))

    async def arrive(self, envelopes: Sequence[Envelope | Delivery], sender: Sender) -> Sequence[Delivery]:
        """Put envelopes in the inbox: what became of each."""
        limits = self._settings.config.messages
        operation = partial(boxes.accept, envelopes=envelopes, sender=sender, limits=limits, now=now_ms())
        results, new = await self._storage.write(operation)
        self._tell_new(new)
        assert isinstance(results, list)
        return results

    async def report(self, receipts: Receipts, principal: Principal) -> Deliveries:
        """What a peer says of messages that we sent it; on disk when this returns.

        :raises Forbidden: no peer says it.
        """
        if not isinstance(principal, PeerPrincipal):
            raise Forbidden("receipts come with a peer's key", hint="pair anew")
        operation = partial(delivery.report, peer=principal.name, receipts=receipts.receipts, now=now_ms())
        results, changed = await self._storage.write(operation)
        self._tell(changed)
        self._call_courier(principal.name, has_room=bool(changed))
        return Deliveries(results=tuple(results))

    async def change(self, operation: Callable[[Any], list[Message]]) -> int:
        """Write, and tell what changed: how many that were."""
        changed: list[Message] = await self._storage.write(operation)
        self._tell(changed)
        return len(changed)

    async def told(self, messages: Sequence[Message]) -> None:
        """The peer knows these states; on disk when this returns."""
        await self._storage.write(partial(delivery.told, messages=messages))

    # -- telling ----------------------------------------------------------------------------------------------------
    def _tell_new(self, messages: Sequence[Message]) -> None:
        for message in messages:
            kind = "message.received" if message.direction == IN else "message.changed"
            self._publish(kind, message)
            if message.state == QUEUED:
                self._call_courier(message.to)
        self._after(messages)

    def _tell(self, changed: Sequence[Message]) -> None:
        for message in changed:
            self._publish("message.changed", message)
        for name in {message.from_ for message in changed if message.direction == IN}:
            self._call_courier(name)
        self._after(changed)

    def _publish(self, kind: str, message: Message) -> None:
        if kind == "message.changed" and len(message.body) > rules.SHOWN:
            message = evolve(message, body=message.body[: rules.SHOWN] + "…")
        self._events.publish(kind, message)

    def _call_courier(self, name: str, *, has_room: bool = False) -> None:
        for courier in self._couriers:
            courier(name, has_room)

    def _after(self, messages: Sequence[Message]) -> None:
        if not messages:
            return
        self._room.wake()
        due = [m.expires_at for m in messages if m.expires_at is not None and m.state in (UNREAD, QUEUED)]
        if due and min(due) < self._sweep_at:
            self._plan(min(due))

    # -- deadlines --------------------------------------------------------------------------------------------------
    def _plan(self, at: int) -> None:
        """Sweep at a time (ms since the epoch), or a minute from now."""
        if not self.running:
            return
        if self._sweep is not None:
            self._sweep.cancel()
        wait = min(max(0.0, (at - now_ms()) / 1000), SWEEP_S)
        self._sweep_at = now_ms() + round(wait * 1000)
        self._sweep = self._reactor.callLater(wait, self._sweep_now)

    def _sweep_now(self) -> None:
        self._sweep = None
        Deferred.fromCoroutine(self._end_what_is_over()).addErrback(
            lambda failure: self.log.failure("the boxes could not be looked through", failure)
        )

    async def _end_what_is_over(self) -> None:
        due = now_ms() + round(SWEEP_S * 1000)
        try:
            while await self.change(partial(boxes.expire, now=now_ms(), limit=BATCH)):
                pass
            if time.monotonic() - self._purged >= SWEEP_S:
                self._purged = time.monotonic()
                await self._storage.write(partial(boxes.purge, limits=self._settings.config.messages, now=now_ms()))
            due = min(boxes.next_due(self._storage.reader) or due, due)
        except LoopsyError as error:
            self.log.error("messages could not be brought to their end: {error}", error=error)
        self._plan(due)
