"""Frames: the same whatever the pieces, and nothing else is taken for one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopsy.wire import frames
from loopsy.wire.frames import ERR, ERROR, EXIT, OUT
from tests.strategies import cut

FRAMES = st.lists(st.tuples(st.sampled_from([OUT, ERR, EXIT, ERROR]), st.binary(max_size=30)), max_size=6)


def decoded(pieces: list[bytes]) -> list[tuple[int, bytes]]:
    """Frames with neighbouring parts of output joined, since where output is cut means nothing."""
    decoder, found = frames.Decoder(), list[tuple[int, bytes]]()
    for piece in pieces:
        for kind, part in decoder.feed(piece):
            if found and kind in (OUT, ERR) and found[-1][0] == kind:
                found[-1] = (kind, found[-1][1] + bytes(part))
            else:
                found.append((kind, bytes(part)))
    return found


@given(FRAMES, st.data())
def test_frames_come_back_whatever_the_pieces(sent: list[tuple[int, bytes]], data: st.DataObject) -> None:
    stream = b"".join(frames.encode(kind, payload) for kind, payload in sent)
    expected: list[tuple[int, bytes]] = []
    for kind, payload in sent:
        if kind not in (OUT, ERR):
            expected.append((kind, payload))
        elif payload and expected and expected[-1][0] == kind:
            expected[-1] = (kind, expected[-1][1] + payload)
        elif payload:
            expected.append((kind, payload))
    assert decoded(data.draw(cut(stream))) == expected
    assert decoded([stream[at : at + 1] for at in range(len(stream))]) == expected


def test_a_head_is_kind_and_big_endian_length() -> None:
    assert frames.encode(EXIT, b"{}") == b"\x03\x00\x00\x00\x02{}" == frames.head(EXIT, 2) + b"{}"


@pytest.mark.parametrize("stream", [b"\0\0\0\0\0", b"\x05\0\0\0\0", b"HTTP/1.1 200 OK", b"\x01\x01\x00\x00\x01"])
def test_what_is_no_frame_is_refused(stream: bytes) -> None:
    with pytest.raises(ValueError, match="not a frame"):
        list(frames.Decoder().feed(stream))


@given(st.binary(max_size=60), st.data())
def test_garbage_is_refused_or_read_the_same_whatever_the_pieces(stream: bytes, data: st.DataObject) -> None:
    def outcome(pieces: list[bytes]) -> object:
        try:
            return decoded(pieces)
        except ValueError as error:
            return str(error)

    assert outcome(data.draw(cut(stream))) == outcome([stream])
