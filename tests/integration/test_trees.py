"""Manifests, and many small files in one stream, each way."""

from __future__ import annotations

import json
import os
import secrets
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loopsy.testing.nodes import Answer, Node
from loopsy.wire import codec, entries
from loopsy.wire.transfer import Applied, ManifestEntry, name_from_wire, name_to_wire
from tests.integration.conftest import until
from tests.integration.test_rest import refused
from tests.integration.test_transfer import guarded, home, parts, sha, untouched  # noqa: F401 - a fixture

T = 1_600_000_000_123_456_789


def manifest(node: Node, path: str, **more: Any) -> dict[str, ManifestEntry]:
    answer = node.ask("POST", "/transfer/manifest", {"path": path, **more})
    assert (answer.status, answer.headers["content-type"]) == (200, "application/x-ndjson"), answer
    return {entry.path: entry for entry in entries.LineDecoder().feed(answer.body)}


def apply(node: Node, root: str, stream: bytes, *, key: str = "own") -> Answer:
    return node.ask(
        "POST", f"/transfer/apply?path={quote(root)}", stream, key=key, headers={"content-type": entries.CONTENT_TYPE}
    )


def entry(path: str, kind: str = "file", content: bytes = b"", **more: Any) -> bytes:
    size = len(content) if kind == "file" else 0
    return (
        entries.head(ManifestEntry(path=path, type=kind, **{"size": size, "mode": 0o644, "mtime_ns": T, **more}))
        + content
    )


def done(answer: Answer) -> Applied:
    assert answer.status == 200, answer
    return codec.parse(Applied, answer.body)


def test_a_tree_is_told_parents_first_and_links_are_links(node: Node) -> None:
    root = home(node) / "tree"
    (root / "d/e").mkdir(parents=True)
    (root / "d/f").write_text("f")
    (root / "d/f").chmod(0o755)
    (root / "out").symlink_to("/etc")
    (root / "loop").symlink_to("../tree")
    (root / ".loopsy-0123456789abcdef0123456789abcdef.part").touch()
    os.mkfifo(root / "pipe")
    odd = os.fsdecode(b"\xff\n-")
    (root / odd).touch()
    found = manifest(node, "~/tree")
    assert list(found) == ["", "d", "loop", "out", "pipe", name_to_wire(odd), "d/e", "d/f"]
    assert [found[n].type for n in found] == [
        "directory",
        "directory",
        "symlink",
        "symlink",
        "other",
        "file",
        "directory",
        "file",
    ]
    assert (found["out"].target, found["d/f"].size, found["d/f"].mode) == ("/etc", 1, 0o755)
    assert found["d/f"].mtime_ns == (root / "d/f").stat().st_mtime_ns
    assert manifest(node, "~/tree", checksum=True)["d/f"].checksum == sha(b"f")
    assert list(manifest(node, "~/tree", exclude=["d", "p*"])) == ["", "loop", "out", name_to_wire(odd)]
    assert list(manifest(node, "~/tree", depth=0)) == [""]
    assert list(manifest(node, "~/tree/d", depth=1)) == ["", "e", "f"]
    assert [e.type for e in manifest(node, "~/tree/d/f").values()] == ["file"]
    (root / ".loopsy-0123456789abcdef0123456789abcdef.part").unlink()
    missing = node.ask("POST", "/transfer/manifest", {"path": "~/nowhere"})
    refused(missing, 404, 4002)
    assert missing.headers["x-loopsy-transfer"]


def test_a_large_tree_streams(node: Node) -> None:
    root = home(node) / "large"
    for d in range(20):
        (root / f"{d:02}").mkdir(parents=True)
        for f in range(200):
            (root / f"{d:02}/{f:03}").touch()
    assert len(manifest(node, "~/large")) == 20 * 201 + 1


