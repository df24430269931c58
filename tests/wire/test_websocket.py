"""Small frames without a parser: they mean what wsproto takes them to mean, wherever the stream is cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, Ping, TextMessage

from loopsy.wire.websocket import KEY_BYTES, SMALL, SmallFrames, masked, small_frame
from tests.strategies import cut

KEY = b"\x01\x80\xff\x00"
DATA = st.binary(max_size=3) | st.binary(min_size=120, max_size=140)
EVENTS = st.lists(
    st.builds(BytesMessage, data=DATA, message_finished=st.booleans()) | st.builds(Ping, payload=st.binary(max_size=4)),
    max_size=8,
)


def sides(are_masked: bool) -> tuple[Connection, Connection]:
    """Who sends and who takes."""
    client, server = Connection(ConnectionType.CLIENT), Connection(ConnectionType.SERVER)
    return (client, server) if are_masked else (server, client)


def parsed(connection: Connection, data: bytes) -> list[tuple[str, bytes]]:
    """What a parser makes of it: the pieces of messages, and the pings."""
    connection.receive_data(data)
    found = []
    for event in connection.events():
        if isinstance(event, Ping):
            found.append(("ping", bytes(event.payload)))
        elif isinstance(event, BytesMessage):
            found.append(("piece", bytes(event.data)))
    return found


def whole(found: list[tuple[str, bytes]]) -> tuple[bytes, list[bytes]]:
    """All that messages hold, however it came in pieces, and the pings."""
    return b"".join(data for kind, data in found if kind == "piece"), [d for kind, d in found if kind == "ping"]


@pytest.mark.parametrize("are_masked", [True, False])
@given(events=EVENTS, data=st.data(), is_cut=st.booleans())
def test_the_short_cut_and_the_parser_take_the_same(
    are_masked: bool, events: list[BytesMessage | Ping], data: st.DataObject, is_cut: bool
) -> None:
    """Frame by frame, and cut anywhere."""
    sender, taker = sides(are_masked)
    frames = [bytes(sender.send(event)) for event in events]
    small = SmallFrames(are_masked=are_masked)
    found: list[tuple[str, bytes]] = []
    for piece in filter(None, data.draw(cut(b"".join(frames))) if is_cut else frames):
        taken = small.take(piece)
        found += parsed(taker, piece) if taken is None else [("piece", taken)]
    expected = [("ping", e.payload) if isinstance(e, Ping) else ("piece", bytes(e.data)) for e in events]
    assert whole(found) == whole(expected)


@pytest.mark.parametrize("are_masked", [True, False])
@given(data=st.binary(max_size=SMALL))
def test_a_small_frame_is_one_to_a_parser_and_to_the_short_cut(are_masked: bool, data: bytes) -> None:
    frame = small_frame(data, KEY if are_masked else b"")
    assert parsed(sides(are_masked)[1], frame) == [("piece", data)]
    assert SmallFrames(are_masked=are_masked).take(frame) == data
    assert masked(masked(data, KEY), KEY) == data
    assert len(KEY) == KEY_BYTES


@pytest.mark.parametrize(
    "frames",
    [
        b"\x81\x85" + KEY + masked(b"hello", KEY),  # text
        b"\x02\x85" + KEY + masked(b"hello", KEY),  # the first of several
        b"\x89\x80" + KEY,  # a ping
        b"\xc2\x85" + KEY + masked(b"hello", KEY),  # a reserved bit
        b"\x82\x05hello",  # of a client, without a mask
        b"\x82\xfe\x00\x7e" + KEY + bytes(126),  # a longer one
        2 * (b"\x82\x80" + KEY),  # two
        b"\x82",
        b"",
    ],
)
def test_all_else_is_the_parsers(frames: bytes) -> None:
    assert SmallFrames(are_masked=True).take(frames) is None


def test_within_a_message_nothing_is_taken_past_the_parser() -> None:
    """A whole message between the parts of another breaks the protocol: the parser is to say so."""
    client, server = sides(True)
    small = SmallFrames(are_masked=True)
    assert small.take(client.send(BytesMessage(b"one", message_finished=False))) is None
    intruder = small_frame(b"two", KEY)
    assert small.take(intruder) is None
    small = SmallFrames(are_masked=True)
    small.follow(client.send(BytesMessage(b" three", message_finished=True)))
    assert small.take(intruder) == b"two"
    small.follow(intruder[:3])
    assert small.take(intruder) is None, "it is in the middle of a frame"
    assert server is not None


@pytest.mark.parametrize("count", [100, 30_000])
def test_what_looks_like_a_frame_within_another_is_none(count: int) -> None:
    """A file that holds frames is shown, and the network cuts it where it likes."""
    small, inner = SmallFrames(are_masked=False), b"\x82\x01k"
    outer = bytes(sides(False)[0].send(BytesMessage(count * inner)))
    head = len(outer) - count * len(inner)
    for piece in (outer[: head - 1], outer[head - 1 : head], inner, (count - 2) * inner, inner):
        assert small.take(piece) is None
    assert small.take(inner) == b"k"


def test_what_came_with_the_handshake_is_counted() -> None:
    small = SmallFrames(are_masked=False)
    frame = sides(False)[0].send(TextMessage("x" * 300))
    small.follow(frame[:2])
    small.follow(frame[2:7])
    assert small.take(b"\x82\x01k") is None, "still within that one"
    small = SmallFrames(are_masked=False)
    small.follow(frame)
    assert small.take(b"\x82\x01k") == b"k"
