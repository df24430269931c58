"""The peer book of real nodes, and the prober on a clock that needs no waiting."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from attrs import define, evolve
from twisted.internet import reactor
from twisted.internet.task import Clock

from loopsy.client.peer import PeerClient, Target
from loopsy.config import Auth, Config, Discovery, ManualPeer
from loopsy.core.peers import FAILURES, INTERVAL_S, LONGEST_WAIT_S
from loopsy.errors import PeerUnreachable, Unauthenticated
from loopsy.services.peers import Peers
from loopsy.services.settings import Settings
from loopsy.services.storage import Storage
from loopsy.store.database import Database
from loopsy.store.layout import Layout
from loopsy.testing.nodes import Node, keyed_pair
from loopsy.wire.peers import AddPeer, NodeIdentity
from loopsy.wire.status import Health
from tests.integration.conftest import until
from tests.integration.test_rest import refused

KAI, MIA = "ca" * 32, "31" * 32


def identity(node_id: str, hostname: str, port: int = 9) -> dict[str, Any]:
    return {"nodeId": node_id, "hostname": hostname, "platform": "linux", "version": "1.0.0", "port": port}


def book(node: Node) -> list[tuple[str, str | None, str]]:
    """Node id, our name and its hostname of every peer."""
    return [(p["nodeId"], p.get("name"), p["hostname"]) for p in node.ask("GET", "/peers").body["peers"]]


# -- who is who -------------------------------------------------------------------------------------------------------
def test_a_manual_peers_real_identity_is_learnt_and_is_one_entry(make_node: Any) -> None:
    a, b = make_node("alfa"), make_node("bravo")
    keyed_pair(a, b)
    b.write_config(server={"hostname": "bravos-mac"}, auth={"apiKey": b.key, "allowedKeys": {"alfa": "0" * 64}})
    real = b.start().ask("GET", "/health").body["nodeId"]
    a.start()
    until(lambda: book(a) == [(real, "bravo", "bravo")], "its node id")
    a.ask("POST", "/peers", {"address": "127.0.0.1", "port": b.port})
    a.ask("POST", "/peers", {"address": "127.0.0.1", "port": b.port, "hostname": "bravo"})
    assert book(a) == [(real, "bravo", "bravo")]
    keyed_pair(a, b)
    b.write_config(server={"hostname": "bravos-mac"}, auth={"apiKey": b.key, "allowedKeys": {"alfa": key_to(a)}})
    assert b.ask("POST", "/reload").status == 200
    assert a.ask("POST", "/reload").status == 200
    a.stop()
    a.start()
    until(lambda: book(a) == [(real, "bravo", "bravos-mac")], "its own name, once it takes our key")
    assert a.ask("GET", f"/peers/{real}/identity").body["hostname"] == "bravos-mac"
    assert [p["name"] for p in b.ask("GET", "/peers").body["peers"]] == ["alfa"]


def key_to(node: Node) -> str:
    """The key that the node presents to bravo."""
    import yaml

    key: str = yaml.safe_load(node.layout.config.read_text())["auth"]["peerKeys"]["bravo"]
    return key


def test_a_caller_is_filed_under_its_keys_name_whatever_it_claims(make_node: Any) -> None:
    node = make_node(auth={"allowedKeys": {"kai": KAI, "mia": MIA}}).start()
    own = node.ask("GET", "/health").body["nodeId"]
    answer = node.ask("POST", "/peers/handshake", identity("k-1", "mia"), key=KAI)
    assert (answer.status, answer.body["nodeId"], answer.body["hostname"]) == (200, own, "alfa")
    assert book(node) == [("k-1", "kai", "mia")]
    node.ask("POST", "/peers/handshake", identity("m-1", "kai"), key=MIA)
    assert book(node) == [("k-1", "kai", "mia"), ("m-1", "mia", "kai")]
    refused(node.ask("POST", "/peers/handshake", identity(own, "alfa"), key=KAI), 400, 9003, "own id")
    assert len(book(node)) == 2
    refused(node.ask("GET", "/peers/mia/status"), 502, 2003, "mia (127.0.0.1:9)")


def test_a_key_does_not_take_over_another_peers_entry(make_node: Any) -> None:
    """Kai says that it is the node that mia is known to be: mia stays who and where she was."""
    node = make_node(auth={"allowedKeys": {"kai": KAI, "mia": MIA}}).start()
    node.ask("POST", "/peers/handshake", identity("m-1", "mia", 9), key=MIA)
    refused(node.ask("POST", "/peers/handshake", identity("m-1", "mia", 8), key=KAI), 400, 9003, "m-1")
    assert book(node) == [("m-1", "mia", "mia")]
    assert node.ask("GET", "/peers").body["peers"][0]["port"] == 9


def test_a_claimed_node_id_is_not_believed(make_node: Any) -> None:
    node = make_node(auth={"allowedKeys": {"kai": KAI}}).start()
    own = node.ask("GET", "/health").body["nodeId"]
    claim = {"x-loopsy-node-id": own}
    assert node.ask("PUT", "/context/k", {"value": "v"}, key=KAI, headers=claim).body["fromNodeId"] == "kai"
    refused(node.ask("POST", "/reload", key=KAI, headers=claim), 403, 1002)
    refused(node.ask("GET", "/status", key=None, headers=claim), 401, 1001)


# -- the book ---------------------------------------------------------------------------------------------------------
def test_added_and_removed_peers_stay_so_over_a_restart(make_node: Any) -> None:
    node = make_node().start()
    for port, name in ((7, "kai"), (8, "mia")):
        node.run("peers", "add", f"127.0.0.1:{port}", "--name", name, check=True)
    assert node.run("peers", "remove", "mia").stdout == b"removed mia\n"
    kept = [("manual-127.0.0.1:7", "kai", "kai")]
    assert book(node) == kept
    node.kill()
    node.start()
    assert book(node) == kept
    missing = node.run("peers", "remove", "mia")
    assert (missing.returncode, missing.stdout) == (1, b"")
    assert missing.stderr.startswith(b"loopsy: no peer is called 'mia'\n  ")


def test_ambiguous_beginnings_and_near_names(make_node: Any) -> None:
    node = make_node().start()
    for port, name, node_id in ((7, "kai", "abcd-1"), (8, "mia", "abcd-2")):
        node.ask("POST", "/peers", {"address": "127.0.0.1", "port": port, "hostname": name, "nodeId": node_id})
    several = node.run("exec", "abcd", "true")
    assert several.returncode == 255
    for part in (b"'abcd' may mean several peers", b"abcd-1 (kai", b"abcd-2 (mia", b"\n  use the node id\n"):
        assert part in several.stderr
    near = node.run("exec", "kay", "true")
    assert (near.returncode, near.stderr) == (255, b"loopsy: no peer is called 'kay'\n  did you mean kai?\n")


def test_peers_that_the_config_no_longer_names_leave_the_book_but_for_those_with_keys(make_node: Any) -> None:
    node = make_node()

    def configure(*ports: int, keys: bool = True, **more: Any) -> None:
        peers = [{"address": "127.0.0.1", "port": port, **({"hostname": "kai"} if port == 7 else {})} for port in ports]
        auth = {"apiKey": node.key, "peerKeys": {"kai": KAI, "mia": MIA} if keys else {}}
        node.write_config(auth=auth, discovery={"enabled": False, "manualPeers": peers})

    configure(7, 8, 9)
    node.start()
    node.run("peers", "add", "127.0.0.1:10", check=True)
    ports = lambda: sorted(p["port"] for p in node.ask("GET", "/peers").body["peers"])  # noqa: E731
    assert ports() == [7, 8, 9, 10]
    configure(9, 10)
    assert node.ask("POST", "/reload").status == 200
    assert ports() == [7, 9, 10]  # kai has a key
    node.stop()
    configure()
    node.start()
    assert ports() == [7, 10]  # 10 was added by hand
    configure(keys=False)
    assert node.ask("POST", "/reload").status == 200
    assert ports() == [10]
    node.kill()
    node.start()
    assert ports() == [10]


# -- the prober -------------------------------------------------------------------------------------------------------
class Machines(PeerClient):
    """Its answers are set by hand."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.there: dict[int, NodeIdentity] = {}
        """By port."""
        self.asked: list[tuple[str, int]] = []

    async def health(self, target: Target) -> Health:
        """As the real one."""
        self.asked.append(("health", target.port))
        return Health(status="ok", node_id=self._at(target).node_id, uptime=1.0, version="1.0.0")

    async def handshake(self, target: Target, own: NodeIdentity) -> NodeIdentity:
        """As the real one."""
        self.asked.append(("handshake", target.port))
        return self._at(target)

    def _at(self, target: Target) -> NodeIdentity:
        if target.port not in self.there:
            raise PeerUnreachable("nobody is there")
        return self.there[target.port]


