"""Six hosts on a LAN of their own, with real multicast: found, paired, cut off, moved, parted, killed, lied to.

The tests build on each other, in this order. Where network namespaces can't be made, test_discovery.py has what can be
tried on the loopback interface."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from attrs import define

from loopsy.core.discovery import FOUND_MAX
from loopsy.store import configfile, pidfile
from tests.integration.namespaces import NET, Host, HostNode, Lan, lan, why_not
from tests.integration.test_lan import PORT, answer, value

NAMES = ("alfa", "bravo", "charlie", "delta", "echo", "foxtrot")
QUIET = "golf"
PATIENCE_S = 150.0
MDNS_GROUP = bytes([224, 0, 0, 251])
FLOOD = """
import socket, sys
from zeroconf import DNSOutgoing, DNSPointer, DNSService, DNSText, DNSAddress, const
own, group, count = sys.argv[1], "224.0.0.251", int(sys.argv[2])
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(own))
sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 255)
kind, unique = "_loopsy._tcp.local.", const._CLASS_IN | const._CLASS_UNIQUE
for start in range(0, count, 10):
    out = DNSOutgoing(const._FLAGS_QR_RESPONSE | const._FLAGS_AA)
    for number in range(start, start + 10):
        name, host = f"fake-{number}.{kind}", f"fake{number}.local."
        text = b"nodeId=fake-node-%d" % number
        out.add_answer_at_time(DNSPointer(kind, const._TYPE_PTR, const._CLASS_IN, 4500, name), 0)
        out.add_answer_at_time(DNSService(name, const._TYPE_SRV, unique, 120, 0, 0, 19532, host), 0)
        out.add_answer_at_time(DNSText(name, const._TYPE_TXT, unique, 4500, bytes([len(text)]) + text), 0)
        out.add_answer_at_time(DNSAddress(host, const._TYPE_A, unique, 120, socket.inet_aton(own)), 0)
    for packet in out.packets():
        sock.sendto(packet, (group, 5353))
"""


def until(condition: Callable[[], Any], what: str) -> None:
    """Wait, and print how long it took."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < PATIENCE_S, f"{what} did not come about"
        time.sleep(0.1)
    print(f"  {what}: {time.monotonic() - began:.1f} s")


@define
class Fleet:
    """The hosts, and a node on each."""

    net: Lan
    nodes: dict[str, HostNode]
    root: Path

    def peer(self, name: str, who: str) -> dict[str, Any]:
        """How ``name`` sees another, by hostname or name; empty: not at all."""
        ran = self.nodes[name].command("peers", "--json")
        peers = json.loads(ran.stdout)["peers"] if ran.returncode == 0 else []
        return next((peer for peer in peers if who in (peer.get("name"), peer["hostname"])), {})

    def online(self, name: str) -> set[str]:
        """The hostnames of those that ``name`` sees online."""
        peers = json.loads(self.nodes[name].command("peers", "--json", check=True).stdout)["peers"]
        return {peer["hostname"] for peer in peers if peer["status"] == "online"}

    def sees(self, name: str, who: str, status: str = "online") -> bool:
        return self.peer(name, who).get("status") == status

    def host(self, name: str) -> Host:
        host = self.nodes[name].host
        assert host is not None
        return host

    def pair(self, one: str, other: str) -> None:
        """By the real commands on both."""
        a, b = self.nodes[one], self.nodes[other]
        inviter = a.popen("pair", "--expect-sas", "-", "--json")
        code = value(inviter, "inviteCode")
        joiner = b.popen("pair", self.host(one).address, "--code", "-", "--expect-sas", "-", "--json")
        answer(joiner, code)
        shown = value(inviter, "sas"), value(joiner, "sas")
        answer(inviter, shown[1])
        answer(joiner, shown[0])
        inviter.communicate()
        joiner.communicate()
        assert (inviter.returncode, joiner.returncode) == (0, 0)


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    reason = why_not()
    if reason:
        pytest.skip(f"{reason}; test_discovery.py tries on loopback what it can")
    root = tmp_path_factory.mktemp("fleet")
    with lan([*NAMES, QUIET], root) as net:
        nodes = {
            name: HostNode(root / name, name, PORT, host=host)
            for name, host in zip((*NAMES, QUIET), net.hosts, strict=True)
        }
        made = Fleet(net, nodes, root)
        try:
            for name, node in nodes.items():
                on = {"enabled": name != QUIET}
                node.write_config(server={"host": "0.0.0.0"}, tls={"enabled": True}, discovery=on)
            with ThreadPoolExecutor(len(nodes)) as pool:
                list(pool.map(lambda node: node.start(), nodes.values()))
            yield made
        finally:
            for node in nodes.values():
                node.stop()


