"""The postmen: each peer for whom there is something has one. He goes one way at a time, and waits after a vain one."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from typing import Any

from attrs import frozen
from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from loopsy.core import messages as rules
from loopsy.core.peers import Record
from loopsy.core.principals import LOCAL
from loopsy.errors import BoxFull, Forbidden, LoopsyError, PeerNotFound, PeerUnreachable, RateLimited, Unauthenticated
from loopsy.services.carrying import Carrier, OldCarrier, OurCarrier, Round
from loopsy.services.clock import now_ms
from loopsy.services.context import Context
from loopsy.services.messages import BATCH, Messages
from loopsy.services.peers import Peers
from loopsy.services.settings import Settings
from loopsy.services.storage import Storage
from loopsy.store import delivery as table
from loopsy.wire import urls
from loopsy.wire.messages import ENVELOPES_MAX, RECEIPTS_MAX, REFUSED, UNDELIVERABLE
from loopsy.wire.peers import ONLINE, NodeIdentity


@frozen(kw_only=True)
class Office:
    """What all postmen share."""

    reactor: Any
    storage: Storage
    peers: Peers
    messages: Messages
    context: Context
    chance: Callable[[], float] = random.random


class Delivery(Service):
    """Sends the postmen out: when something is queued, when a peer comes back, when keys change."""

    name = "delivery"

    def __init__(
        self,
        reactor: Any,
        settings: Settings,
        storage: Storage,
        peers: Peers,
        messages: Messages,
        context: Context,
    ) -> None:
        self._office = Office(reactor=reactor, storage=storage, peers=peers, messages=messages, context=context)
        self._postmen: dict[str, Postman] = {}
        messages.when_waiting(self._queued)
        peers.when_changed(self._peer_changed)
        settings.when_changed(self._all)

    def startService(self) -> None:
        """Send out whom the last run left things with."""
        super().startService()
        self._all()

    async def stopService(self) -> None:  # our parent awaits it
        """Call them in; what was under way is sent again after the next start."""
        super().stopService()
        for postman in self._postmen.values():
            await postman.stop()
        self._postmen.clear()

    def _all(self) -> None:
        if self.running:
            for name in table.waiting_peers(self._office.storage.reader):
                self._postman(name).go(at_once=True)

    def _queued(self, name: str, has_room: bool) -> None:
        if self.running and name != LOCAL.name:
            record, postman = self._office.peers.holding(name), self._postman(name)
            if has_room:
                postman.take_heart(is_new=False)
            postman.go(at_once=record is not None and record.status == ONLINE)

    def _peer_changed(self, record: Record, is_gone: bool) -> None:
        name = self._office.peers.key_name(record)
        if is_gone or name is None:
            self._all()
        elif record.status == ONLINE and self.running:
            postman = self._postman(name)
            postman.take_heart(is_new=True)
            postman.go(at_once=True)

    def _postman(self, name: str) -> Postman:
        """No more of them than there are names of keys."""
        return self._postmen.setdefault(name, Postman(name, self._office))


class Postman:
    """One peer's."""

    log = Logger()

    def __init__(self, name: str, office: Office) -> None:
        self._name = name
        self._office = office
        self._under_way: Deferred[None] | None = None
        self._stopped = False
        self._is_held = False
        """The peer asked for time."""
        self._timer: IDelayedCall | None = None
        self._failures = 0
        self._carrier: Carrier | None = None
        """How the peer is spoken to; asked for anew after each failure and each return."""

    # -- when -------------------------------------------------------------------------------------------------------
    def go(self, *, at_once: bool = False) -> None:
        """There may be something. While he waits after a vain way ``at_once`` makes him go earlier, if the peer is not
        the one who asked for time."""
        if self._stopped or self._under_way is not None:
            return  # who is under way looks again before he rests
        if self._timer is None or (at_once and not self._is_held):
            self._cancel_timer()
            self._set_out()

    def take_heart(self, *, is_new: bool) -> None:
        """The peer is back (and may speak otherwise now: ``is_new``), or has room again: earlier failures are over."""
        self._failures, self._is_held = 0, False
        if is_new:
            self._carrier = None

    async def stop(self) -> None:
        """Not a step more."""
        self._stopped = True
        self._cancel_timer()
        if self._under_way is not None:
            under_way = self._under_way
            under_way.cancel()
            await under_way

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _set_out(self) -> None:
        self._timer = None
        self._under_way = Deferred.fromCoroutine(self._work())
        self._under_way.addErrback(self._failed)
        if self._under_way.called:
            self._under_way = None

    def _failed(self, failure: Any) -> None:
        self._under_way = None
        if not self._stopped:
            self.log.failure("delivering to {name} failed", failure, name=self._name)
            self._wait()

    def _wait(self) -> None:
        self._failures += 1
        if not self._stopped:
            wait = rules.wait_s(self._failures, self._office.chance())
            self._timer = self._office.reactor.callLater(wait, self._set_out)

    async def _work(self) -> None:
        while not self._stopped:
            found = self._round()
            if found.is_empty:
                break
            try:
                await self._carry(found)
            except LoopsyError as error:
                await self._came_back_with(found, error)
                break
            self._failures, self._is_held = 0, False
        self._under_way = None

    async def _came_back_with(self, found: Round, error: LoopsyError) -> None:
        self._carrier = None
        self._is_held = isinstance(error, BoxFull | RateLimited)
        if self._stopped:
            return
        try:
            await self._office.storage.write(partial(table.tried, messages=found.letters, reason=error.message))
        except LoopsyError as refused:
            self.log.warn("{error}", error=refused)
        self._wait()

    def _round(self) -> Round:
        reader = self._office.storage.reader
        letters = table.queued(reader, self._name, now_ms(), ENVELOPES_MAX)
        return Round(letters=letters, receipts=table.owed(reader, self._name, RECEIPTS_MAX))

    # -- how --------------------------------------------------------------------------------------------------------
    async def _carry(self, found: Round) -> None:
        """One way there, with receipts and letters.

        :raises LoopsyError: it was in vain, and worth another try.
        """
        peers = self._office.peers
        record = peers.holding(self._name)
        if record is None:
            await self._nobody_there(found)
            return
        if self._carrier is None:
            self._carrier = await self._ask_how(record)
        if self._carrier is None:
            await self._give_up(UNDELIVERABLE, f"{record.label} can't take messages", found)
            return
        try:
            await self._carrier.carry(found)
        except (Forbidden, Unauthenticated) as error:
            await self._ask_how(record)  # our key is known there, so it is the scope that is missing
            await self._give_up(REFUSED, f"{record.label} does not take messages from us: {error.message}", found)
            return
        peers.answered(record)

    async def _ask_how(self, record: Record) -> Carrier | None:
        """How the peer is spoken to; None: not at all.

        :raises LoopsyError: it isn't there, or does not know us.
        """
        office, target = self._office, self._office.peers.target(record)
        identity = await office.peers.client.ask(target, b"GET", urls.IDENTITY, NodeIdentity)
        if identity.node_id == office.peers.own.node_id:
            raise PeerUnreachable(f"the address of {record.label} is this machine's own")
        if record.is_identified and identity.node_id != record.node_id:
            raise PeerUnreachable(f"another machine answers at the address of {record.label}")
        kind = next((k for k in (OurCarrier, OldCarrier) if k.capability in identity.capabilities), None)
        if kind is None:
            return None
        return kind(
            name=self._name,
            hostname=identity.hostname,
            target=target,
            client=office.peers.client,
            messages=office.messages,
            context=office.context,
            own=office.peers.own,
        )

    async def _nobody_there(self, found: Round) -> None:
        """No peer of that name is known. One that still has a key may introduce itself and hear what we owe it."""
        is_trusted = self._office.peers.is_trusted(self._name)
        kept = Round(letters=found.letters, receipts=[]) if is_trusted else found
        await self._give_up(UNDELIVERABLE, f"{self._name} was removed, or is trusted no longer", kept)
        if is_trusted and found.receipts:
            raise PeerNotFound(f"{self._name} has not introduced itself yet")

    async def _give_up(self, state: str, reason: str, found: Round) -> None:
        operation = partial(table.give_up, peer=self._name, state=state, reason=reason, now=now_ms(), limit=BATCH)
        while await self._office.messages.change(operation):
            pass
        await self._office.messages.told(found.receipts)
