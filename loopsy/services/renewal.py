"""Renewing our certificate: made in time, announced to every peer that pins us, and in use from the start after that.

A peer that was away is told when it is back. One that stays away until the last days finds another certificate than it
pinned, says so, and must be paired again.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import partial

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from loopsy.errors import LoopsyError
from loopsy.services.peers import Peers
from loopsy.services.storage import Storage
from loopsy.store import certificate
from loopsy.store.certificate import Certificate
from loopsy.store.database import get_fact, set_fact
from loopsy.store.layout import Layout
from loopsy.wire import urls
from loopsy.wire.trust import NextCertificate, Noted

LOOK_S = 3600.0
LAST_DAYS = timedelta(days=7)
"""Then it is put in use, whoever does not know of it."""
TOLD = "told-certificate:"


class Renewal(Service):
    """Looks once an hour whether our certificate nears its end."""

    name = "renewal"
    log = Logger()

    def __init__(self, reactor: IReactorTime, layout: Layout, hostname: str, peers: Peers, storage: Storage) -> None:
        self._layout, self._hostname, self._peers, self._storage = layout, hostname, peers, storage
        self._looking = LoopingCall(self._look)
        self._looking.clock = reactor

    def startService(self) -> None:
        """Look now, and each hour."""
        super().startService()
        self._looking.start(LOOK_S).addErrback(lambda failure: self.log.failure("renewing stopped", failure))

    def stopService(self) -> None:
        """Look no more."""
        super().stopService()
        if self._looking.running:
            self._looking.stop()

    def _look(self) -> Deferred[None]:
        done = Deferred.fromCoroutine(self._renew_if_due())
        return done.addErrback(lambda failure: self.log.failure("the certificate could not be renewed", failure))

    async def _renew_if_due(self) -> None:
        own, now = certificate.ensure(self._layout, self._hostname), datetime.now(UTC)
        if not certificate.is_due(own, now):
            return
        following = certificate.next_one(self._layout, own, self._hostname)
        if await self._all_know(following) or own.expires - now < LAST_DAYS:
            certificate.put_in_use(self._layout)
            self.log.info("the certificate is renewed: {pin}, from the next start on", pin=following.fingerprint)

    async def _all_know(self, following: Certificate) -> bool:
        told = True
        for peer in self._peers.list():
            if peer.trusted and peer.name is not None:
                told = await self._tell(peer.name, following.fingerprint) and told
        return told

    async def _tell(self, name: str, fingerprint: str) -> bool:
        if get_fact(self._storage.reader, f"{TOLD}{name}") == fingerprint:
            return True
        target = self._peers.target(self._peers.resolve(name))
        asked = NextCertificate(fingerprint=fingerprint)
        try:
            await self._peers.client.ask(target, b"POST", urls.TRUST_CERTIFICATE, Noted, asked)
        except LoopsyError as error:
            self.log.warn("{name} does not know our next certificate yet: {error}", name=name, error=error)
            return False
        await self._storage.write(partial(set_fact, name=f"{TOLD}{name}", value=fingerprint))
        return True