@define
class Probing:
    """The service on a clock, with one manual peer ``kai`` at port 7."""

    clock: Clock
    machines: Machines
    peers: Peers

    @property
    def seen(self) -> list[tuple[str, str, int]]:
        """Node id, status and misses of each peer."""
        return [(p.node_id, p.status, p.failure_count) for p in self.peers.list()]


OWN = NodeIdentity(node_id="own", hostname="alfa", port=1)
REAL = NodeIdentity(node_id="real", hostname="kais-mac", port=7)


@pytest_twisted.async_yield_fixture
async def probing(tmp_path: Path) -> AsyncIterator[Probing]:
    layout = Layout(tmp_path / "data")
    layout.make()
    storage = Storage(reactor, Database(layout.database))  # type: ignore[arg-type]
    storage.startService()
    config = Config(
        auth=Auth(api_key="x" * 64, peer_keys={"kai": KAI}),
        discovery=Discovery(manual_peers=(ManualPeer(address="127.0.0.1", port=7, hostname="kai"),)),
    )
    clock = Clock()
    machines = Machines(clock)
    try:
        peers = Peers(clock, Settings(layout, config), storage, machines, OWN)
        peers.startService()
        yield Probing(clock, machines, peers)
        await peers.stopService()
        assert clock.getDelayedCalls() == []
    finally:
        await storage.stopService()