def test_all_find_each_other(fleet: Fleet) -> None:
    waiting = set(NAMES)

    def found() -> bool:
        for name in sorted(waiting):
            if fleet.online(name) < set(NAMES) - {name}:
                return False
            waiting.discard(name)
        return True

    until(found, f"{len(NAMES)} hosts that started together all see each other online")
    peer = fleet.peer("alfa", "bravo")
    assert (peer["found"], peer["trusted"], peer["address"]) == (True, False, fleet.host("bravo").address)
    refused = fleet.nodes["alfa"].command("exec", "bravo", "true")
    assert refused.returncode == 255
    assert b"announced on the LAN, but not paired\n  pair with it: loopsy pair" in refused.stderr


def test_off_is_silent(fleet: Fleet) -> None:
    """Of what crossed the bridge so far, nothing for mDNS comes from the one whose discovery is off."""
    until(lambda: fleet.host("alfa").address in announcers(fleet.net.seen()), "the capture shows who announces itself")
    spoke = announcers(fleet.net.seen())
    assert {fleet.host(name).address for name in NAMES} <= spoke
    assert fleet.host(QUIET).address not in spoke
    assert fleet.peer("alfa", QUIET) == {}
    assert json.loads(fleet.nodes[QUIET].command("peers", "--json").stdout) == {"peers": []}
    pid = pidfile.running(fleet.nodes[QUIET].layout.pid)
    bound = Path(f"/proc/{pid}/net/udp").read_text() + Path(f"/proc/{pid}/net/udp6").read_text()
    assert f":{5353:04X} " not in bound
    loud = pidfile.running(fleet.nodes["alfa"].layout.pid)
    assert f":{5353:04X} " in Path(f"/proc/{loud}/net/udp").read_text()


def announcers(seen: bytes) -> set[str]:
    """Who sent to the multicast group, by the IPv4 headers in a capture."""
    found, at = set(), seen.find(MDNS_GROUP)
    while at != -1:
        source = seen[at - 4 : at]
        if len(source) == 4 and source[:2] == bytes(map(int, NET.split(".")))[:2] and seen[at - 7] == 17:
            found.add(".".join(map(str, source)))
        at = seen.find(MDNS_GROUP, at + 1)
    return found


def test_paired_ones_are_trusted_and_offer_each_other(fleet: Fleet) -> None:
    fleet.pair("alfa", "charlie")
    fleet.pair("alfa", "bravo")  # the last one: it asks alfa for its peers now, and not again for long
    peer = fleet.peer("alfa", "bravo")
    assert (peer["trusted"], peer["found"], bool(peer["pin"])) == (True, True, True)
    assert fleet.nodes["alfa"].command("exec", "bravo", "hostname", check=True)
    until(lambda: fleet.peer("bravo", "charlie").get("offeredBy") == ["alfa"], "bravo is offered charlie by alfa")
    assert fleet.peer("bravo", "charlie")["trusted"] is False


def test_one_is_cut_off_and_returns_with_what_was_queued(fleet: Fleet) -> None:
    fleet.net.cut(fleet.host("bravo"))
    until(lambda: fleet.sees("alfa", "bravo", "offline"), "alfa sees that bravo is cut off")
    for number in range(5):
        fleet.nodes["alfa"].command("message", "send", "bravo", f"while you were away {number}", check=True)
    fleet.net.plug(fleet.host("bravo"))
    until(lambda: fleet.sees("alfa", "bravo"), "alfa sees its return")
    until(lambda: len(inbox(fleet, "bravo")) == 5, "what was queued is there")
    assert inbox(fleet, "bravo") == [f"while you were away {number}" for number in range(5)]
    until(lambda: fleet.sees("foxtrot", "bravo"), "and the others see it again")


def inbox(fleet: Fleet, name: str) -> list[str]:
    """The bodies, oldest first."""
    page = json.loads(fleet.nodes[name].command("message", "inbox", "--json", check=True).stdout)
    return [message["body"] for message in sorted(page["messages"], key=lambda message: message["seq"])]


