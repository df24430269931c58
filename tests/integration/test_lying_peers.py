"""``pull -r`` from a peer that lies about its tree: nothing outside the destination changes, the old files stay."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from loopsy.testing.nodes import Node
from tests.integration.lying import ROOT, WHEN, LyingPeer, line
from tests.integration.machine import COMMAND

pytestmark = pytest.mark.integration
MIB = 1024 * 1024
LARGE = MIB
"""More than travels in a batch."""


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Node, LyingPeer]]:
    with LyingPeer() as peer:
        node = Node(tmp_path_factory.mktemp("lied") / "alfa", "alfa")
        node.write_config(
            auth={"apiKey": node.key, "peerKeys": {"liar": "k" * 64}},
            discovery={
                "enabled": False,
                "manualPeers": [{"address": "127.0.0.1", "port": peer.port, "hostname": "liar"}],
            },
        )
        node.start()
        yield node, peer
        assert "Traceback" not in node.log
        node.stop()


@pytest.fixture
def node(both: tuple[Node, LyingPeer]) -> Node:
    return both[0]


@pytest.fixture
def peer(both: tuple[Node, LyingPeer]) -> LyingPeer:
    """As honest as it gets, until the test says otherwise."""
    peer = both[1]
    peer.manifest, peer.fetch, peer.checksum = (lambda: [ROOT]), (list), None
    return peer


@pytest.fixture
def there(tmp_path: Path) -> Path:
    """The destination, with an old file, a directory and a link out of it; beside it what must never change."""
    there = tmp_path / "there"
    (there / "dir").mkdir(parents=True)
    (there / "old").write_text("old")
    (there / "dir" / "old").write_text("old")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "f").write_text("outside")
    (there / "out").symlink_to(tmp_path / "outside")
    return there


def picture(root: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for path in sorted(root.rglob("*")):
        if path.is_symlink():
            found[str(path)] = os.readlink(path)
        else:
            found[str(path)] = path.read_bytes() if path.is_file() else None
    return found


def refused(node: Node, there: Path, *words: str) -> str:
    command = [*COMMAND, "pull", "-r", *words, "liar", "tree/.", str(there)]
    done = subprocess.run(
        command, env=node.environment, cwd=node.environment["HOME"], stdin=subprocess.DEVNULL, capture_output=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 1, (done.returncode, done.stdout, done.stderr)
    assert b"internal" not in done.stderr.lower()
    return done.stderr.decode()


BAD_TREES = {
    "dots": [line("../outside/f", size=3)],
    "dots inside": [line("dir", "directory"), line("dir/../../outside/f", size=3)],
    "odd dots": [line("b:%2e%2e/outside/f", size=3)],
    "absolute": [line("/tmp/leftovers-never", size=3)],
    "odd absolute": [line("b:/tmp/leftovers-never", size=3)],
    "no step": [line("dir", "directory"), line("dir//f", size=3)],
    "a NUL": [line("b:a%00b", size=3)],
    "a NUL in a target": [line("l", "symlink", target="b:a%00b")],
    "half a character": [line("\ud800", size=3)],
    "below a symlink": [line("l", "symlink", target="../outside"), line("l/f", size=3)],
    "below a link of ours": [line("out", "symlink", target="../outside"), line("out/f", size=LARGE)],
    "below a file": [line("old", size=3), line("old/f", size=3)],
    "below nothing": [line("no/such/f", size=3)],
    "twice": [line("f", size=3), line("f", size=3)],
    "twice, once a link": [line("l", "symlink", target="../outside"), line("l", "directory"), line("l/f", size=3)],
    "twice, written oddly": [line("f", size=3), line("b:f", size=3)],
    "the root twice": [ROOT],
    "negative": [line("f", size=-1)],
    "huge": [line("f", size=2**63)],
    "a number for a path": [json.dumps({"path": 5, "type": "file"}).encode() + b"\n"],
    "deleted": [line("old", "deleted")],
    "touch": [line("old", "touch", mode=0o777)],
    "a long line": [line("x" * 300_000)],
    "deep JSON": [b"[" * 100_000 + b"\n"],
    "no JSON": [b"<html>\n"],
    "a file where our directory is": [line("dir", size=3)],
}


@pytest.mark.parametrize("name", BAD_TREES)
def test_a_tree_that_is_none_changes_nothing(node: Node, peer: LyingPeer, there: Path, name: str) -> None:
    peer.manifest = lambda: [ROOT, *BAD_TREES[name]]
    peer.asked.clear()
    before = picture(there.parent)
    assert refused(node, there)
    assert picture(there.parent) == before
    assert not any("fetch" in path or "file" in path for path in peer.asked)


def test_a_root_that_is_no_directory(node: Node, peer: LyingPeer, there: Path) -> None:
    before = picture(there.parent)
    peer.manifest = lambda: [line("", "symlink", target="/")]
    assert "manifest" in refused(node, there, "--delete")
    assert picture(there.parent) == before


def test_a_directory_where_our_link_leads_out_is_one_of_the_trees_own(node: Node, peer: LyingPeer, there: Path) -> None:
    content = line("out/f", size=3) + b"new"
    peer.manifest = lambda: [ROOT, line("out", "directory", mode=0o755), line("out/f", size=3)]
    peer.fetch = lambda: [content]
    done = node.run("pull", "-r", "liar", "tree/.", str(there))
    assert done.returncode == 0, done.stderr
    assert (there.parent / "outside" / "f").read_text() == "outside"
    assert not (there / "out").is_symlink()
    assert (there / "out" / "f").read_text() == "new"


@pytest.mark.parametrize(
    "stream",
    [
        line("../outside/f", size=3) + b"bad",
        line("other", size=3) + b"bad",
        line("old", size=3) + b"bad" + line("old", size=3) + b"bad",
        line("old", size=MIB + 1) + b"x" * (MIB + 1),
        line("old", "symlink", target="/etc"),
        line("old", "deleted"),
        line("old", size=3) + b"ba",
        line("old", size=3, checksum="0" * 64) + b"bad",
        b"",
        b"x" * 300_000,
    ],
    ids=["outside", "not asked", "twice", "long", "a link", "deleted", "short", "checksum", "nothing", "no line"],
)
def test_small_files_that_are_not_what_was_asked_for(
    node: Node, peer: LyingPeer, there: Path, stream: bytes, request: pytest.FixtureRequest
) -> None:
    before = picture(there.parent)
    peer.manifest = lambda: [ROOT, line("old", size=4)]
    peer.fetch = lambda: [stream]
    assert refused(node, there)
    after = picture(there.parent)
    if "twice" in request.node.callspec.id:  # the first was what was asked for
        before[str(there / "old")] = b"bad"
    assert after == before


SAID = {"X-Loopsy-File-Size": str(LARGE), "X-Loopsy-Mode": "644", "X-Loopsy-Mtime": str(WHEN), "ETag": '"one"'}
BAD_FILES: dict[str, tuple[dict[str, str], list[bytes], str]] = {
    "checksum": ({"Content-Length": str(LARGE)}, [b"x" * LARGE], "not what"),
    "longer": ({"Transfer-Encoding": "chunked"}, [b"100000\r\n" + b"x" * LARGE + b"\r\n5\r\nmore!\r\n0\r\n\r\n"], ""),
    "longer than the length": ({"Content-Length": str(LARGE)}, [b"y" * (LARGE + 5)], "not what"),
    "shorter, whole": ({"Content-Length": "5"}, [b"short"], "not what"),
    "no headers": ({"Content-Length": "5", "X-Loopsy-File-Size": "", "ETag": ""}, [b"short"], ""),
    "numbers": ({"Content-Length": "0", "X-Loopsy-Mode": "9z", "X-Loopsy-Mtime": "9" * 5000}, [], ""),
    "huge": ({"Content-Length": "5", "X-Loopsy-File-Size": str(2**61)}, [b"short"], "bytes left"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_large_file_that_is_not_what_was_said(node: Node, peer: LyingPeer, there: Path, name: str) -> None:
    headers, pieces, words = BAD_FILES[name]
    before = picture(there.parent)
    peer.manifest = lambda: [ROOT, line("old", size=LARGE)]
    peer.file = lambda: ({**SAID, **headers}, pieces)
    peer.checksum = "0" * 64
    assert words in refused(node, there)
    assert picture(there.parent) == before


def test_a_large_file_that_never_comes_whole_is_given_up(node: Node, peer: LyingPeer, there: Path) -> None:
    before = picture(there.parent)
    numbers = itertools.count()
    peer.manifest = lambda: [ROOT, line("old", size=LARGE)]
    peer.file = lambda: ({**SAID, "ETag": f'"{next(numbers)}"', "Content-Length": str(LARGE)}, [b"x" * (LARGE // 2)])
    assert "broke" in refused(node, there)
    assert next(numbers) < 50, "asked again and again"
    after = {path: content for path, content in picture(there.parent).items() if ".loopsy-" not in path}
    assert after == before


def test_a_manifest_without_an_end(node: Node, peer: LyingPeer, there: Path) -> None:
    before = picture(there.parent)
    assert node.process is not None
    process = psutil.Process(node.process.pid)
    rss = process.memory_info().rss

    def endless() -> Iterator[bytes]:
        yield ROOT
        for number in itertools.count(step=1000):
            yield b"".join(line(f"f{number + at:020}", size=1) for at in range(1000))

    peer.manifest = endless
    assert "the manifest" in refused(node, there)
    assert picture(there.parent) == before
    assert process.memory_info().rss - rss < 400 * MIB
    assert node.ask("GET", "/health").status == 200


def test_an_honest_large_file_still_comes(node: Node, peer: LyingPeer, there: Path) -> None:
    content = os.urandom(LARGE)
    peer.manifest = lambda: [ROOT, line("old", size=LARGE)]
    peer.file = lambda: ({**SAID, "Content-Length": str(LARGE)}, [content])
    peer.checksum = hashlib.sha256(content).hexdigest()
    done = node.run("pull", "-r", "liar", "tree/.", str(there))
    assert done.returncode == 0, done.stderr
    assert (there / "old").read_bytes() == content
