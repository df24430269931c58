"""The audit chain: whatever is done to the file is found."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopsy.core.audit import START, Head, link, verify
from tests.strategies import JSON

RECORDS = st.lists(st.dictionaries(st.sampled_from(["who", "what", "é"]), JSON, min_size=1), min_size=1, max_size=6)


def chain(records: list[dict[str, object]], head: Head = START) -> tuple[list[bytes], Head]:
    lines = []
    for record in records:
        line, head = link(head, record)
        lines.append(line)
    return lines, head


@given(RECORDS)
def test_an_untouched_chain_is_whole_and_its_lines_are_json(records: list[dict[str, object]]) -> None:
    lines, head = chain(records)
    found = verify(lines, head)
    assert (found.fault, found.lines, found.first_seq, found.head) == (None, len(lines), 1, head)
    for number, (line, record) in enumerate(zip(lines, records, strict=True), 1):
        assert b"\n" not in line
        read = json.loads(line)
        assert (read.pop("seq"), len(read.pop("prev")), read) == (number, 64, record)


@given(RECORDS, st.data())
def test_any_changed_byte_is_found(records: list[dict[str, object]], data: st.DataObject) -> None:
    lines, head = chain(records)
    which = data.draw(st.integers(0, len(lines) - 1))
    at = data.draw(st.integers(0, len(lines[which]) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda b: b != lines[which][at]))
    lines[which] = lines[which][:at] + bytes([byte]) + lines[which][at + 1 :]
    assert verify(lines, head).fault is not None


def test_every_flipped_bit_of_every_line_is_found() -> None:
    lines, head = chain([{"who": "kai", "n": n} for n in range(3)])
    for which, line in enumerate(lines):
        for at in range(len(line)):
            for bit in range(8):
                flipped = line[:at] + bytes([line[at] ^ 1 << bit]) + line[at + 1 :]
                assert verify([*lines[:which], flipped, *lines[which + 1 :]], head).fault is not None


def test_every_digit_of_a_lone_lines_number_counts() -> None:
    (line,), head = chain([{"a": 1}])
    for digit in b"023456789":
        assert verify([line.replace(b'"seq":1', b'"seq":%c' % digit)], head).fault is not None


@given(RECORDS, st.data())
def test_any_removed_repeated_or_swapped_line_and_any_cut_is_found(
    records: list[dict[str, object]], data: st.DataObject
) -> None:
    lines, head = chain(records)
    at, other = data.draw(st.integers(0, len(lines) - 1)), data.draw(st.integers(0, len(lines) - 1))
    swapped = lines.copy()
    swapped[at], swapped[other] = swapped[other], swapped[at]
    assert at == other or verify(swapped, head).fault is not None
    assert verify([*lines[: at + 1], *lines[at:]], head).fault is not None
    assert verify(lines[:at], head).fault is not None
    assert at == 0 or verify([*lines[:at], *lines[at + 1 :]], head).fault is not None


@given(RECORDS, RECORDS)
def test_another_history_with_the_same_numbers_is_found(
    records: list[dict[str, object]], others: list[dict[str, object]]
) -> None:
    (lines, head), (forged, other) = chain(records), chain(others)
    assert verify(forged, head).fault is not None or (len(forged) >= len(lines) and forged[: len(lines)] == lines)
    assert verify(forged, other).fault is None


@given(RECORDS, st.data())
def test_old_lines_may_be_rotated_away_and_new_ones_come_behind_the_remembered_head(
    records: list[dict[str, object]], data: st.DataObject
) -> None:
    lines, _ = chain(records)
    start = data.draw(st.integers(0, len(lines) - 1))
    known = data.draw(st.integers(max(start, 1), len(lines)))
    remembered = chain(records[:known])[1]
    assert verify(lines[start:], remembered).fault is None


def test_a_log_renumbered_past_the_remembered_head_is_found() -> None:
    _, head = chain([{"a": n} for n in range(3)])
    forged, _ = chain([{"evil": 1}], Head(9, "0" * 64))
    fault = verify(forged, head).fault
    assert fault is not None
    assert fault.text == "is number 10, but the daemon remembers 3: what lay between is missing"


LINE = chain([{"a": 1}])[0][0]


@pytest.mark.parametrize(
    "line",
    [b"", b"{}", b"[]", b"5", b"\xff", LINE[:-1], b"[" * 100_000]
    + [LINE.replace(b'"seq":1', b'"seq":' + v) for v in (b"true", b"1.0", b'"1"', b"null", b"1e999", b"0", b"-1")],
)
def test_what_is_no_audit_line_is_a_fault_and_not_a_crash(line: bytes) -> None:
    fault = verify([line]).fault
    assert fault is not None
    assert fault.text == "is not a whole audit line"


def test_a_lone_surrogate_does_not_stop_the_log() -> None:
    line, _ = link(START, {"path": "/tmp/\udcff"})
    assert verify([line]).fault is None
