"""A head or body that is sent too slowly, or not to its end, on a clock of the test's own."""

from __future__ import annotations

import json
from typing import Any

import pytest
from twisted.internet.address import IPv4Address
from twisted.internet.defer import execute
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from loopsy.config import parse
from loopsy.core.principals import AnyKey
from loopsy.services.intake import Intake
from loopsy.services.settings import Settings
from loopsy.store.layout import Layout
from loopsy.web.bodies import BodyStream
from loopsy.web.edge import Edge
from loopsy.web.request import BODY_S, DRAIN_S
from loopsy.web.routes import Call, Raw, Routes, Table
from loopsy.web.site import HEAD_S, IDLE_S, Site
from loopsy.wire.context import PutEntry

KEY = "k" * 32


class Area:
    """One route that takes a body."""

    routes = Routes()

    @routes.declare("PUT", "/value", access=AnyKey(), takes=PutEntry)
    def put(self, call: Call[PutEntry]) -> dict[str, str]:
        """Echo."""
        return {"value": call.body.value}


    @routes.declare("POST", "/upload", access=AnyKey(), takes=Raw)
    async def upload(self, call: Call[BodyStream]) -> dict[str, bool]:
        """Take a body as it comes, as a transfer does."""
        await Intake(lambda work, *arguments: execute(work, *arguments), lambda pieces: None).take(call.body)
        return {"whole": True}


class Lines:
    """Audit lines."""

    def __init__(self) -> None:
        self.lines: list[Any] = []

    def record(self, record: Any) -> None:
        self.lines.append(record)


class Transport(StringTransport):
    """Tells when it was cut."""

    def abortConnection(self) -> None:
        self.disconnected = True


def channel(clock: Clock, lines: Lines) -> tuple[Any, Transport]:
    settings = Settings(Layout("/nowhere"), parse(f"auth: {{apiKey: {KEY}}}").config)
    site = Site(clock, Edge(Table([Area()]), settings, lines), 1000)
    made: Any = site.buildProtocol(IPv4Address("TCP", "127.0.0.1", 5))
    transport = Transport()
    made.makeConnection(transport)
    return made, transport


def test_a_sender_that_stalls_in_mid_upload_is_let_go() -> None:
    """A minute of silence ends it; the upload learns that its sender is gone, and nothing waits on."""
    clock, lines = Clock(), Lines()
    made, transport = channel(clock, lines)
    head = HEAD.replace("PUT /value", "POST /upload").replace("application/json", "application/octet-stream")
    made.dataReceived(f"{head}Content-Length: 1000000\r\n\r\n".encode() + b"x" * 70_000)
    for _ in range(IDLE_S - 1):
        clock.advance(1)
    assert not transport.disconnecting
    clock.advance(1)
    assert transport.disconnecting
    made.connectionLost(Failure(ConnectionDone()))
    assert [line["status"] for line in lines.lines] == [499]
    assert clock.getDelayedCalls() == []


HEAD = f"PUT /value HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {KEY}\r\nContent-Type: application/json\r\n"


def test_a_body_that_dribbles_is_answered_and_cut() -> None:
    clock, lines = Clock(), Lines()
    made, transport = channel(clock, lines)
    made.dataReceived(f"{HEAD}Content-Length: 900\r\n\r\n".encode())
    for _ in range(int(BODY_S) + 1):
        made.dataReceived(b" ")
        clock.advance(1)
    head, _, body = transport.value().partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 408 ")
    assert json.loads(body)["error"]["code"] == 9003
    for _ in range(int(DRAIN_S) + 1):
        made.dataReceived(b" ")
        clock.advance(1)
    assert transport.disconnected


def test_a_body_in_time_leaves_no_timer() -> None:
    clock, lines = Clock(), Lines()
    made, transport = channel(clock, lines)
    made.dataReceived(f'{HEAD}Content-Length: 13\r\nConnection: close\r\n\r\n{{"value":"x"}}'.encode())
    assert b'{"value":"x"}' in transport.value()
    assert [line["status"] for line in lines.lines] == [200]
    made.connectionLost(None)
    assert clock.getDelayedCalls() == []


def test_a_small_body_of_a_refused_request_is_not_awaited_for_ever() -> None:
    clock, lines = Clock(), Lines()
    made, transport = channel(clock, lines)
    made.dataReceived(b"PUT /value HTTP/1.1\r\nHost: localhost\r\nContent-Length: 900\r\n\r\n")
    for _ in range(int(BODY_S) + 1):
        made.dataReceived(b" ")
        clock.advance(1)
    assert transport.disconnected


# -- heads ------------------------------------------------------------------------------------------------------------
WHOLE = b"GET /nowhere HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.mark.parametrize("before", [b"", WHOLE], ids=["fresh", "kept"])
def test_a_head_that_dribbles_is_answered_and_cut(before: bytes) -> None:
    """However steadily, a byte a second."""
    clock, lines = Clock(), Lines()
    made, transport = channel(clock, lines)
    if before:
        made.dataReceived(before)
        clock.advance(IDLE_S - 1)  # a kept connection may be idle for longer than a head may take
        transport.clear()
    head = iter(HEAD.encode())
    for _ in range(int(HEAD_S)):
        assert not transport.value()
        made.dataReceived(bytes([next(head)]))
        clock.advance(1)
    answer, _, body = transport.value().partition(b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert json.loads(body)["error"]["message"] == "the request's head did not come within 15 seconds"
    made.dataReceived(b"x")
    clock.advance(IDLE_S)
    assert transport.disconnecting or transport.disconnected
    made.connectionLost(Failure(ConnectionDone()))
    assert clock.getDelayedCalls() == []


def test_who_says_nothing_after_connecting_is_cut_in_the_same_time() -> None:
    clock, lines = Clock(), Lines()
    _, transport = channel(clock, lines)
    clock.advance(HEAD_S)
    assert transport.value().startswith(b"HTTP/1.1 408 ")


def test_only_the_head_counts_not_the_body_behind_it_nor_the_next_one() -> None:
    clock, lines = Clock(), Lines()
    made, transport = channel(clock, lines)
    for _ in range(3):
        half = len(HEAD) // 2
        made.dataReceived(HEAD[:half].encode())
        clock.advance(HEAD_S - 1)
        made.dataReceived(f"{HEAD[half:]}Content-Length: 13\r\n\r\n{{".encode())
        clock.advance(HEAD_S + 1)  # the body has a time of its own
        made.dataReceived(b'"value":"x"}' + HEAD[:5].encode())
        made.dataReceived(HEAD[5:].encode() + b'Content-Length: 13\r\n\r\n{"value":"y"}')
    assert transport.value().count(b"HTTP/1.1 200 ") == 6
    made.connectionLost(Failure(ConnectionDone()))
    assert clock.getDelayedCalls() == []
