"""One port: the first byte decides, and plain HTTP is for loopback."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest
from twisted.internet.address import IPv4Address
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

from loopsy.core.hosts import is_loopback
from loopsy.web.oneport import SILENT_S, FirstByte


class Heard(Protocol):
    """Keeps what it hears."""

    def __init__(self) -> None:
        self.data = b""

    def dataReceived(self, data: bytes) -> None:
        self.data += data


def connected(host: str) -> tuple[FirstByte, Any, Clock]:
    clock = Clock()
    site: Any = Factory.forProtocol(Heard)
    site.reactor = clock
    ports: Any = SimpleNamespace(site=site, secure=Factory.forProtocol(Heard))
    first = FirstByte(ports, IPv4Address("TCP", host, 5))
    transport: Any = StringTransport()
    first.makeConnection(transport)
    return first, transport, clock


def test_plain_http_from_elsewhere_is_told_to_use_tls() -> None:
    first, transport, clock = connected("192.0.2.7")
    first.dataReceived(b"GET / HTTP/1.1\r\nAuthorization: Bearer x\r\n\r\n")
    head, _, body = transport.value().partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 426 ")
    assert json.loads(body)["error"]["code"] == 2007
    assert transport.disconnecting
    assert not clock.getDelayedCalls()


@pytest.mark.parametrize(("host", "data"), [("127.0.0.1", b"GET"), ("192.0.2.7", b"\x16\x03"), ("127.0.0.1", b"\x16")])
def test_loopback_and_tls_are_handed_over(host: str, data: bytes) -> None:
    first, transport, clock = connected(host)
    first.dataReceived(data)
    assert transport.protocol.data == data
    assert not transport.value()
    assert not clock.getDelayedCalls()


def test_who_says_nothing_is_cut() -> None:
    _, transport, clock = connected("192.0.2.7")
    clock.advance(SILENT_S + 1)
    assert transport.disconnected


@pytest.mark.parametrize(
    ("host", "is_ours"),
    [("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("::ffff:127.0.0.1", True), ("192.0.2.1", False),
     ("::ffff:192.0.2.1", False), ("fe80::1%eth0", False), ("", False), ("localhost", False)],
)  # fmt: skip
def test_loopback(host: str, is_ours: bool) -> None:
    assert is_loopback(host) is is_ours