def test_a_stream_of_entries_becomes_a_tree(node: Node) -> None:
    stream = b"".join(
        [
            entry("", "directory", mode=0o755),
            entry("d", "directory", mode=0o555),
            entry("d/f", content=b"content", mode=0o4755),
            entry("deep/er/g", content=b"g" * 100_000, checksum=sha(b"g" * 100_000)),
            entry("empty"),
            entry("l", "symlink", target="/etc/passwd"),
            entry("-rf", content=b"x"),
            entry(name_to_wire(os.fsdecode(b"\xff\n")), content=b"odd"),
        ]
    )
    applied = done(apply(node, "~/applied/new", stream))
    root = home(node) / "applied/new"
    assert (applied.files, applied.directories, applied.symlinks, applied.bytes, applied.errors) == (
        5,
        3,
        1,
        100_011,
        (),
    )
    assert (root / "d/f").read_bytes() == b"content"
    assert ((root / "d/f").stat().st_mode & 0o7777, (root / "d/f").stat().st_mtime_ns) == (0o755, T)
    assert ((root / "d").stat().st_mode & 0o7777, (root / "d").stat().st_mtime_ns) == (0o555, T)
    assert os.readlink(root / "l") == "/etc/passwd"
    assert (root / os.fsdecode(b"\xff\n")).read_bytes() == b"odd"
    again = done(
        apply(
            node,
            "~/applied/new",
            entry("d/f", "touch", mode=0o600, mtime_ns=5)
            + entry("l", content=b"file now")
            + entry("empty", "deleted")
            + entry("deep", "deleted")
            + entry("nothing", "deleted")
            + entry("d/x", content=b"x"),
        )
    )
    assert (again.files, again.deleted, [e.path for e in again.errors]) == (2, 1, ["deep"])
    assert ((root / "d/f").read_bytes(), (root / "d/f").stat().st_mtime_ns) == (b"content", 5)
    assert (root / "l").read_bytes() == b"file now"
    assert not (root / "empty").exists()
    assert done(apply(node, "~/applied/new", entry("empty", "directory") + entry("l", "directory"))).errors == ()
    assert (root / "l").is_dir()
    assert not parts(node)


def test_what_an_entry_may_not_do(node: Node) -> None:
    root = home(node) / "attacked"
    (root / "sub").mkdir(parents=True)
    (home(node) / "beside").write_text("safe")
    (root / "link").symlink_to("..")
    stream = b"".join(
        entry(path, content=b"evil")
        for path in (
            "../beside",
            "/etc/evil",
            "a/../../beside",
            "link/beside",
            "",
            "a//b",
            "./a",
            "sub",
            "a/.",
            "b:%2e%2e/beside",
        )
    )
    stream += entry("../beside", "deleted") + entry("link/beside", "deleted") + entry("../l", "symlink", target="x")
    stream += entry("link/d", "directory") + entry("link/beside", "touch", mode=0o777) + entry("fifo", "other")
    stream += (
        entry("link", "touch", mode=0o777)
        + entry("bad", content=b"x", checksum="0" * 64)
        + entry("good", content=b"good")
    )
    applied = done(apply(node, "~/attacked", stream))
    assert (applied.files, len(applied.errors)) == (1, 18)
    assert (home(node) / "beside").read_text() == "safe"
    assert (home(node) / "beside").stat().st_mode & 0o777 == 0o644
    assert sorted(p.name for p in root.iterdir()) == ["good", "link", "sub"]


def test_a_link_that_a_stream_makes_is_not_written_through(guarded: Node) -> None:  # noqa: F811
    eve = "e" * 64
    stream = (
        entry("evil", "symlink", target="../out") + entry("evil/f", content=b"evil") + entry("no/f", content=b"evil")
    )
    applied = done(apply(guarded, "~/ok", stream + entry("no", "deleted") + entry("no/f", "deleted"), key=eve))
    assert [e.path for e in applied.errors] == ["evil/f", "no/f", "no", "no/f"]
    untouched(guarded)
    found = guarded.ask("POST", "/transfer/manifest", {"path": "~/ok"}, key=eve).body
    told = {e.path: e for e in entries.LineDecoder().feed(found)}
    assert (told["no"].error, told["evil"].type) == ("denied", "symlink")
    assert not [path for path in told if path.startswith(("no/", "evil/"))]
    fetched = guarded.ask(
        "POST", "/transfer/fetch", {"path": "~/ok", "paths": ["no/f", "evil/f", "file", "d/f", "fifo"]}, key=eve
    )
    assert [(e.path, e.error is None) for e in read(fetched.body)] == [
        ("no/f", False),
        ("evil/f", False),
        ("file", False),
        ("d/f", True),
        ("fifo", False),
    ]
    assert b"secret" not in fetched.body