def test_an_address_changes(fleet: Fleet) -> None:
    fleet.net.move(fleet.host("bravo"), f"{NET}.52")
    until(lambda: fleet.peer("alfa", "bravo").get("address") == f"{NET}.52", "alfa has followed bravo")
    until(lambda: fleet.sees("alfa", "bravo"), "and sees it")
    assert fleet.nodes["alfa"].command("exec", "bravo", "echo", "moved", check=True).stdout == b"moved\n"
    until(lambda: fleet.peer("delta", "bravo").get("address") == f"{NET}.52", "a stranger sees the new address")


def test_a_partition_heals_with_what_was_queued(fleet: Fleet) -> None:
    """Every cable is in, and nothing passes: no interface changes that could tell of its end."""
    with fleet.net.partition():
        until(lambda: fleet.sees("alfa", "bravo", "offline"), "alfa and bravo are parted")
        fleet.nodes["alfa"].command("message", "send", "bravo", "across the gap", check=True)
        fleet.nodes["bravo"].command("message", "send", "alfa", "and back", check=True)
    until(lambda: fleet.sees("alfa", "bravo"), "the partition healed")
    until(lambda: "across the gap" in inbox(fleet, "bravo") and "and back" in inbox(fleet, "alfa"), "both were told")
    assert inbox(fleet, "bravo").count("across the gap") == 1


def test_one_is_killed_and_comes_back(fleet: Fleet) -> None:
    pid = pidfile.running(fleet.nodes["bravo"].layout.pid)
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    until(lambda: fleet.sees("alfa", "bravo", "offline"), "bravo's death is noticed")
    fleet.nodes["bravo"].start()
    until(lambda: fleet.sees("alfa", "bravo"), "its return is noticed")


def test_a_stop_is_a_goodbye(fleet: Fleet) -> None:
    fleet.nodes["foxtrot"].stop()
    until(lambda: fleet.sees("echo", "foxtrot", "offline"), "foxtrot's goodbye is heard")


def test_an_impostor_gets_neither_key_nor_place(fleet: Fleet) -> None:
    """The attacker's own node, with bravo's node id and name, is announced while bravo is away."""
    fleet.nodes["bravo"].stop()
    eve = HostNode(fleet.root / "eve", "bravo", PORT, host=fleet.net.attacker)
    eve.write_config(server={"host": "0.0.0.0"}, tls={"enabled": True}, discovery={"enabled": True})
    shutil.copy(fleet.nodes["bravo"].layout.node_id, eve.layout.node_id)
    eve.start()
    try:
        there = f"{fleet.net.attacker.address}:{PORT}"
        until(lambda: fleet.peer("alfa", "bravo").get("announcedAt") == there, "the impostor is announced to alfa")
        until(lambda: fleet.sees("alfa", "bravo", "offline"), "and is not taken for bravo")
        assert fleet.peer("alfa", "bravo")["address"] == f"{NET}.52"
        assert fleet.nodes["alfa"].command("exec", "bravo", "true").returncode == 255
        assert '"who":"alfa"' not in eve.layout.audit.read_text()
    finally:
        eve.stop()
    fleet.nodes["bravo"].start()
    until(lambda: fleet.sees("alfa", "bravo"), "bravo is back where it was")
    key = configfile.load(fleet.nodes["alfa"].layout.config).config.auth.peer_keys["bravo"]
    assert key.encode() not in fleet.net.seen()


def test_a_flood_of_announcements_fills_nothing(fleet: Fleet) -> None:
    alfa = fleet.nodes["alfa"]
    pid = pidfile.running(alfa.layout.pid)
    before = resident(pid)
    argv = fleet.net.attacker.argv(sys.executable, "-c", FLOOD, fleet.net.attacker.address, "5000")
    subprocess.run(argv, check=True, timeout=PATIENCE_S)

    def fakes() -> int:
        peers = json.loads(alfa.command("peers", "--json", check=True).stdout)["peers"]
        return sum(peer["nodeId"].startswith("fake-") for peer in peers)

    until(lambda: fakes() > 100, "the flood has arrived")
    time.sleep(2)  # for more than may be kept
    assert fakes() <= FOUND_MAX
    assert alfa.command("exec", "bravo", "echo", "here", check=True).stdout == b"here\n"
    grown = resident(pid) - before
    print(f"  5000 false announcements: {fakes()} kept, {grown / 1e6:+.1f} MB")
    assert grown < 30e6
    until(lambda: fleet.sees("alfa", "delta"), "delta is seen as before")
    assert "Traceback" not in alfa.log


def resident(pid: int | None) -> int:
    """Bytes of memory."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
