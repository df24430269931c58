"""Server-sent events: the same whatever the pieces, and bounded."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopsy.wire import sse
from tests.strategies import JSON, cut

EVENTS = st.lists(st.dictionaries(st.text(max_size=5), JSON, max_size=3), max_size=4)
TOKENS = st.lists(
    st.sampled_from(
        [b"data:", b"data: ", b"id: 1", b"event: x", b": ping", b"\n", b"\r\n", b"\n\n", b"\r", b"x", "é".encode()]
    )
).map(b"".join)


def decoded(pieces: list[bytes]) -> list[str]:
    decoder = sse.Decoder()
    return [text for piece in pieces for text in decoder.feed(piece)]


@given(EVENTS, st.data())
def test_events_come_back_whatever_the_pieces(events: list[dict[str, Any]], data: st.DataObject) -> None:
    stream = b"".join(sse.encode(event, f"7.{at}") for at, event in enumerate(events))
    decoder = sse.Decoder()
    told = [(json.loads(t), decoder.last_id) for piece in data.draw(cut(stream)) for t in decoder.feed(piece)]
    assert told == [(event, f"7.{at}") for at, event in enumerate(events)]


@given(TOKENS, st.data())
def test_any_stream_means_the_same_whatever_the_pieces(stream: bytes, data: st.DataObject) -> None:
    assert decoded(data.draw(cut(stream))) == decoded([stream])


def test_comments_other_fields_and_crlf_are_understood() -> None:
    assert decoded([b": hello\r\nid: 7\r\nevent: x\r\ndata: a\r\ndata:b\r\n\r\n\r\ndata: c\n\n"]) == ["a\nb", "c"]


def test_an_event_that_was_not_ended_is_not_told() -> None:
    assert decoded([b"data: a\n\ndata: b\n"]) == ["a"]


@pytest.mark.parametrize("endless", [b"x" * 50, b"data: x\n"])
def test_an_event_that_never_ends_is_refused_in_bounded_memory(endless: bytes) -> None:
    decoder = sse.Decoder(limit=1000)
    with pytest.raises(ValueError, match="larger than 1000 bytes"):
        for _ in range(1000):
            list(decoder.feed(endless))


def test_many_small_events_are_no_large_one() -> None:
    decoder = sse.Decoder(limit=100)
    assert sum(len(list(decoder.feed(b"data: 12345\n\n"))) for _ in range(500)) == 500


def test_a_sign_of_life_is_no_event_but_moves_the_readers_place() -> None:
    decoder = sse.Decoder()
    assert list(decoder.feed(sse.frame("1", "7.1") + sse.still_there("7.9"))) == ["1"]
    assert decoder.last_id == "7.9"


def test_the_id_of_an_event_that_is_not_whole_does_not_count() -> None:
    decoder = sse.Decoder()
    assert list(decoder.feed(sse.frame("1", "7.1") + b"id: 7.2\ndata: half")) == ["1"]
    assert decoder.last_id == "7.1"


def test_half_a_character_becomes_its_escape() -> None:
    (text,) = decoded([sse.encode({"name": "a\udc80b"})])
    assert json.loads(text) == {"name": "a\udc80b"}
