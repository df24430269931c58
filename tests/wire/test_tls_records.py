"""One whole short record is known for what it is, wherever the stream before it was cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopsy.wire.tls_records import HEAD_BYTES, SHORT, Records
from tests.strategies import cut


def record(size: int, filler: bytes = b"x") -> bytes:
    """Of application data."""
    return b"\x17\x03\x03" + size.to_bytes(2, "big") + (filler * size)[:size]


@given(sizes=st.lists(st.integers(0, 700), max_size=6), data=st.data())
def test_it_keeps_count_of_whatever_came_before(sizes: list[int], data: st.DataObject) -> None:
    """Whole records that come cut anywhere, then a short one alone; that one again behind the begin of another."""
    records = Records()
    for piece in data.draw(cut(b"".join(map(record, sizes)))):
        records.is_one(piece)
    short = record(data.draw(st.integers(1, SHORT - HEAD_BYTES)))
    assert records.is_one(short)
    assert records.is_one(short)
    begun, rest = record(40)[:30], record(40)[30:]
    assert not records.is_one(begun)
    assert not records.is_one(short[:10])
    assert not records.is_one(rest[10:] + short), "the end of one and the whole of another are not one"


@pytest.mark.parametrize(
    "data",
    [b"", b"\x17", record(3)[:-1], record(3) + b"\x17", 2 * record(3), record(SHORT), record(0)],
)
def test_all_else_is_no_short_one(data: bytes) -> None:
    assert not Records().is_one(data)


def test_what_looks_like_a_record_within_another_is_none() -> None:
    """Sealed bytes may be any; and the network cuts them where it likes."""
    records, inner = Records(), record(20)
    outer = record(3 * len(inner), inner)
    assert not records.is_one(outer[:HEAD_BYTES])
    assert [records.is_one(inner) for _ in range(3)] == [False, False, False]
    assert records.is_one(inner)