@pytest_twisted.ensureDeferred
async def test_three_misses_make_a_peer_offline_and_its_return_is_seen(probing: Probing) -> None:
    probing.machines.there[7] = REAL
    probing.clock.advance(0)
    assert probing.seen == [("real", "online", 0)]
    del probing.machines.there[7]
    for misses in range(1, FAILURES):
        probing.clock.advance(INTERVAL_S)
        assert probing.seen == [("real", "online", misses)]
    probing.clock.advance(INTERVAL_S)
    assert probing.seen == [("real", "offline", FAILURES)]
    probing.machines.asked.clear()
    probing.clock.pump([1.0] * 3600)
    rounds = len(probing.machines.asked)
    assert 3600 / LONGEST_WAIT_S - 1 <= rounds <= 3600 / INTERVAL_S / 4  # it backs off, and never gives up
    probing.machines.there[7] = REAL
    probing.clock.advance(LONGEST_WAIT_S)
    assert probing.seen == [("real", "online", 0)]


@pytest_twisted.ensureDeferred
async def test_a_peer_is_told_once_who_we_are_and_again_after_it_was_away(probing: Probing) -> None:
    probing.machines.there[7] = REAL
    probing.clock.pump([0.0, INTERVAL_S, INTERVAL_S])
    assert probing.machines.asked == [("health", 7), ("handshake", 7), ("health", 7), ("health", 7)]
    assert [(p.hostname, p.name, p.trusted) for p in probing.peers.list()] == [("kais-mac", "kai", True)]


@pytest_twisted.ensureDeferred
async def test_a_machine_that_gives_our_own_node_id_is_never_online(probing: Probing) -> None:
    probing.machines.there[7] = OWN
    probing.clock.pump([0.0] + [INTERVAL_S] * FAILURES)
    assert [status for _, status, _ in probing.seen] == ["offline"]


@pytest_twisted.ensureDeferred
async def test_a_removed_peer_is_not_asked_again(probing: Probing) -> None:
    probing.clock.advance(0)
    await probing.peers.remove("kai")
    probing.machines.asked.clear()
    probing.clock.pump([INTERVAL_S] * 20)
    assert probing.machines.asked == []


@pytest_twisted.ensureDeferred
async def test_a_machine_that_says_it_is_a_named_peer_does_not_take_its_place(probing: Probing) -> None:
    """It has only claimed it: a probe shows no key."""
    probing.machines.there.update({7: REAL, 8: evolve(REAL, port=8)})
    probing.clock.advance(0)
    await probing.peers.add(AddPeer(address="127.0.0.1", port=8, hostname="mia"))
    probing.clock.advance(0)
    assert probing.seen == [("real", "online", 0), ("manual-127.0.0.1:8", "unknown", 1)]
    assert probing.peers.resolve("kai").port == 7


@pytest_twisted.ensureDeferred
async def test_a_nameless_address_that_claims_a_named_peers_node_id_never_gets_its_key(probing: Probing) -> None:
    """While that peer answers it makes no second entry; while it is away it may be anybody, until the user names it."""
    probing.machines.there.update({7: REAL, 8: evolve(REAL, port=8)})
    probing.clock.advance(0)
    await probing.peers.add(AddPeer(address="127.0.0.1", port=8))
    probing.clock.advance(0)
    assert [(p.name, p.port) for p in probing.peers.list()] == [("kai", 7)]
    del probing.machines.there[7]
    probing.clock.pump([INTERVAL_S] * FAILURES)
    await probing.peers.add(AddPeer(address="127.0.0.1", port=8))
    probing.machines.asked.clear()
    probing.clock.pump([0.0, INTERVAL_S])
    assert ("handshake", 8) not in probing.machines.asked
    assert sorted((p.name or "", p.port) for p in probing.peers.list()) == [("", 8), ("kai", 7)]
    impostor = probing.peers.resolve("127.0.0.1:8")
    assert probing.peers.target(impostor).key is None
    with pytest.raises(Unauthenticated, match="says that it is kai, and nothing proves it") as caught:
        probing.peers.keyed(impostor)
    assert caught.value.hint == "if it is: loopsy peers add 127.0.0.1:8 --name kai"
    await probing.peers.add(AddPeer(address="127.0.0.1", port=8, hostname="kai"))
    probing.clock.pump([0.0, INTERVAL_S])
    assert [(p.name, p.port, p.node_id) for p in probing.peers.list()] == [("kai", 8, "real")]
    assert probing.peers.keyed(probing.peers.resolve("kai")).key == KAI