def read(stream: bytes) -> dict[ManifestEntry, bytes]:
    decoder, found = entries.Decoder(), {}
    for item in decoder.feed(stream):
        if isinstance(item, ManifestEntry):
            last = item
            found[last] = b""
        else:
            found[last] += bytes(item)
    decoder.end()
    return found


@pytest.mark.parametrize("prefix", ["", "/peers/bravo"])
def test_small_files_are_fetched_in_the_order_asked(pair: tuple[Node, Node], prefix: str) -> None:
    a, b = pair
    root = home(b) / "fetch"
    root.mkdir(exist_ok=True)
    contents = {f"{n:03}": secrets.token_bytes(n * 40) for n in range(300)}
    for name, data in contents.items():
        (root / name).write_bytes(data)
    odd = os.fsdecode(b"\xff\n")
    (root / odd).write_bytes(b"odd")
    contents[name_to_wire(odd)] = b"odd"
    (root / "big").write_bytes(b"x" * (entries.SMALL + 1))
    asked = [*reversed(contents), "big", "nothing", "../fetch/001"]
    answer = (a if prefix else b).ask("POST", f"{prefix}/transfer/fetch", {"path": "~/fetch", "paths": asked})
    found = read(answer.body)
    assert [e.path for e in found] == asked
    assert {e.path: data for e, data in found.items() if e.error is None} == contents
    assert [e.path for e in found if e.error] == ["big", "nothing", "../fetch/001"]


@pytest.mark.parametrize("stream", [b"{", b"{}\n", b"hello\n", entry("x", content=b"12345")[:-1], b"x" * 300_000])
def test_malformed_streams(node: Node, stream: bytes) -> None:
    refused(apply(node, "~/malformed", entry("before", content=b"b") + stream), 400, 9003)
    refused(node.ask("POST", "/transfer/apply?path=x", {}), 415, 9003)
    refused(
        node.ask("POST", "/transfer/apply", b"x", headers={"content-type": entries.CONTENT_TYPE}), 400, 9003, "path"
    )
    assert not parts(node)


NAME = st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=30).filter(
    lambda n: n not in (".", "..") and len(n.encode()) < 250
)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.dictionaries(st.lists(NAME, min_size=1, max_size=3).map(tuple), st.binary(max_size=300), max_size=8))
def test_what_is_applied_is_what_the_manifest_tells(node: Node, files: dict[tuple[str, ...], bytes]) -> None:
    root = f"~/laws/{secrets.token_hex(8)}"
    applied = done(apply(node, root, b"".join(entry(name_to_wire("/".join(p)), content=c) for p, c in files.items())))
    failed = {name_from_wire(e.path) for e in applied.errors}
    wanted = {"/".join(p): sha(c) for p, c in files.items() if "/".join(p) not in failed}
    told = {
        name_from_wire(e.path): e.checksum for e in manifest(node, root, checksum=True).values() if e.type == "file"
    }
    assert told == wanted
    assert json.dumps(sorted(failed)) == json.dumps(sorted(f for f in failed if _clashes(f, files)))


def _clashes(path: str, files: dict[tuple[str, ...], bytes]) -> bool:
    """A file where another needs a directory."""
    steps = tuple(path.split("/"))
    return any(steps[: len(o)] == o or o[: len(steps)] == steps for o in files if o != steps)


def test_a_directory_cannot_be_left_by_its_descriptor(node: Node) -> None:
    assert Path(f"/proc/{node.process.pid if node.process else 0}/fd").exists()
    descriptors = Path(f"/proc/{node.process.pid}/fd")  # type: ignore[union-attr]
    until(lambda: len(list(descriptors.iterdir())) < 60, "all that was opened above to be closed again")
