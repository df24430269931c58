"""Hosts of the test's own: network namespaces on a bridge that an attacker's namespace holds: it sees every packet.

host a ── veth ──┐
                 ├── bridge, in the attacker's namespace
host b ── veth ──┘
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from attrs import define, field

from loopsy.testing.nodes import Node
from tests.waiting import wait_until

NET = "10.213.77"
"""Nothing outside the namespaces routes to it."""

SNIFFER = """
import socket, sys
ETH_P_ALL, SO_RCVBUFFORCE = 3, 33
sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 1 << 26)  # on a busy machine we come late
print("ready", flush=True)
with open(sys.argv[1], "wb", buffering=0) as file:
    while True:
        file.write(sock.recv(65536))
"""
MARKER = """
import socket, sys
socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(sys.argv[1].encode(), ("127.0.0.1", 9))
"""


def why_not() -> str | None:
    """Why namespaces can't be made here, or None."""
    if os.name != "posix" or os.geteuid() != 0:
        return "making network namespaces needs root"
    if shutil.which("ip") is None:
        return "making network namespaces needs iproute2"
    name = f"loopsy-{os.getpid()}-try"
    tried = subprocess.run(["ip", "netns", "add", name], capture_output=True, check=False)
    if tried.returncode != 0:
        return f"network namespaces can't be made here: {tried.stderr.decode().strip()}"
    subprocess.run(["ip", "netns", "del", name], check=True)
    return None


def ip(*words: str, inside: str | None = None) -> None:
    """Run ``ip``."""
    within = ["-n", inside] if inside else []
    subprocess.run(["ip", *within, *words], check=True, capture_output=True)


@define
class Host:
    """One namespace with an address."""

    namespace: str
    address: str

    def argv(self, *words: str) -> list[str]:
        """The same command on this host."""
        return ["ip", "netns", "exec", self.namespace, *words]


