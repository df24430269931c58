"""What an announcement may do to a peer of ours: have it asked. It moves only where its certificate answers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from ipaddress import ip_network
from pathlib import Path

import pytest
import pytest_twisted
from attrs import define, field
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from loopsy.client.peer import PeerClient, Target
from loopsy.config import Auth, Config, ManualPeer, Tls
from loopsy.config import Discovery as DiscoveryConfig
from loopsy.core import discovery as rules
from loopsy.core.around import Around
from loopsy.core.discovery import Networks, Service
from loopsy.core.peers import FAILURES, INTERVAL_S
from loopsy.core.principals import PeerPrincipal
from loopsy.errors import LoopsyError, PeerNotFound, PeerUnreachable, PinMismatch
from loopsy.services.discovery import ASKED_AT_ONCE, Discovery
from loopsy.services.offers import EACH_S, Offers
from loopsy.services.peers import Peers
from loopsy.services.settings import Settings
from loopsy.services.storage import Storage
from loopsy.store.database import Database
from loopsy.store.layout import Layout
from loopsy.wire.peers import AddPeer, NodeIdentity, SharedPeer, SharedPeers
from loopsy.wire.status import Health

HOME, NEXT, EVIL = "10.0.0.5", "10.0.0.6", "10.0.0.66"
PIN = "ab" * 32
OWN = NodeIdentity(node_id="own-node-id", hostname="leo", port=19532)
KAI = NodeIdentity(node_id="kais-node-id", hostname="kais-mac", port=19532, capabilities=("peers",))
MIA = NodeIdentity(node_id="mias-node-id", hostname="mias-pc", port=19532)
LAN = Networks(addresses=("10.0.0.1",), links=(ip_network("10.0.0.0/24"),))


@define
class There:
    """A machine at an address: who it says it is, and the certificate that it shows."""

    identity: NodeIdentity
    certificate: str | None = None


class Machines(PeerClient):
    """Its answers are set by hand."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.there: dict[str, There] = {}
        self.keys_shown: list[str] = []
        """The addresses at which a key was shown."""
        self.asked: list[str] = []
        self.told: object = SharedPeers(peers=())
        self.hang: Deferred[None] | None = None

    def _at(self, target: Target) -> There:
        found = self.there.get(target.address)
        if found is None:
            raise PeerUnreachable("nobody is there")
        if target.pin and found.certificate != target.pin:
            raise PinMismatch("another certificate")
        if target.key is not None:
            self.keys_shown.append(target.address)
        return found

    async def health(self, target: Target) -> Health:
        self.asked.append(target.address)
        target = Target(target.address, target.port, None, target.label, target.pin)
        return Health(status="ok", node_id=self._at(target).identity.node_id, uptime=1.0, version="1.0.0")

    async def stranger(self, address: str, port: int) -> Health:
        if self.hang is not None:
            await self.hang
        return await self.health(Target(address, port))

    async def handshake(self, target: Target, own: NodeIdentity) -> NodeIdentity:
        return self._at(target).identity

    async def ask(self, target: Target, method: bytes, path: str, answer: type, value: object = None) -> object:  # type: ignore[override]
        self._at(target)
        if isinstance(self.told, LoopsyError):
            raise self.told
        return self.told


@define
class Lan:
    """The services on a clock; ``kai`` is a peer at HOME."""

    clock: Clock
    machines: Machines
    around: Around
    peers: Peers
    discovery: Discovery
    offers: Offers
    settings: Settings
    changes: list[None] = field(factory=list)

    def announce(self, identity: NodeIdentity, *addresses: str, instance: str = "") -> None:
        """Somebody says so by mDNS."""
        name = instance or rules.instance_of(identity.node_id)
        text = rules.text_of(identity)
        service = Service(
            instance=name, server=rules.server_of(identity), port=identity.port, addresses=addresses, text=text
        )
        self.discovery._heard({name: service})

    @property
    def kai(self) -> tuple[str, str]:
        """Where it is, and its status."""
        record = self.peers.resolve("kai")
        return record.address, record.status


async def lan_of(tmp_path: Path, pinned: bool) -> AsyncIterator[Lan]:
    layout = Layout(tmp_path / "data")
    layout.make()
    storage = Storage(reactor, Database(layout.database))  # type: ignore[arg-type]
    storage.startService()
    config = Config(
        auth=Auth(api_key="x" * 64, peer_keys={"kai": "k" * 64}),
        tls=Tls(pinned_certs={"kai": PIN} if pinned else {}),
        discovery=DiscoveryConfig(manual_peers=(ManualPeer(address=HOME, hostname="kai"),)),
    )
    clock, around = Clock(), Around(OWN.node_id)
    machines, settings = Machines(clock), Settings(layout, config)
    peers = Peers(clock, settings, storage, machines, OWN, around)
    discovery, offers = Discovery(clock, settings, peers, around), Offers(clock, settings, peers, around)
    discovery._here = LAN
    discovery.running = True  # without its timer: zeroconf stays out of this
    lan = Lan(clock, machines, around, peers, discovery, offers, settings)
    discovery.when_changed(lambda: lan.changes.append(None))
    machines.there[HOME] = There(KAI, PIN if pinned else None)
    try:
        peers.startService()
        offers.startService()
        clock.advance(0)
        assert lan.kai == (HOME, "online")
        yield lan
        discovery.running = False
        offers.stopService()
        await peers.stopService()
        assert clock.getDelayedCalls() == []
    finally:
        await storage.stopService()


