"""Real daemons that find each other by mDNS, on the loopback interface: what needs no network of its own.

Other daemons of this machine may be announced there too; each test looks for its own."""

from __future__ import annotations

import json
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from loopsy.store import certificate, configfile
from loopsy.testing.nodes import Node, free_port
from tests.integration.conftest import until
from tests.integration.test_rest import refused

MakeNode = Callable[..., Node]
ON = {"enabled": True}


def shown(node: Node, who: str) -> dict[str, Any] | None:
    """A peer in a node's list, by hostname or name."""
    peers = node.ask("GET", "/peers").body["peers"]
    return next((peer for peer in peers if who in (peer["hostname"], peer.get("name"))), None)


def sees(node: Node, who: str, status: str = "online") -> bool:
    peer = shown(node, who)
    return peer is not None and peer["status"] == status


def pinned(a: Node, b: Node) -> None:
    """Write configs of two that are paired with certificates, as pairing leaves them."""
    prints = {}
    for node in (a, b):
        node.write_config()
        prints[node.name] = certificate.ensure(node.layout, node.name).fingerprint
    for one, other, presented, accepted in ((a, b, "1" * 64, "2" * 64), (b, a, "2" * 64, "1" * 64)):
        one.write_config(
            auth={"peerKeys": {other.name: presented}, "allowedKeys": {other.name: accepted}},
            tls={"enabled": True, "pinnedCerts": {other.name: prints[other.name]}},
            discovery=ON,
        )


def test_they_find_each_other_and_say_goodbye(make_node: MakeNode) -> None:
    names = [f"lo-{number}" for number in range(6)]
    nodes = [make_node(name, discovery=ON, tls={"enabled": name != "lo-5"}) for name in names]
    for node in nodes:
        node.start()
    began = time.monotonic()
    until(lambda: all(sees(node, name) for node in nodes for name in names if name != node.name), "all were found")
    print(f"six found each other {time.monotonic() - began:.1f} s after the last one had started")
    a, last = nodes[0], nodes[-1]
    peer = shown(a, last.name)
    assert peer is not None
    assert (peer["found"], peer["trusted"], peer["port"]) == (True, False, last.port)
    assert peer["nodeId"] == last.ask("GET", "/health").body["nodeId"]
    assert "name" not in peer
    assert "pin" not in peer
    refused(a.ask("GET", f"/peers/{last.name}/status"), 404, 2001, "announced on the LAN, but not paired")
    state = until(lambda: (found := a.ask("GET", "/discovery").body)["seesItself"] and found, "its own announcement")
    assert state["published"]
    assert state["addresses"] == ["127.0.0.1"]
    assert state["instance"].startswith(f"loopsy-{a.ask('GET', '/health').body['nodeId'][:8]}.")
    listed = a.run("peers", check=True).stdout.decode()
    assert "found on the LAN" in listed
    assert "loopsy pair ADDRESS" in listed
    mdns = [c for c in json.loads(a.run("doctor", "--json").stdout)["checks"] if c["name"] == "mdns"]
    assert [check["level"] for check in mdns] == ["pass"]
    last.stop()
    until(lambda: sees(a, last.name, "offline"), "its goodbye")
    assert all("Traceback" not in node.log for node in nodes)


def test_off_is_off(make_node: MakeNode) -> None:
    loud, quiet = make_node("loud", discovery=ON).start(), make_node("quiet", discovery={"enabled": False}).start()
    until(lambda: loud.ask("GET", "/discovery").body["seesItself"], "the loud one is announced")
    assert quiet.ask("GET", "/discovery").body == {
        "enabled": False, "published": False, "addresses": [], "seesItself": False, "found": 0
    }  # fmt: skip
    assert quiet.ask("GET", "/peers").body == {"peers": []}
    assert shown(loud, "quiet") is None
    maps = {node.name: Path(f"/proc/{node.process.pid}/maps") for node in (loud, quiet) if node.process}
    if maps["loud"].exists():
        assert "zeroconf" in maps["loud"].read_text()
        assert "zeroconf" not in maps["quiet"].read_text()


