"""Discovery as a service: announces this machine on the LAN, takes in who else is announced, asks whether they are
there, and asks our peers whom they know. What is found is shown, and not trusted."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, DeferredLock, DeferredSemaphore
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure

from loopsy.core import discovery as rules
from loopsy.core.around import Around
from loopsy.core.discovery import Networks, Sighting
from loopsy.errors import LoopsyError
from loopsy.services.clock import now_ms
from loopsy.services.peers import Peers
from loopsy.services.settings import Settings
from loopsy.wire.discovery import DiscoveryState

if TYPE_CHECKING:
    from loopsy.services.mdns import Batch, Mdns

FIRST_S = 0.2
"""The daemon answers first, then zeroconf is loaded."""
EACH_S = 10.0
"""Between looks at the network interfaces."""
ASKED_AT_ONCE = 8


class Discovery(Service):
    """Off means off: nothing is loaded, no socket is opened, nobody is asked."""

    name = "discovery"
    log = Logger()

    def __init__(self, reactor: Any, settings: Settings, peers: Peers, around: Around) -> None:
        self._reactor = reactor
        self._peers, self._around = peers, around
        self._enabled = settings.config.discovery.enabled
        self._host = settings.config.server.host
        self._networks: Networks | None = None
        """Those that we are announced on."""
        self._here = Networks()
        """Those that there were at the last look: what is found while we are being announced counts already."""
        self._mdns: Mdns | None = None
        self._error: str | None = None
        self._sees_itself = False
        self._timer: IDelayedCall | None = None
        self._lock = DeferredLock()
        self._room = DeferredSemaphore(ASKED_AT_ONCE)
        self._asking: set[Deferred[None]] = set()
        self._nudged: dict[str, float] = {}
        self._watchers: list[Callable[[], None]] = []

    def when_changed(self, watcher: Callable[[], None]) -> None:
        """Call ``watcher`` after each change of what is found."""
        self._watchers.append(watcher)

    def _tell(self) -> None:
        for watcher in self._watchers:
            watcher()

    def state(self) -> DiscoveryState:
        """How this machine is announced."""
        if self._mdns is None:
            return DiscoveryState(enabled=self._enabled, error=self._error)
        return DiscoveryState(
            enabled=self._enabled,
            published=True,
            instance=self._mdns.instance,
            addresses=self._here.addresses,
            sees_itself=self._sees_itself,
            found=len(self._around),
            error=self._error,
        )

    # -- life -------------------------------------------------------------------------------------------------------
    def startService(self) -> None:
        """Begin, once the daemon answers."""
        super().startService()
        if self._enabled:
            self._timer = self._reactor.callLater(FIRST_S, self._tick)

    async def stopService(self) -> None:  # our parent awaits it
        """Say goodbye."""
        super().stopService()
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        for asking in tuple(self._asking):
            asking.cancel()
        await self._lock.acquire()  # whatever is under way comes to its end first
        try:
            await self._close()
        finally:
            self._lock.release()

    def _tick(self) -> None:
        looked = Deferred.fromCoroutine(self._look_after())
        looked.addErrback(lambda failure: self.log.failure("looking after discovery failed", failure))
        looked.addBoth(lambda _: self._again())

    def _again(self) -> None:
        if self.running:
            self._timer = self._reactor.callLater(EACH_S, self._tick)

    async def _look_after(self) -> None:
        await self._lock.acquire()
        try:
            if self.running:
                await self._follow_networks()
        finally:
            self._lock.release()
        if not self.running:
            return
        now = self._reactor.seconds()
        if self._around.sweep(now):
            self._tell()
        known = {record.node_id for record in self._peers.records()}
        self._nudged = {node_id: at for node_id, at in self._nudged.items() if now - at < rules.ASK_AGAIN_S}
        for sighting in self._around.due(now, known):
            self._ask(sighting)

    def _blocking(self, work: Callable[..., Any], *arguments: Any) -> Deferred[Any]:
        return deferToThreadPool(self._reactor, self._reactor.getThreadPool(), work, *arguments)

    # -- the network ------------------------------------------------------------------------------------------------
    async def _follow_networks(self) -> None:
        """Be announced on the networks that there are now."""
        try:
            networks = await self._blocking(_look, self._host)
            if networks == self._networks:
                return
            self._here = networks
            if not networks.addresses:
                await self._close()
            elif self._mdns is None:
                self._mdns = await self._blocking(_open, self._peers.own, networks, self._heard_in_thread)
            else:
                await self._blocking(self._mdns.moved, self._peers.own, networks)
        except Exception as error:  # zeroconf has errors of many kinds, and none of them is worth the daemon
            self._not_announced(error)
            await self._close()
            return
        self._networks = networks
        self._say(networks)

    def _not_announced(self, error: Exception) -> None:
        text = str(error) or type(error).__name__
        if text != self._error:
            self.log.warn("not announced on the LAN, trying again: {error}", error=text)
        self._error = text

    def _say(self, networks: Networks) -> None:
        if self._mdns is not None:
            self._error = None
            text, addresses = "announced as {instance} at {addresses}", ", ".join(networks.addresses)
            self.log.info(text, instance=self._mdns.instance, addresses=addresses)
        else:
            self._error = f"there is no network that reaches {self._host}"
            self.log.info("not announced on the LAN: {error}", error=self._error)

    async def _close(self) -> None:
        mdns, self._mdns = self._mdns, None
        self._networks, self._sees_itself = None, False
        if mdns is None:
            return
        try:
            await self._blocking(mdns.close)
        except Exception:
            self.log.failure("mDNS could not be closed")

    # -- what is found ----------------------------------------------------------------------------------------------
    def _heard_in_thread(self, batch: Batch) -> None:
        self._reactor.callFromThread(self._heard, batch)

    def _heard(self, batch: Batch) -> None:
        if not self.running:
            return
        now = self._reactor.seconds()
        for instance, service in batch.items():
            if service is None:
                self._around.lost(instance, now)
                continue
            self._sees_itself = self._sees_itself or self._is_own(service)
            seen = rules.read(service, self._here, self._peers.own.port, now)
            sighting = None if seen is None else self._around.take(seen)
            if sighting is not None:
                self._follow_up(sighting, now)
        self._tell()

    def _is_own(self, service: rules.Service) -> bool:
        return rules.read_text(service.text).get("nodeid") == self._peers.own.node_id

    def _follow_up(self, sighting: Sighting, now: float) -> None:
        """Somebody announces himself: a peer is asked by the prober, with its pin; a stranger here, for his node id."""
        if self._peers.knows(sighting.node_id):
            last = self._nudged.get(sighting.node_id)
            if last is None or now - last >= rules.ASK_AGAIN_S:
                self._nudged[sighting.node_id] = now
                self._peers.announced(sighting.node_id)
        elif sighting.asked_at is None or now - sighting.asked_at >= rules.ASK_AGAIN_S:
            self._ask(sighting)

    def _ask(self, sighting: Sighting) -> None:
        self._around.asked(sighting.instance, self._reactor.seconds())
        asking = self._room.run(lambda: Deferred.fromCoroutine(self._ask_each_place(sighting)))
        self._asking.add(asking)
        asking.addErrback(self._not_asked)
        asking.addBoth(lambda _: self._asking.discard(asking))

    def _not_asked(self, failure: Failure) -> None:
        if failure.check(CancelledError) is None and self.running:
            self.log.failure("a service could not be asked", failure)

    async def _ask_each_place(self, sighting: Sighting) -> None:
        before = self._around.get(sighting.instance)
        for place in sighting.places:
            try:
                health = await self._peers.client.stranger(*place)
            except LoopsyError:
                continue
            if health.node_id == sighting.node_id:
                self._around.answered(sighting.instance, place, self._reactor.seconds(), now_ms())
                break
        else:
            self._around.missed(sighting.instance)
        if before != self._around.get(sighting.instance):
            self._tell()


def _look(host: str) -> Networks:
    from loopsy.services import networks  # psutil is loaded in the thread, not at the start

    return networks.look(host)


def _open(own: Any, networks: Networks, tell: Callable[[Batch], None]) -> Mdns:
    from loopsy.services.mdns import Mdns

    return Mdns(own, networks, tell)
