"""Lines from bytes: cut anywhere, huge, junk, and in time that grows with the bytes alone."""

from __future__ import annotations

import json
import time
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopsy.agents.lines import Lines, TooLong, parsed

LINES = st.lists(st.binary(max_size=30).filter(lambda line: b"\n" not in line), max_size=12)


@given(LINES, st.data())
def test_cut_anywhere(lines: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(line + b"\n" for line in lines)
    cuts = sorted(data.draw(st.sets(st.integers(0, len(stream)), max_size=8)))
    pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    split = Lines()
    found = [line for piece in pieces for line in split.feed(piece)]
    assert found + split.rest() == [line.rstrip(b"\r") for line in lines if line.strip()]


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_a_line_that_is_too_long_is_left_out_and_the_next_one_is_not(size: int) -> None:
    stream = b"a" * 101 + b"\n" + b"b" * 100 + b"\n"
    split = Lines(limit=100)
    found = [line for at in range(0, len(stream), size) for line in split.feed(stream[at : at + size])]
    assert found == [TooLong(101), b"b" * 100]


def test_what_is_too_long_is_not_kept() -> None:
    split = Lines(limit=100_000)
    tracemalloc.start()
    for _ in range(1000):
        split.feed(bytes(10_000))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1_000_000
    assert split.rest() == [TooLong(10_000_000)]


def test_what_has_no_end_comes_at_the_end() -> None:
    split = Lines()
    assert split.feed(b"half") == []
    assert split.rest() == [b"half"]
    assert split.rest() == []


def seconds(count: int) -> float:
    """Of the processor, for that many bytes without an end, four at a time."""
    split, began = Lines(), time.thread_time()
    for _ in range(count // 4):
        split.feed(b"aaaa")
    split.feed(b"\n")
    return time.thread_time() - began


def test_a_huge_line_in_small_pieces_takes_time_by_its_length_alone() -> None:
    small = min(seconds(40_000) for _ in range(3))
    assert min(seconds(800_000) for _ in range(3)) < 20 * 6 * small  # were it quadratic: 400


@pytest.mark.parametrize(
    "line",
    [b"hello", b"[1, 2]", b'"text"', b"17", b"{", b'{"a": NaN}', b"\xff\xfe", b"[" * 100_000, b"{\x00}", b'{"a": 1e}'],
)
def test_what_is_no_object_is_none(line: bytes) -> None:
    assert parsed(line) is None


@pytest.mark.parametrize("depth", [200, 500, 5000])
def test_what_is_nested_without_end_is_none_or_can_be_written(depth: int) -> None:
    line = b'{"a":' * depth + rb'"\ud800"' + b"}" * depth
    value = parsed(line)
    assert value is None or json.dumps(value, ensure_ascii=False).encode()


def test_half_a_surrogate_pair_is_replaced_since_nothing_can_store_it() -> None:
    value = parsed(rb'{"a\ud800": ["x\uDC00y", "\ud83d\ude00"]}')
    assert value == {"a\ufffd": ["x\ufffdy", "😀"]}
    json.dumps(value, ensure_ascii=False).encode()