def test_a_pinned_peer_is_followed_and_an_impostor_gets_nothing(make_node: MakeNode) -> None:
    """bravo goes, and somebody with its node id and another certificate is announced in its place; then bravo comes
    back, elsewhere."""
    a, b, eve = make_node("alfa"), make_node("bravo"), make_node("eve")
    pinned(a, b)
    b.start()
    a.start()
    a.ask("POST", "/peers", {"address": "127.0.0.1", "port": b.port, "hostname": "bravo"})
    until(lambda: sees(a, "bravo"), "bravo is paired")
    b.stop()
    eve.write_config(server={"hostname": "bravo"}, discovery=ON, tls={"enabled": True})
    shutil.copy(b.layout.node_id, eve.layout.node_id)
    eve.start()
    until(lambda: (shown(a, "bravo") or {}).get("announcedAt") == f"127.0.0.1:{eve.port}", "the impostor is heard")
    until(lambda: (shown(a, "bravo") or {})["failureCount"], "it is looked at, with the pin")
    peer = shown(a, "bravo")
    assert peer is not None
    assert peer["port"] == b.port
    refused(a.ask("GET", "/peers/bravo/status"), 502, 2003)
    assert "alfa" not in eve.layout.audit.read_text()
    old, b.port = b.port, free_port()
    configfile.change(b.layout.config, ("server", "port"), b.port)
    b.start()
    until(lambda: (shown(a, "bravo") or {})["port"] == b.port != old, "bravo is followed")
    assert a.ask("GET", "/peers/bravo/status").body["hostname"] == "bravo"
    assert "alfa" not in eve.layout.audit.read_text()


def test_a_peer_with_a_mere_key_is_not_followed(make_node: MakeNode) -> None:
    """Its port may be anybody's now, and there is no certificate to tell."""
    a, eve = make_node("alfa"), make_node("eve")
    a.write_config(auth={"peerKeys": {"kai": "1" * 64}}, discovery=ON)
    eve.write_config(server={"hostname": "kai"}, discovery=ON)
    eve.start()
    node_id, gone = eve.ask("GET", "/health").body["nodeId"], free_port()
    a.start()
    a.ask("POST", "/peers", {"address": "127.0.0.1", "port": gone, "hostname": "kai", "nodeId": node_id})
    until(lambda: (shown(a, "kai") or {}).get("announcedAt") == f"127.0.0.1:{eve.port}", "it is announced elsewhere")
    until(lambda: (shown(a, "kai") or {})["failureCount"], "it is asked where it was")
    assert (shown(a, "kai") or {})["port"] == gone
    assert f"loopsy peers add 127.0.0.1:{eve.port} --name kai" in a.run("peers").stdout.decode()
    assert "403" not in eve.layout.audit.read_text()


def test_peers_of_peers_are_offered_where_the_peer_shares_them(make_node: MakeNode) -> None:
    hub, one, two = (make_node(name) for name in ("hub", "one", "two"))
    keys = {"one": "1" * 64, "two": "2" * 64}
    places = [{"address": "127.0.0.1", "port": node.port, "hostname": node.name} for node in (one, two)]
    hub.write_config(auth={"peerKeys": keys, "allowedKeys": keys}, discovery={"enabled": False, "manualPeers": places})
    there = {"address": "127.0.0.1", "port": hub.port, "hostname": "hub"}
    for node in (one, two):
        auth = {"peerKeys": {"hub": keys[node.name]}, "allowedKeys": {"hub": keys[node.name]}}
        node.write_config(auth=auth, discovery={"enabled": False, "manualPeers": [there]})
        node.start()
    hub.start()
    until(lambda: sees(hub, "one") and sees(hub, "two"), "the hub knows both")
    (told,) = hub.ask("GET", "/peers", key=keys["one"]).body["peers"]
    assert (told["hostname"], told["port"], told["trusted"]) == ("two", two.port, True)
    assert not {"pin", "scopes", "name", "lastUsed"} & set(told)
    configfile.change(hub.layout.config, ("discovery", "sharePeers"), False)
    assert hub.ask("POST", "/reload").status == 200
    assert hub.ask("GET", "/peers", key=keys["one"]).body == {"peers": []}


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_it_stops_whatever_discovery_is_doing(make_node: MakeNode, how: signal.Signals) -> None:
    """At any moment of being announced; and it comes up again under the same name."""
    node = make_node("alfa", discovery=ON)
    for wait in (0.0, 0.15, 0.4, 1.0):
        node.start()
        time.sleep(wait)
        if how is signal.SIGKILL:
            node.kill()
        else:
            node.stop()
    assert "Traceback" not in node.log
    assert node.log.count("Server Shut Down") == (4 if how is signal.SIGTERM else 0)
