"""Peers of peers: a peer that we are paired with may tell whom it is paired with. They are shown, and not trusted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from loopsy.core import discovery as rules
from loopsy.core.around import Around
from loopsy.core.peers import Record
from loopsy.errors import LoopsyError
from loopsy.services.peers import Peers
from loopsy.services.settings import Settings
from loopsy.wire import urls
from loopsy.wire.peers import ONLINE, SHARES_PEERS, SharedPeers

EACH_S = 300.0
"""Who is paired with whom changes by hand; a peer that comes back is asked at once."""


class Offers(Service):
    """Asks each peer that is online and shares, one after the other."""

    name = "offers"
    log = Logger()

    def __init__(self, reactor: Any, settings: Settings, peers: Peers, around: Around) -> None:
        self._reactor = reactor
        self._enabled = settings.config.discovery.enabled
        self._peers, self._around = peers, around
        self._timers: dict[str, IDelayedCall] = {}
        self._watchers: list[Callable[[], None]] = []
        peers.when_changed(self._peer_changed)
        settings.when_changed(self._forget_others)

    def when_changed(self, watcher: Callable[[], None]) -> None:
        """Call ``watcher`` after each change of what is offered."""
        self._watchers.append(watcher)

    def startService(self) -> None:
        """Ask those that are online already."""
        super().startService()
        for record in self._peers.records():
            self._peer_changed(record, False)

    def stopService(self) -> None:
        """Ask no more."""
        super().stopService()
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def _peer_changed(self, record: Record, is_gone: bool) -> None:
        if not (self._enabled and self.running):
            return
        if is_gone:
            self._forget_others()
        elif self._shares(record) and record.node_id not in self._timers:
            self._ask_in(record.node_id, 0.0)

    def _shares(self, record: Record) -> bool:
        target = self._peers.target(record)
        return SHARES_PEERS in record.capabilities and record.status == ONLINE and target.key is not None

    def _ask_in(self, node_id: str, wait: float) -> None:
        self._timers[node_id] = self._reactor.callLater(wait, self._ask, node_id)

    def _ask(self, node_id: str) -> None:
        del self._timers[node_id]
        record = next((each for each in self._peers.records() if each.node_id == node_id), None)
        if record is None or not self._shares(record):
            return  # it is asked when it is back
        self._ask_in(node_id, EACH_S)
        Deferred.fromCoroutine(self._take(record)).addErrback(
            lambda failure: self.log.failure("what {label} told could not be taken", failure, label=record.label)
        )

    async def _take(self, record: Record) -> None:
        try:
            told = await self._peers.client.ask(self._peers.target(record), b"GET", urls.PEERS, SharedPeers)
        except LoopsyError as error:
            self.log.debug("{label} does not tell its peers: {error}", label=record.label, error=error)
            return
        if self.running and self._around.offered(
            record.label, rules.offers(told.peers, record.label, self._peers.own.node_id)
        ):
            self._tell()

    def _forget_others(self) -> None:
        """What those told that we are no longer paired with."""
        trusted = [record.label for record in self._peers.records() if self._peers.target(record).key is not None]
        if self._around.forget_offers(trusted):
            self._tell()

    def _tell(self) -> None:
        for watcher in self._watchers:
            watcher()
