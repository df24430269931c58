"""WebSockets at the edge: what is taken, what is bounded, who is let go, and how it ends."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wsproto.events import BytesMessage, CloseConnection, Ping, Pong, TextMessage
from wsproto.frame_protocol import CloseReason

from loopsy.web import websocket
from tests.strategies import cut
from tests.web.sockets import NONCE, SUBPROTOCOL, Wire


@pytest.fixture
def wire() -> Wire:
    made = Wire()
    assert made.shake_hands().startswith(b"HTTP/1.1 101 ")
    return made


def codes(events: list[Any]) -> list[int]:
    return [event.code for event in events if isinstance(event, CloseConnection)]


# -- the handshake ----------------------------------------------------------------------------------------------------
def test_the_handshake_is_answered() -> None:
    answer = Wire().shake_hands().lower()
    assert b"\r\nsec-websocket-protocol: test.1\r\n" in answer
    assert b"\r\nsec-websocket-accept: " in answer


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"key": "x" * 32}, 403),
        ({"subprotocol": "other.1"}, 400),
        ({"more": "Origin: http://evil.example\r\n"}, 403),
        ({"more": "Sec-Fetch-Site: cross-site\r\n"}, 403),
    ],
)
def test_a_handshake_that_is_refused(change: dict[str, str], status: int) -> None:
    made = Wire()
    assert made.shake_hands(**change).startswith(b"HTTP/1.1 %d " % status)
    assert made.area.socket is None


@pytest.mark.parametrize(
    "wrong", ["Sec-WebSocket-Version: 13", "Upgrade: websocket", f"Sec-WebSocket-Key: {NONCE}", "Connection: Upgrade"]
)
def test_what_is_no_handshake_is_a_bad_request(wrong: str) -> None:
    from tests.web import sockets

    made = Wire()
    words = sockets.HANDSHAKE.format(key=sockets.KEY, nonce=NONCE, subprotocol=SUBPROTOCOL, more="")
    made.channel.dataReceived(words.replace(f"{wrong}\r\n", "").encode())
    assert made.taken().startswith(b"HTTP/1.1 400 ")


def test_a_message_right_behind_the_handshake_is_not_lost() -> None:
    made = Wire()
    made.shake_hands(trailing=made.client.send(BytesMessage(b"early")))
    assert made.heard == [b"early"]


# -- messages ---------------------------------------------------------------------------------------------------------
def test_messages_both_ways(wire: Wire) -> None:
    wire.send(BytesMessage(b"abc"))
    wire.send(TextMessage('{"type": "x"}'))
    assert wire.heard == [b"abc", {"type": "x"}]
    wire.area.socket.send(b"def")
    wire.area.socket.say(type="y")
    assert [event.data for event in wire.events()] == [b"def", '{"type":"y"}']


@given(st.data(), st.lists(st.binary(max_size=300), min_size=1, max_size=5))
def test_fragments_in_any_pieces_are_one_message(data: st.DataObject, parts: list[bytes]) -> None:
    wire = Wire()
    wire.shake_hands()
    last = len(parts) - 1
    sent = b"".join(
        wire.client.send(BytesMessage(part, message_finished=number == last)) + wire.client.send(Ping(b""))
        for number, part in enumerate(parts)
    )
    for piece in data.draw(cut(sent)):
        wire.channel.dataReceived(piece)
    assert wire.heard == [b"".join(parts)]


def test_the_largest_message_is_taken_and_a_larger_one_is_not(wire: Wire) -> None:
    wire.send(BytesMessage(b"x" * websocket.MESSAGE_BYTES))
    assert [len(data) for data in wire.heard] == [websocket.MESSAGE_BYTES]
    wire.send(BytesMessage(b"x" * (websocket.MESSAGE_BYTES + 1)))
    assert codes(wire.events()) == [CloseReason.MESSAGE_TOO_BIG]
    assert wire.heard[1:] == ["gone"]


def test_so_is_one_in_fragments_before_it_is_whole(wire: Wire) -> None:
    for _ in range(17):
        wire.send(BytesMessage(b"x" * (websocket.MESSAGE_BYTES // 16), message_finished=False))
    assert codes(wire.events()) == [CloseReason.MESSAGE_TOO_BIG]


def test_an_announced_length_holds_no_memory(wire: Wire) -> None:
    wire.channel.dataReceived(b"\x82\xff" + (2**62).to_bytes(8, "big") + b"mask" + b"x" * 2_000_000)
    assert codes(wire.events()) == [CloseReason.MESSAGE_TOO_BIG]


def test_empty_fragments_are_not_collected(wire: Wire) -> None:
    for _ in range(5000):
        wire.send(BytesMessage(b"", message_finished=False))
    assert len(wire.area.socket._parts) == 0


@pytest.mark.parametrize("text", ["{", "[]", "1", "null", "[" * 5000])
def test_text_must_be_a_json_object(wire: Wire, text: str) -> None:
    wire.send(TextMessage(text))
    assert codes(wire.events()) == [CloseReason.POLICY_VIOLATION]


@pytest.mark.parametrize(
    "junk",
    [
        b"\x00" * 9,
        b"\xff" * 50,
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x82\x01a",
        b"\x81\x81aaaa\xff",
        b"\xc2\x80aaaa",
        b"\x89\xff" + b"a" * 99,
    ],
    ids=["continuation", "reserved", "http", "unmasked", "not utf-8", "compressed", "long ping"],
)
def test_junk_ends_it(wire: Wire, junk: bytes) -> None:
    wire.channel.dataReceived(junk)
    wire.channel.dataReceived(junk)
    assert len(codes(wire.events())) == 1
    assert wire.heard == ["gone"]
    wire.pass_by(websocket.LINGER_S + 1)
    assert wire.transport.disconnecting


@given(st.binary(max_size=200))
def test_any_bytes_at_all(junk: bytes) -> None:
    wire = Wire()
    wire.shake_hands()
    wire.channel.dataReceived(junk)
    wire.lose()
    assert wire.heard.count("gone") == 1
    assert not wire.clock.getDelayedCalls()


# -- pings ------------------------------------------------------------------------------------------------------------
def test_pings_are_answered(wire: Wire) -> None:
    wire.send(Ping(b"abc"))
    assert [bytes(event.payload) for event in wire.events() if isinstance(event, Pong)] == [b"abc"]


def test_who_answers_pings_may_stay(wire: Wire) -> None:
    for _ in range(10):
        wire.pass_by(websocket.PING_S)
        for event in wire.events():
            assert isinstance(event, Ping)
            wire.send(event.response())
    assert not wire.transport.is_cut


def test_who_answers_nothing_is_let_go_after_a_minute(wire: Wire) -> None:
    wire.pass_by(websocket.SILENT_S - 1)
    assert not wire.transport.is_cut
    wire.pass_by(2)
    assert wire.transport.is_cut


def test_who_was_not_read_is_not_blamed_for_silence(wire: Wire) -> None:
    wire.area.socket.read_no_more()
    wire.pass_by(websocket.SILENT_S * 5)
    wire.area.socket.read_on()
    wire.pass_by(websocket.SILENT_S - websocket.PING_S)
    assert not wire.transport.is_cut
    wire.pass_by(websocket.SILENT_S)
    assert wire.transport.is_cut


def test_nor_who_has_not_taken_what_came_before_the_ping(wire: Wire) -> None:
    wire.area.socket.pauseProducing()
    wire.pass_by(websocket.SILENT_S * 5)
    assert not wire.transport.is_cut
    assert not wire.taken()


def test_a_patient_one_lets_nobody_go_for_silence() -> None:
    wire = Wire(is_patient=True)
    wire.shake_hands()
    wire.pass_by(websocket.SILENT_S * 5)
    assert not wire.transport.is_cut
    assert any(isinstance(event, Ping) for event in wire.events())


def test_pings_of_who_reads_nothing_are_not_collected(wire: Wire) -> None:
    wire.area.socket.pauseProducing()
    for number in range(1000):
        wire.send(Ping(b"%d" % number))
    assert not wire.taken()
    wire.area.socket.resumeProducing()
    assert [bytes(event.payload) for event in wire.events()] == [b"999"]


# -- the end ----------------------------------------------------------------------------------------------------------
def test_the_client_closes(wire: Wire) -> None:
    wire.send(CloseConnection(1000, "bye"))
    assert codes(wire.events()) == [1000]
    assert wire.heard == ["gone"]
    assert wire.transport.disconnecting
    assert not wire.clock.getDelayedCalls()


def test_we_close_and_the_client_answers(wire: Wire) -> None:
    wire.area.socket.close()
    assert wire.heard == ["gone"]
    (event,) = wire.events()
    assert not wire.transport.disconnecting
    wire.channel.dataReceived(wire.client.send(event.response()))  # type: ignore[attr-defined]
    assert wire.transport.disconnecting
    assert not wire.clock.getDelayedCalls()


def test_we_close_while_the_client_still_sends(wire: Wire) -> None:
    sent = wire.client.send(BytesMessage(b"x" * 100_000))
    wire.area.socket.close()
    wire.channel.dataReceived(sent)
    assert wire.heard == ["gone"]
    wire.pass_by(websocket.LINGER_S + 1)
    assert wire.transport.disconnecting
    assert not wire.transport.is_cut


def test_what_was_sent_before_our_close_may_take_its_time() -> None:
    wire = Wire(is_patient=True)
    wire.shake_hands()
    wire.area.socket.pauseProducing()
    wire.area.socket.close()
    wire.pass_by(1000)
    assert not wire.transport.disconnecting
    assert not wire.transport.is_cut
    wire.area.socket.resumeProducing()
    wire.pass_by(websocket.STUCK_S + 1)
    assert wire.transport.disconnecting
    assert not wire.transport.is_cut


def test_a_viewer_that_never_takes_it_is_cut(wire: Wire) -> None:
    wire.area.socket.pauseProducing()
    wire.area.socket.close()
    wire.pass_by(websocket.STUCK_S + 1)
    assert wire.transport.is_cut


def test_the_client_is_gone(wire: Wire) -> None:
    wire.lose()
    assert wire.heard == ["gone"]
    assert not wire.clock.getDelayedCalls()
    wire.area.socket.send(b"too late")
    wire.area.socket.close()
    (line,) = wire.lines.lines
    assert (line["status"], line["path"]) == (101, "/socket")


def test_the_audit_line_counts_bytes(wire: Wire) -> None:
    data = os.urandom(5000)
    wire.send(BytesMessage(data))
    wire.area.socket.send(data + data)
    wire.lose()
    (line,) = wire.lines.lines
    assert 5000 <= line["in"] < 5100
    assert 10_000 <= line["out"] < 10_300
    json.dumps(line)