@pytest_twisted.async_yield_fixture
async def pinned(tmp_path: Path) -> AsyncIterator[Lan]:
    async for lan in lan_of(tmp_path, pinned=True):
        yield lan


@pytest_twisted.async_yield_fixture
async def plain(tmp_path: Path) -> AsyncIterator[Lan]:
    async for lan in lan_of(tmp_path, pinned=False):
        yield lan


# -- a peer that moves ------------------------------------------------------------------------------------------------
@pytest_twisted.ensureDeferred
async def test_a_pinned_peer_is_followed_at_once_to_where_its_certificate_answers(pinned: Lan) -> None:
    pinned.machines.there = {NEXT: There(KAI, PIN)}
    pinned.announce(KAI, NEXT)
    pinned.clock.advance(0)
    assert pinned.kai == (NEXT, "online")
    assert pinned.peers.everyone()[0].announced_at is None


@pytest_twisted.ensureDeferred
async def test_who_claims_its_node_id_without_its_certificate_gets_nothing(pinned: Lan) -> None:
    pinned.machines.keys_shown.clear()
    pinned.machines.there = {EVIL: There(KAI, "cd" * 32)}
    pinned.announce(KAI, EVIL)
    pinned.clock.pump([0.0] + [INTERVAL_S] * FAILURES)
    assert pinned.kai == (HOME, "offline")
    assert EVIL in pinned.machines.asked
    assert pinned.machines.keys_shown == []
    (shown,) = pinned.peers.everyone()
    assert (shown.address, shown.found, shown.announced_at) == (HOME, True, f"{EVIL}:19532")


@pytest_twisted.ensureDeferred
async def test_while_it_answers_where_it_was_nobody_else_is_asked(pinned: Lan) -> None:
    pinned.machines.there[EVIL] = There(KAI, PIN)  # a wire to it, at best
    for _ in range(20):
        pinned.announce(KAI, EVIL)
        pinned.clock.advance(1.0)
    assert pinned.kai == (HOME, "online")
    assert EVIL not in pinned.machines.asked


@pytest_twisted.ensureDeferred
async def test_its_certificate_under_another_node_id_does_not_count(pinned: Lan) -> None:
    pinned.machines.there = {EVIL: There(MIA, PIN)}
    pinned.announce(KAI, EVIL)
    pinned.clock.advance(0)
    assert pinned.kai == (HOME, "online")
    assert pinned.peers.resolve("kai").failure_count == 1


@pytest_twisted.ensureDeferred
async def test_a_liar_among_those_who_claim_it_does_not_keep_us_from_it(pinned: Lan) -> None:
    pinned.machines.there = {EVIL: There(KAI, "cd" * 32), NEXT: There(KAI, PIN)}
    pinned.announce(KAI, EVIL, instance="liar")
    pinned.announce(KAI, NEXT)
    pinned.clock.advance(rules.ASK_AGAIN_S)
    pinned.announce(KAI, NEXT)
    pinned.clock.advance(0)
    assert pinned.kai == (NEXT, "online")


@pytest_twisted.ensureDeferred
async def test_a_peer_in_plain_http_is_not_followed_but_the_user_is_told(plain: Lan) -> None:
    plain.machines.keys_shown.clear()
    plain.machines.there = {NEXT: There(KAI)}
    plain.announce(KAI, NEXT)
    plain.clock.pump([0.0] + [INTERVAL_S] * FAILURES)
    assert plain.kai == (HOME, "offline")
    assert plain.machines.keys_shown == []
    assert plain.peers.everyone()[0].announced_at == f"{NEXT}:19532"


@pytest_twisted.ensureDeferred
async def test_the_return_of_a_peer_is_noticed_when_it_is_announced(pinned: Lan) -> None:
    there = pinned.machines.there.pop(HOME)
    pinned.clock.pump([INTERVAL_S] * 40)
    assert pinned.kai == (HOME, "offline")
    pinned.machines.there[HOME] = there
    pinned.announce(KAI, HOME)
    pinned.clock.advance(0)
    assert pinned.kai == (HOME, "online")


@pytest_twisted.ensureDeferred
async def test_who_announces_a_peer_all_the_time_has_it_asked_now_and_then(pinned: Lan) -> None:
    pinned.machines.there.clear()
    pinned.announce(KAI, EVIL)
    pinned.clock.advance(0)
    pinned.machines.asked.clear()
    for number in range(100):
        pinned.announce(KAI, f"10.0.0.{number + 100}")
        pinned.clock.advance(0.1)
    assert len(pinned.machines.asked) <= 2 * (10 / rules.ASK_AGAIN_S + 1)


