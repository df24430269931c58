"""Which paths may be touched, what fits, which part is asked for, and what an upload says of itself."""

from __future__ import annotations

from base64 import b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopsy.core import ranges, transfer, uploads
from loopsy.core.ranges import Span
from loopsy.core.transfer import Described, PathPolicy, absolute, below, described, file_name, split
from loopsy.core.uploads import Upload, Wanted
from loopsy.errors import (
    ChecksumMismatch,
    FileTooLarge,
    InvalidRequest,
    OffsetConflict,
    PathDenied,
    RangeUnsatisfiable,
    StorageFull,
    UploadMissing,
)

HOME = "/home/a"
PEER = PathPolicy(allowed=(split(HOME),), denied=(split("/home/a/.ssh"), split("/home/a/.loopsy")))
OWN = PathPolicy(allowed=None, denied=PEER.denied)
NAME = st.text(st.characters(exclude_characters="/\0"), min_size=1, max_size=8).filter(lambda n: n not in (".", ".."))
PARTS = st.lists(NAME, max_size=5).map(tuple)


# -- paths ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("path", "peer", "own"),
    [
        ("/home/a", True, True),
        ("/home/a/x", True, True),
        ("/home/ab", False, True),
        ("/home", False, True),
        ("/", False, True),
        ("/etc/passwd", False, True),
        ("/home/a/.ssh", False, False),
        ("/home/a/.ssh/id", False, False),
        ("/home/a/.ssh2", True, True),
        ("/home/a/.loopsy/config.yaml", False, False),
    ],
)
def test_who_may_touch_what(path: str, peer: bool, own: bool) -> None:
    assert (PEER.admits(split(path)), OWN.admits(split(path))) == (peer, own)


@given(PARTS, PARTS)
def test_a_root_admits_just_what_is_below_it(root: tuple[str, ...], parts: tuple[str, ...]) -> None:
    policy = PathPolicy(allowed=(root,), denied=())
    assert policy.admits((*root, *parts))
    assert policy.admits(parts) == (parts[: len(root)] == root)


@given(PARTS, PARTS)
def test_what_is_denied_is_denied_whatever_is_allowed(root: tuple[str, ...], parts: tuple[str, ...]) -> None:
    policy = PathPolicy(allowed=((), root), denied=(root,))
    with pytest.raises(PathDenied):
        policy.check((*root, *parts))


def test_a_denied_directory_is_denied_under_any_name() -> None:
    with pytest.raises(PathDenied):
        OWN.check(split("/home/a/.SSH/id"), through_denied=True)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("~", "home a"),
        ("~/", "home a"),
        ("~/x", "home a x"),
        ("x/y", "home a x y"),
        ("~b/x", "home a ~b x"),
        ("/x//./y/", "x y"),
        ("/../x", ".. x"),
        ("/", ""),
    ],
)
def test_paths_as_people_write_them(text: str, parts: str) -> None:
    assert absolute(text, HOME) == tuple(parts.split())


def test_a_path_without_sense_is_refused() -> None:
    for text in ("", "b:%00", "a\0b"):
        with pytest.raises(InvalidRequest):
            transfer.from_wire(text, HOME)
    assert transfer.from_wire("b:/x/%FF", HOME) == ("x", "\udcff")


@pytest.mark.parametrize("path", ["..", "a/../b", "/a", "a//b", "a/", ".", "./a", "a/./b", "a\0b", "//"])
def test_an_entry_lies_below_its_root_or_is_refused(path: str) -> None:
    with pytest.raises(PathDenied):
        below(path)


@given(PARTS)
def test_any_plain_names_are_an_entrys_path(parts: tuple[str, ...]) -> None:
    assert below("/".join(parts)) == parts


def test_the_senders_name_of_a_file_is_one_name() -> None:
    assert [file_name(n) for n in ("a", "x/a", "/etc/a", "..\\a")] == ["a", "a", "a", "..\\a"]
    for name in (None, "", ".", "..", "a/", "a/..", "a\0"):
        with pytest.raises(InvalidRequest):
            file_name(name)


# -- sizes ------------------------------------------------------------------------------------------------------------
def test_sizes() -> None:
    transfer.check_size(10, 10)
    transfer.check_room(10, 10 + transfer.SPARE)
    with pytest.raises(FileTooLarge):
        transfer.check_size(11, 10)
    with pytest.raises(StorageFull):
        transfer.check_room(11, 10 + transfer.SPARE)


def test_a_checksum_is_64_hex_digits() -> None:
    assert transfer.checksum_text("AB" * 32) == "ab" * 32
    for text in ("", "ab", "g" * 64, "a" * 65):
        with pytest.raises(InvalidRequest):
            transfer.checksum_text(text)


@given(st.tuples(*[st.integers(0, 3)] * 4), st.tuples(*[st.integers(0, 3)] * 4))
def test_entity_tags_differ_when_anything_does(one: tuple[int, ...], other: tuple[int, ...]) -> None:
    assert (transfer.etag(*one) == transfer.etag(*other)) == (one == other)