@define
class HostNode(Node):
    """A node on a host. It is asked by commands that run there, since only they reach its loopback."""

    host: Host | None = field(default=None, kw_only=True)

    def start(self) -> Node:
        """Run its daemon there, by the real command."""
        self.command("start", check=True)
        return self

    def stop(self) -> int | None:
        """End it."""
        return self.command("stop").returncode

    def command(self, *words: str, check: bool = False, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        """``loopsy …`` on its host."""
        assert self.host is not None
        argv = self.host.argv(sys.executable, "-m", "loopsy.cli.main", *words)
        ran = subprocess.run(
            argv, env=self.environment, cwd=self.environment["HOME"], input=stdin, capture_output=True, timeout=120,
            check=False,
        )  # fmt: skip
        assert not check or ran.returncode == 0, ran
        return ran

    def popen(self, *words: str) -> subprocess.Popen[str]:
        """The same, to talk with."""
        assert self.host is not None
        return subprocess.Popen(
            self.host.argv(sys.executable, "-m", "loopsy.cli.main", *words),
            env=self.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip


@define
class Lan:
    """Hosts on a bridge, and the attacker who holds it."""

    attacker: Host
    hosts: list[Host]
    capture: Path

    def seen(self) -> bytes:
        """Every byte that went over the bridge, up to a mark of ours, for the sniffer may be behind."""
        mark = secrets.token_hex(16)

        def marked() -> bytes | None:
            subprocess.run(self.attacker.argv(sys.executable, "-c", MARKER, mark), check=True)
            captured = self.capture.read_bytes()
            return captured if mark.encode() in captured else None

        return bytes(wait_until(marked, "the mark in the capture"))

    def cut(self, host: Host) -> None:
        """Pull the host's cable out."""
        ip("link", "set", self._port(host), "down", inside=self.attacker.namespace)

    def plug(self, host: Host) -> None:
        """Put it in again."""
        ip("link", "set", self._port(host), "up", inside=self.attacker.namespace)

    def _port(self, host: Host) -> str:
        return f"port{self.hosts.index(host)}"

    @contextmanager
    def partition(self) -> Iterator[None]:
        """No host reaches another, though every cable is in."""
        self._isolate("on")
        try:
            yield
        finally:
            self._isolate("off")

    def move(self, host: Host, address: str) -> None:
        """Give the host another address in place of the one that it has."""
        ip("addr", "del", f"{host.address}/24", "dev", "eth0", inside=host.namespace)  # would take a second one along
        ip("addr", "add", f"{address}/24", "dev", "eth0", inside=host.namespace)
        host.address = address

    @contextmanager
    def between(self, victim: Host) -> Iterator[str]:
        """The attacker takes the victim's address: the hosts reach nobody else any more, and the victim itself is
        reached by the attacker only, at the address that this gives."""
        eve = self.attacker.namespace
        behind = f"{NET}.{100 + self.hosts.index(victim)}"
        taken = ("addr", "{}", f"{victim.address}/24", "dev", "br0")
        ip("addr", "add", f"{behind}/24", "dev", "eth0", inside=victim.namespace)
        self._isolate("on")
        ip(*(word.format("add") for word in taken), inside=eve)
        try:
            yield behind
        finally:
            ip(*(word.format("del") for word in taken), inside=eve)
            self._isolate("off")
            ip("addr", "del", f"{behind}/24", "dev", "eth0", inside=victim.namespace)
            self._forget_neighbours()

    def _isolate(self, how: str) -> None:
        """Whether a cable's packets go to the bridge's own host only."""
        for number, _ in enumerate(self.hosts):
            ip("link", "set", f"port{number}", "type", "bridge_slave", "isolated", how, inside=self.attacker.namespace)
        self._forget_neighbours()

    def _forget_neighbours(self) -> None:
        for host in (self.attacker, *self.hosts):
            ip("neigh", "flush", "all", inside=host.namespace)


@contextmanager
def lan(names: list[str], directory: Path) -> Iterator[Lan]:
    """Make the hosts, and a capture of all that passes; all of it is gone at the end."""
    mark = f"loopsy-{os.getpid()}"
    attacker = Host(f"{mark}-eve", f"{NET}.66")
    hosts = [Host(f"{mark}-{name}", f"{NET}.{number}") for number, name in enumerate(names, 1)]
    made: list[str] = []
    try:
        for host in (attacker, *hosts):
            ip("netns", "add", host.namespace)
            made.append(host.namespace)
            ip("link", "set", "lo", "up", inside=host.namespace)
        ip("link", "add", "br0", "type", "bridge", inside=attacker.namespace)
        ip("addr", "add", f"{attacker.address}/24", "dev", "br0", inside=attacker.namespace)
        ip("link", "set", "br0", "up", inside=attacker.namespace)
        for number, host in enumerate(hosts):
            plug_in(host, attacker, number)
        with sniffing(attacker, directory / "capture") as capture:
            yield Lan(attacker, hosts, capture)
    finally:
        for name in made:
            subprocess.run(["ip", "netns", "del", name], check=False)


def plug_in(host: Host, attacker: Host, number: int) -> None:
    """A cable from a host to the bridge."""
    ip("link", "add", "eth0", "netns", host.namespace, "type", "veth", "peer", "name", f"port{number}", "netns",
       attacker.namespace)  # fmt: skip
    ip("addr", "add", f"{host.address}/24", "dev", "eth0", inside=host.namespace)
    ip("link", "set", "eth0", "up", inside=host.namespace)
    ip("link", "set", f"port{number}", "master", "br0", inside=attacker.namespace)
    ip("link", "set", f"port{number}", "up", inside=attacker.namespace)


@contextmanager
def sniffing(attacker: Host, path: Path) -> Iterator[Path]:
    """Write down all that passes the bridge."""
    argv = attacker.argv(sys.executable, "-c", SNIFFER, str(path))
    sniffer = subprocess.Popen(argv, stdout=subprocess.PIPE)
    try:
        assert sniffer.stdout is not None
        assert sniffer.stdout.readline() == b"ready\n"
        yield path
    finally:
        sniffer.kill()
        sniffer.wait()
        if sniffer.stdout is not None:
            sniffer.stdout.close()