# -- strangers --------------------------------------------------------------------------------------------------------
@pytest_twisted.ensureDeferred
async def test_a_stranger_is_shown_asked_and_never_in_the_book(pinned: Lan) -> None:
    pinned.machines.there[NEXT] = There(MIA)
    pinned.announce(MIA, "10.0.0.99", NEXT)
    shown = pinned.peers.everyone()[-1]
    assert (shown.hostname, shown.address, shown.status) == ("mias-pc", NEXT, "online")
    assert (shown.found, shown.trusted, shown.name, shown.manually_added) == (True, False, None, False)
    assert [peer.name for peer in pinned.peers.list()] == ["kai"]
    for word in ("mias-pc", NEXT, MIA.node_id):
        with pytest.raises(PeerNotFound, match="announced on the LAN, but not paired") as caught:
            pinned.peers.resolve(word)
        assert caught.value.hint == f"pair with it: loopsy pair {NEXT}:19532"
    assert NEXT not in pinned.machines.keys_shown
    await pinned.peers.add(AddPeer(address=NEXT, hostname="mia"))
    assert [(peer.name, peer.found) for peer in pinned.peers.everyone()] == [("kai", False), ("mia", False)]
    pinned.clock.advance(0)
    assert [(peer.name, peer.found) for peer in pinned.peers.everyone()] == [("kai", False), ("mia", True)]


@pytest_twisted.ensureDeferred
async def test_a_stranger_called_like_a_peer_is_not_meant_by_that_name(pinned: Lan) -> None:
    pinned.announce(NodeIdentity(node_id="evil-node-id", hostname="kai", port=19532), EVIL)
    assert pinned.peers.resolve("kai").address == HOME
    assert [peer.hostname for peer in pinned.peers.everyone()] == ["kais-mac", "kai"]


@pytest_twisted.ensureDeferred
async def test_one_that_answers_with_another_node_id_is_not_online(pinned: Lan) -> None:
    pinned.machines.there[NEXT] = There(KAI)
    pinned.announce(MIA, NEXT)
    assert pinned.peers.everyone()[-1].status == "unknown"


@pytest_twisted.ensureDeferred
async def test_few_strangers_are_asked_at_once(pinned: Lan) -> None:
    pinned.machines.hang = Deferred()
    started = []
    ask = pinned.machines.stranger

    async def counted(address: str, port: int) -> Health:
        started.append(address)
        return await ask(address, port)

    pinned.machines.stranger = counted  # type: ignore[method-assign]
    for number in range(50):
        pinned.announce(NodeIdentity(node_id=f"{number:03}-stranger", hostname="x", port=9), f"10.0.0.{number + 100}")
    assert len(started) == ASKED_AT_ONCE
    pinned.machines.hang.callback(None)
    assert len(started) == 50


# -- peers of peers ---------------------------------------------------------------------------------------------------
def told(*identities: NodeIdentity, address: str = NEXT) -> SharedPeers:
    return SharedPeers(
        peers=tuple(
            SharedPeer(node_id=i.node_id, hostname=i.hostname, address=address, port=i.port, trusted=True)
            for i in identities
        )
    )


@pytest_twisted.ensureDeferred
async def test_what_a_peer_tells_is_shown_as_offered_and_nobody_goes_there(pinned: Lan) -> None:
    pinned.machines.told = told(MIA, OWN, KAI)
    pinned.clock.advance(EACH_S)
    offered = pinned.peers.everyone()[-1]
    assert (offered.hostname, offered.offered_by, offered.found, offered.trusted) == ("mias-pc", ("kai",), False, False)
    assert len(pinned.peers.everyone()) == 2
    with pytest.raises(PeerNotFound, match="offered by kai, but not paired"):
        pinned.peers.resolve("mias-pc")
    pinned.clock.pump([INTERVAL_S] * 10)
    assert NEXT not in pinned.machines.asked
    pinned.machines.told = told()
    pinned.clock.advance(EACH_S)
    assert len(pinned.peers.everyone()) == 1


@pytest_twisted.ensureDeferred
async def test_offers_go_with_the_trust_in_who_made_them(pinned: Lan) -> None:
    pinned.machines.told = told(MIA)
    pinned.clock.advance(EACH_S)
    await pinned.peers.remove("kai")
    assert pinned.peers.everyone() == ()


@pytest_twisted.ensureDeferred
async def test_a_peer_is_told_of_the_paired_others_only_and_of_nothing_private(pinned: Lan) -> None:
    await pinned.peers.add(AddPeer(address=NEXT, hostname="unpaired"))
    pinned.announce(MIA, EVIL)
    (shared,) = pinned.peers.shared_with(PeerPrincipal(name="leo"))
    assert (shared.node_id, shared.address, shared.trusted) == (KAI.node_id, HOME, True)
    assert (shared.pin, shared.name, shared.scopes, shared.last_used) == (None, None, None, None)
    assert pinned.peers.shared_with(PeerPrincipal(name="kai")) == ()