# -- ranges -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("text", "span"),
    [
        (None, None),
        ("bytes=0-", Span(0, 100)),
        ("bytes=0-0", Span(0, 1)),
        ("bytes=10-19", Span(10, 20)),
        ("bytes=90-1000", Span(90, 100)),
        ("bytes=-10", Span(90, 100)),
        ("bytes=-1000", Span(0, 100)),
        ("BYTES = 5 - 6", Span(5, 7)),
        ("bytes=99-", Span(99, 100)),
        ("bytes=5-4", None),
        ("bytes=0-1,5-6", None),
        ("items=0-1", None),
        ("bytes=-", None),
        ("bytes=a-b", None),
        ("bytes=" + "9" * 30 + "-", None),
    ],
)
def test_ranges(text: str | None, span: Span | None) -> None:
    assert ranges.wanted(text, None, '"t"', 100) == span


@pytest.mark.parametrize("text", ["bytes=100-", "bytes=100-200", "bytes=-0"])
def test_a_range_behind_the_end(text: str) -> None:
    with pytest.raises(RangeUnsatisfiable):
        ranges.wanted(text, None, '"t"', 100)


def test_a_range_of_another_content_is_the_whole() -> None:
    assert ranges.wanted("bytes=1-", '"t"', '"t"', 100) == Span(1, 100)
    for other in ('"u"', 'W/"t"', "Sun, 22 Nov 2026 11:05:44 GMT"):
        assert ranges.wanted("bytes=1-", other, '"t"', 100) is None
        assert ranges.wanted("bytes=100-", other, '"t"', 100) is None
    assert ranges.wanted("bytes=-5", None, '"t"', 0) is None


def test_known_content() -> None:
    for header, known in ((None, False), ('"t"', True), ('"a", W/"t"', True), ("*", True), ('"a"', False)):
        assert ranges.is_known(header, '"t"') == known


@given(st.text(max_size=30), st.integers(0, 1000))
def test_any_range_header_is_a_span_inside_or_nothing(text: str, size: int) -> None:
    try:
        span = ranges.wanted(text, None, '"t"', size)
    except RangeUnsatisfiable:
        return
    assert span is None or 0 <= span.start < span.end <= size


# -- uploads ----------------------------------------------------------------------------------------------------------
def metadata(**values: str) -> str:
    return ",".join(f"{key} {b64encode(value.encode()).decode()}" for key, value in values.items())


def test_metadata() -> None:
    text = metadata(path="~/x", filename="n", source="s", mode="755", mtime="-5", checksum="AB" * 32, other="x")
    assert described(text) == Described(
        path="~/x", filename="n", source="s", mode=0o755, mtime_ns=-5, checksum="ab" * 32
    )
    assert described(metadata(path="x") + " , empty") == Described(path="x")


@pytest.mark.parametrize(
    "text",
    [
        "", "path", "path !", "path /w==", metadata(path=""), metadata(path="a\0"), metadata(source="x"),
        metadata(path="x", mode="9"), metadata(path="x", mode="-1"), metadata(path="x", mode="70000"),
        metadata(path="x", mtime="1e3"), metadata(path="x", mtime="9" * 30), metadata(path="x", checksum="ab"),
    ],
)  # fmt: skip
def test_metadata_without_sense(text: str) -> None:
    with pytest.raises(InvalidRequest):
        described(text)


@given(st.text(max_size=60))
def test_any_metadata_is_read_or_refused(text: str) -> None:
    try:
        described(text)
    except InvalidRequest:
        pass


def upload(number: int, source: str | None = "s", length: int = 5, owner: str = "kai", name: str = "f") -> Upload:
    return Upload(
        upload_id=str(number), owner=owner, directory="/d", name=name, part="p", identity=(1, number), length=length,
        described=Described(path="x", source=source), touched=0,
    )  # fmt: skip


def test_who_goes_on_with_what() -> None:
    wanted = Wanted(owner="kai", directory="/d", name="f", length=5, source="s")
    same, changed, longer = upload(1), upload(2, "older"), upload(3, length=6)
    others = [upload(4, owner="leo"), upload(5, name="g"), upload(6, None)]
    assert uploads.matching([same, changed, longer, *others], wanted) == (same, [changed, longer])
    nobody = Wanted(owner="kai", directory="/d", name="f", length=5, source=None)
    assert uploads.matching([same, upload(7, None)], nobody) == (None, [])


def test_an_upload_is_its_owners() -> None:
    assert uploads.owned(upload(1), "kai") == upload(1)
    for found in (None, upload(1, owner="leo")):
        with pytest.raises(UploadMissing):
            uploads.owned(found, "kai")
    with pytest.raises(InvalidRequest):
        uploads.check_number([upload(n) for n in range(uploads.PER_OWNER)], "kai")


def test_offsets_and_content() -> None:
    uploads.check_offset(5, 5)
    uploads.check_end(5, 5)
    uploads.check_content(None, "x")
    with pytest.raises(OffsetConflict) as conflict:
        uploads.check_offset(5, 4)
    assert conflict.value.details == {"offset": 5}
    with pytest.raises(FileTooLarge):
        uploads.check_end(6, 5)
    with pytest.raises(ChecksumMismatch):
        uploads.check_content("a", "b")
    assert uploads.number("12", "X") == 12
    for text in (None, "", "-1", "1.5", "²", "9" * 17):
        with pytest.raises(InvalidRequest):
            uploads.number(text, "X")
