"""Whole files on a real daemon, as existing scripts push and pull them, and what must fail."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import secrets
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import chdir
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loopsy.testing.nodes import Answer, Node
from loopsy.wire.transfer import name_from_wire
from tests.integration.conftest import PATIENCE_S, until
from tests.integration.test_hostile import raw
from tests.integration.test_rest import refused

Pair = tuple[Node, Node]
BOUNDARY = "----boundary"


def home(node: Node) -> Path:
    return Path(node.environment["HOME"])


def parts(node: Node) -> list[Path]:
    """Unfinished files of ours."""
    return [path for path in home(node).rglob("*") if path.name.startswith(".loopsy-")]


def form(*fields: tuple[str, str | None, bytes]) -> bytes:
    """multipart/form-data of (name, file name, content)."""
    body = b""
    for name, filename, content in fields:
        more = f'; filename="{filename}"' if filename is not None else ""
        body += (
            f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n'.encode() + content + b"\r\n"
        )
    return body + f"--{BOUNDARY}--\r\n".encode()


def push(node: Node, path: str, content: bytes, *, key: str = "own", checksum: str | None = None, late: bool = False,
         filename: str = "sent", prefix: str = "") -> Answer:  # fmt: skip
    fields: list[tuple[str, str | None, bytes]] = [("destPath", None, path.encode()), ("file", filename, content)]
    if checksum is not None:
        fields.append(("checksum", None, checksum.encode()))
    headers = {"content-type": f"multipart/form-data; boundary={BOUNDARY}"}
    body = form(*(reversed(fields) if late else fields))
    return node.ask("POST", f"{prefix}/transfer/push", body, key=key, headers=headers)


def get(
    node: Node, path: str, method: str = "GET", *, key: str = "own", more: str = "", prefix: str = "", **headers: str
) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return node.ask(method, f"{prefix}/transfer/file?path={quote(path)}{more}", key=key, headers=named)


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


# -- push -------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("late", [False, True], ids=["path first", "file first"])
@pytest.mark.parametrize("size", [0, 1, 300_000, 5_000_000])
def test_a_pushed_file_is_there(node: Node, late: bool, size: int) -> None:
    data = secrets.token_bytes(size)
    answer = push(node, f"~/new/{late}/{size}", data, late=late, checksum=sha(data).upper())
    assert answer.status == 200, answer
    target = home(node) / f"new/{late}/{size}"
    assert set(answer.body) == {"path", "size", "checksum", "duration"}
    assert (answer.body["path"], answer.body["size"], answer.body["checksum"]) == (str(target), size, sha(data))
    assert target.read_bytes() == data
    assert not parts(node)
    assert list((node.root / "spool").iterdir()) == []


@pytest.mark.parametrize("order", [["destPath=~/c/d", "file=@{}"], ["file=@{}", "destPath=~/c/d"]])
def test_as_an_existing_script_does_it(node: Node, tmp_path: Path, order: list[str]) -> None:
    (tmp_path / "f").write_bytes(secrets.token_bytes(2_000_000))
    fields = [word for field in order for word in ("-F", field.format(tmp_path / "f"))]
    url = f"http://127.0.0.1:{node.port}/api/v1/transfer/push"
    ran = subprocess.run(["curl", "-sSf", "-H", f"Authorization: Bearer {node.key}", *fields, url], capture_output=True)
    assert json.loads(ran.stdout)["size"] == 2_000_000
    assert (home(node) / "c/d").read_bytes() == (tmp_path / "f").read_bytes()


def test_a_directory_takes_the_file_under_its_name(node: Node) -> None:
    (home(node) / "dir").mkdir()
    assert push(node, "~/dir", b"1", filename="one").body["path"] == str(home(node) / "dir/one")
    assert push(node, "~/fresh/", b"2", filename="/etc/two").body["path"] == str(home(node) / "fresh/two")
    refused(push(node, "~/dir", b"3", filename=".."), 400, 9003)


def test_the_old_file_stays_until_the_new_one_is_whole(node: Node) -> None:
    (home(node) / "old").write_text("old")
    (home(node) / "old").chmod(0o600)
    for late in (False, True):
        refused(push(node, "~/old", b"new", checksum="0" * 64, late=late), 422, 4004)
    assert (home(node) / "old").read_text() == "old"
    assert push(node, "~/old", b"new").status == 200
    assert ((home(node) / "old").read_text(), (home(node) / "old").stat().st_mode & 0o777) == ("new", 0o600)
    assert not parts(node)


def test_names_of_all_kinds_pass(node: Node) -> None:
    for name in ("-rf", "a b", "ä\n*", "b:%FF", "%2e%2e", "x" * 255):
        path = f"~/names/{name}"
        wire = f"b:{quote(path, safe='/')}" if name.startswith("b:") else path
        assert push(node, wire, name.encode()).status == 200, name
        assert get(node, wire).body == name.encode()
    assert push(node, "b:~/names/%FF", b"odd").body["path"].startswith("b:")
    listed = node.ask("POST", "/transfer/list", {"path": "~/names"}).body["files"]
    assert [f["name"] for f in listed] == sorted(
        (f["name"] for f in listed), key=lambda n: n.replace("b:%FF", "\udcff")
    )
    assert (home(node) / os.fsdecode(b"names/\xff")).read_bytes() == b"odd"


BAD = [
    (form(("destPath", None, b"~/bad")), "no file"),
    (form(("file", "f", b"x")), "destPath"),
    (form(("destPath", None, b"\xff"), ("file", "f", b"x")), "UTF-8"),
    (form(("destPath", None, b""), ("file", "f", b"x")), "empty"),
    (form(("destPath", None, b"~/bad"), ("file", "f", b"x"), ("file", "g", b"y")), "two files"),
    (form(("destPath", None, b"~/bad"), ("checksum", None, b"zz"), ("file", "f", b"x")), "checksum"),
    (form(("destPath", None, b"~/bad"), ("file", "f", b"x"))[:-10], "multipart"),
    (form(("destPath", None, b"~/bad"), ("file", "f", b"x"))[:-60], "multipart"),
    (b"hello", "multipart"),
    (b"", "multipart"),
    (form(("destPath", None, b"x" * 200_000), ("file", "f", b"x")), "destPath"),
    (form(*[("destPath", None, b"~/bad")] * 20, ("file", "f", b"x")), "multipart"),
    (f"--{BOUNDARY}\r\n".encode() + b"X" * 100_000, "multipart"),
]


@pytest.mark.parametrize(("body", "words"), BAD)
def test_malformed_pushes_are_told_and_leave_nothing(node: Node, body: bytes, words: str) -> None:
    headers = {"content-type": f"multipart/form-data; boundary={BOUNDARY}"}
    refused(node.ask("POST", "/transfer/push", body, headers=headers), 400, 9003, words)
    assert not (home(node) / "bad").exists()
    assert not parts(node)


def test_what_is_no_multipart(node: Node) -> None:
    refused(node.ask("POST", "/transfer/push", {"destPath": "x"}), 415, 9003)
    refused(node.ask("POST", "/transfer/push", b"x", headers={"content-type": "text/plain"}), 415, 9003)
    refused(node.ask("POST", "/transfer/push", b"x", headers={"content-type": "multipart/form-data"}), 400, 9003)


def head(node: Node, more: str, path: str = "/transfer/push", key: str | None = None) -> bytes:
    return (
        f"POST /api/v1{path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key or node.key}\r\n"
        f"Content-Type: multipart/form-data; boundary={BOUNDARY}\r\n{more}\r\n\r\n"
    ).encode()


def test_too_large_is_refused_by_the_head_alone_and_in_the_middle_of_chunks(make_node: Any) -> None:
    node = make_node(transfer={"maxFileSize": 100_000}).start()
    with socket.create_connection(("127.0.0.1", node.port), timeout=PATIENCE_S) as sock:
        sock.sendall(head(node, "Content-Length: 1000000000"))
        assert b" 413 " in sock.recv(65536)
    refused(push(node, "~/x", b"x" * 100_001), 413, 4003)
    assert push(node, "~/x", b"x" * 100_000).status == 200
    body = form(("destPath", None, b"~/y"), ("file", "f", b"x" * 1_000_000))
    chunk = f"{len(body):x}\r\n".encode() + body + b"\r\n0\r\n\r\n"
    answer = raw(node, head(node, "Transfer-Encoding: chunked\r\nConnection: close") + chunk)
    assert b" 413 " in answer.split(b"\r\n")[0]
    assert b"4003" in answer
    assert not (home(node) / "y").exists()
    assert not parts(node)


def test_a_sender_that_goes_leaves_nothing(node: Node) -> None:
    sock = socket.create_connection(("127.0.0.1", node.port), timeout=90)
    body = form(("destPath", None, b"~/stall"), ("file", "f", b"x" * 2_000_000))
    sock.sendall(head(node, f"Content-Length: {len(body)}") + body[:1_000_000])
    until(lambda: open_files(node, "spool") or open_files(node, "(deleted)"))
    sock.close()
    until(lambda: not open_files(node, "(deleted)") and not open_files(node, "spool") and not parts(node))
    assert not (home(node) / "stall").exists()


def open_files(node: Node, words: str) -> list[str]:
    """What the daemon has open, of these."""
    assert node.process is not None
    folder = Path(f"/proc/{node.process.pid}/fd")
    links = []
    for entry in folder.iterdir():
        try:
            links.append(os.readlink(entry))
        except FileNotFoundError:
            continue
    return [link for link in links if words in link]


def test_two_senders_to_one_place_do_not_mix(node: Node) -> None:
    contents = [bytes([n]) * 8_000_000 for n in range(1, 5)]
    threads = [threading.Thread(target=push, args=(node, "~/both", c)) for c in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (home(node) / "both").read_bytes() in contents


# -- pull -------------------------------------------------------------------------------------------------------------
def test_a_file_is_pulled(node: Node) -> None:
    data = secrets.token_bytes(1_000_001)
    (home(node) / 'q"ä').write_bytes(data)
    answer = node.ask("POST", "/transfer/pull", {"sourcePath": '~/q"ä'})
    assert (answer.status, answer.body) == (200, data)
    assert answer.headers["content-disposition"] == "attachment; filename=\"q__\"; filename*=UTF-8''q%22%C3%A4"
    assert answer.headers["x-loopsy-file-size"] == answer.headers["content-length"] == "1000001"
    refused(node.ask("POST", "/transfer/pull", {"sourcePath": "~/nothing"}), 404, 4002)
    refused(node.ask("POST", "/transfer/pull", {}), 400, 9003, "sourcePath")


@pytest.mark.parametrize("prefix", ["", "/peers/bravo"])
def test_ranges_and_conditions(pair: Pair, prefix: str) -> None:
    a, b = pair
    data = bytes(range(256)) * 10
    (home(b) / "ranged").write_bytes(data)
    node = a if prefix else b
    whole = get(node, "~/ranged", prefix=prefix)
    tag = whole.headers["etag"]
    assert (whole.status, whole.body, whole.headers["accept-ranges"]) == (200, data, "bytes")
    part = get(node, "~/ranged", prefix=prefix, range="bytes=10-19", if_range=tag)
    assert (part.status, part.body, part.headers["content-range"]) == (206, data[10:20], "bytes 10-19/2560")
    assert get(node, "~/ranged", prefix=prefix, range="bytes=-5").body == data[-5:]
    assert get(node, "~/ranged", prefix=prefix, range="bytes=10-", if_range='"other"').status == 200
    beyond = get(node, "~/ranged", prefix=prefix, range="bytes=2560-")
    refused(beyond, 416, 9003)
    assert beyond.headers["content-range"] == "bytes */2560"
    assert get(node, "~/ranged", prefix=prefix, if_none_match=tag).status == 304
    asked = get(node, "~/ranged", "HEAD", prefix=prefix, more="&checksum=1")
    assert (asked.status, asked.headers["content-length"], asked.headers["etag"]) == (200, "2560", tag)
    assert asked.headers["x-loopsy-checksum"] == sha(data)
    assert (asked.headers["x-loopsy-mode"], int(asked.headers["x-loopsy-mtime"])) == (
        oct((home(b) / "ranged").stat().st_mode & 0o7777)[2:], (home(b) / "ranged").stat().st_mtime_ns)  # fmt: skip
    (home(b) / "ranged").write_bytes(data[::-1])
    changed = get(node, "~/ranged", prefix=prefix, range="bytes=10-19", if_range=tag)
    assert (changed.status, changed.body) == (200, data[::-1])
    assert "x-loopsy-checksum" not in changed.headers


def test_an_empty_file(node: Node) -> None:
    (home(node) / "empty").touch()
    assert (get(node, "~/empty").status, get(node, "~/empty").body) == (200, b"")
    refused(node.ask("GET", "/transfer/file"), 400, 9003, "path")


@pytest.mark.parametrize("change", ["shrinks", "changes", "grows"])
def test_a_file_that_changes_while_it_is_sent_never_arrives_whole(node: Node, change: str) -> None:
    target = home(node) / "changing"
    target.write_bytes(b"a" * 30_000_000)
    os.utime(target, (1e9, 1e9))  # else the change could fall into the same tick of the file system's clock
    connection = http.client.HTTPConnection("127.0.0.1", node.port, timeout=60)
    connection.request("GET", "/api/v1/transfer/file?path=changing", headers={"authorization": f"Bearer {node.key}"})
    answer = connection.getresponse()
    answer.read(1000)
    with open(target, "r+b") as file:
        if change == "shrinks":
            file.truncate(15_000_000)
        else:
            file.seek(29_000_000 if change == "changes" else 0, 0 if change == "changes" else 2)
            file.write(b"b" * 10)
    with pytest.raises((http.client.IncompleteRead, ConnectionError)):
        answer.read()


def test_a_list_is_by_name_and_hides_nothing(node: Node) -> None:
    root = home(node) / "listed"
    root.mkdir()
    (root / "b").write_text("bb")
    (root / "a").mkdir()
    (root / "l").symlink_to("/etc/passwd")
    (root / "dangling").symlink_to("nowhere")
    os.mkfifo(root / "z")
    files = node.ask("POST", "/transfer/list", {"path": "~/listed"}).body["files"]
    assert [(f["name"], f["type"], f.get("target")) for f in files] == [
        ("a", "directory", None),
        ("b", "file", None),
        ("dangling", "symlink", "nowhere"),
        ("l", "symlink", "/etc/passwd"),
        ("z", "other", None),
    ]
    assert (files[1]["size"], files[1]["path"]) == (2, str(root / "b"))
    assert node.ask("POST", "/transfer/list", {"path": "~/listed/a"}).body == {"files": []}
    refused(node.ask("POST", "/transfer/list", {"path": "~/nowhere"}), 404, 4002)
    refused(node.ask("POST", "/transfer/list", {"path": "~/listed/b"}), 500, 4005, "not a directory")
    (home(node) / ".ssh").mkdir()
    hidden = node.ask("POST", "/transfer/list", {"path": "~"}).body["files"]
    assert next(f for f in hidden if f["name"] == ".ssh")["error"] == "denied"
    (home(node) / ".ssh").rmdir()


# -- who may ----------------------------------------------------------------------------------------------------------
def test_rates_and_scopes(make_node: Any) -> None:
    key, other = "c" * 64, "d" * 64
    node = make_node(
        auth={"allowedKeys": {"carl": key, "dora": other}, "scopes": {"dora": ["context"]}}, rateLimits={"transfer": 3}
    ).start()
    (home(node) / "f").write_text("x")
    refused(get(node, "~/f", key=other), 403, 1002, "transfer")
    refused(push(node, "~/f", b"x" * 10_000_000, key=other), 403, 1002, "transfer")
    began = time.monotonic()
    ticket = node.ask("POST", "/transfer/manifest", {"path": "~"}, key=key).headers["x-loopsy-transfer"]
    for _ in range(20):
        assert get(node, "~/f", key=key, x_loopsy_transfer=ticket).status == 200
        assert get(node, "~/f", "HEAD", key=key).status == 200
    counted: tuple[Callable[[], Answer], ...] = (
        lambda: get(node, "~/f", key=key),
        lambda: push(node, "~/f", b"x", key=key),
        lambda: get(node, "~/f", key=key, x_loopsy_transfer="0" * 32),
    )
    passed = 1  # the manifest
    for ask in counted:
        while (answer := ask()).status == 200:
            passed += 1
            assert passed <= 3 + (time.monotonic() - began) / 20, "three at once, and three a minute"
        refused(answer, 429, 9002)
    assert passed >= 3


# -- paths ------------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A node with a peer whose key is 'e' * 64, that may touch ``ok`` below its home, but not ``ok/no``."""
    root = tmp_path_factory.mktemp("guarded")
    node = Node(root / "alfa", "alfa")
    node.write_config(
        auth={"apiKey": node.key, "allowedKeys": {"eve": "e" * 64}},
        transfer={"allowedPaths": ["~/ok"], "deniedPaths": ["~/ok/no"], "maxFileSize": 10_000_000},
    )
    base = home(node)
    for name in ("ok/d", "ok/no", "okay", "out"):
        (base / name).mkdir(parents=True)
    for name in ("ok/f", "ok/d/f", "ok/no/f", "okay/f", "out/f"):
        (base / name).write_text("secret" if "ok/" not in name or "no/" in name else "open")
    (base / "ok/abs").symlink_to(base / "out")
    (base / "ok/rel").symlink_to("../out")
    (base / "ok/data").symlink_to(node.root)
    (base / "ok/root").symlink_to("/")
    (base / "ok/file").symlink_to("../out/f")
    (base / "ok/deny").symlink_to("no")
    (base / "ok/dangling").symlink_to("../out/new")
    os.mkfifo(base / "ok/fifo")
    bound = socket.socket(socket.AF_UNIX)
    with chdir(base / "ok"):  # the name of a socket must be short
        bound.bind("socket")
    bound.close()
    node.start()
    yield node
    assert "Traceback" not in node.log
    node.stop()


DENIED = [
    "/etc/passwd",
    "~/out/f",
    "~/ok/../out/f",
    "~/okay/f",
    "~/ok/no/f",
    "~/ok/no",
    "~/ok/abs/f",
    "~/ok/rel/f",
    "~/ok/file",
    "~/ok/data/config.yaml",
    "~/ok/root/etc/passwd",
    "~/ok/deny/f",
    "~/ok/d/../../out/f",
    "~/ok/d/../no/f",
    "~",
    "/",
    "out/f",
    "{data}/config.yaml",
    "~/ok/abs/../../../etc/passwd",
    "/proc/self/root/etc/passwd",
    "/proc/self/environ",
    "~/ok/dangling",
    "b:~/ok/%2e%2e/out/f",
    "/dev/zero",
    "~/ok/root/proc/self/mem",
    "~/ok/root/nothing/at/all",
    "~/ok/rel/nothing",
]


@pytest.mark.parametrize("path", DENIED)
def test_no_way_in_or_out_for_a_peer(guarded: Node, path: str) -> None:
    eve, path = "e" * 64, path.format(data=guarded.root)
    ways: list[Callable[[], Answer]] = [
        lambda: get(guarded, path, key=eve),
        lambda: guarded.ask("POST", "/transfer/pull", {"sourcePath": path}, key=eve),
        lambda: guarded.ask("POST", "/transfer/list", {"path": path}, key=eve),
        lambda: guarded.ask("POST", "/transfer/manifest", {"path": path}, key=eve),
        lambda: guarded.ask("POST", "/transfer/fetch", {"path": path, "paths": ["f"]}, key=eve),
        lambda: push(guarded, path, b"evil", key=eve),
        lambda: push(guarded, path, b"evil", key=eve, late=True),
        lambda: push(guarded, f"{path}/new", b"evil", key=eve),
        lambda: guarded.ask(
            "POST", f"/transfer/apply?path={quote(path)}", b"x", key=eve,
            headers={"content-type": "application/x-loopsy-entries"},
        ),
    ]  # fmt: skip
    for way in ways:
        refused(way(), 403, 4001)
    untouched(guarded)


def untouched(node: Node) -> None:
    base = home(node)
    assert {(base / name).read_text() for name in ("out/f", "okay/f", "ok/no/f")} == {"secret"}
    assert sorted(p.name for p in (base / "out").iterdir()) == ["f"]
    assert not parts(node)


@pytest.mark.parametrize("path", ["~/ok/fifo", "~/ok/socket", "~/ok/d/../fifo"])
def test_special_files_are_refused_without_waiting(guarded: Node, path: str) -> None:
    """Who opened the pipe would wait for its other end for ever."""
    for key in ("e" * 64, guarded.key):
        refused(get(guarded, path, key=key), 403, 4001, "plain file")
        refused(push(guarded, path, b"x", key=key), 403, 4001, "plain file")
    refused(get(guarded, "/dev/null"), 403, 4001)


def test_the_own_key_is_held_by_denied_paths_and_the_data_directory(guarded: Node) -> None:
    assert get(guarded, "~/out/f").body == b"secret"
    for path in ("~/ok/no/f", "~/ok/deny/f", f"{guarded.root}/config.yaml", "~/ok/data/loopsy.db", "~/ok/data/spool/x"):
        refused(get(guarded, path), 403, 4001)
        refused(push(guarded, path, b"x"), 403, 4001)


NAMES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    steps=st.lists(
        NAMES | st.sampled_from(["..", ".", "", "abs", "rel", "root", "d", "no", "data"]), min_size=1, max_size=5
    )
)
def test_no_name_leads_out(guarded: Node, steps: list[str]) -> None:
    path = "~/ok/" + "/".join(steps)
    answer = push(guarded, path, b"harmless", key="e" * 64)
    assert answer.status in (200, 400, 403, 404, 500), answer
    if answer.status == 200:
        placed = Path(os.path.realpath(name_from_wire(answer.body["path"])))
        assert placed.read_bytes() == b"harmless"
        assert placed.is_relative_to(home(guarded) / "ok")
        assert not placed.is_relative_to(home(guarded) / "ok/no")
    elif answer.status == 500:
        assert answer.body["error"]["code"] == 4005
    untouched(guarded)


def test_a_directory_that_is_exchanged_for_a_link_in_mid_walk(guarded: Node) -> None:
    base, stop = home(guarded) / "ok", threading.Event()
    (base / "swap").mkdir()
    (base / "swap/f").write_text("open")
    exchanged = [0]

    def exchange() -> None:
        while not stop.is_set():
            exchanged[0] += 1
            os.rename(base / "swap", base / "real")
            try:
                os.symlink("../out", base / "swap")
                os.unlink(base / "swap")
            except FileExistsError:  # a push made the directory in between
                remove(base / "swap")
            try:
                os.rename(base / "real", base / "swap")
            except OSError:
                remove(base / "real")

    def remove(directory: Path) -> None:
        while directory.exists():  # a push may be at work in it
            shutil.rmtree(directory, ignore_errors=True)

    thread = threading.Thread(target=exchange)
    thread.start()
    try:
        seen = {get(guarded, "~/ok/swap/f", key="e" * 64).status for _ in range(200)}
        contents = {str(get(guarded, "~/ok/swap/f", key="e" * 64).body) for _ in range(100)}
        seen |= {push(guarded, "~/ok/swap/new", b"x", key="e" * 64).status for _ in range(200)}
    finally:
        stop.set()
        thread.join()
        shutil.rmtree(base / "swap")
    assert exchanged[0] > 10, "it went on all the time"
    assert seen <= {200, 403, 404, 500}
    assert not any("secret" in content for content in contents)
    untouched(guarded)


# -- the disk ---------------------------------------------------------------------------------------------------------
@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 40 MiB."""
    if os.geteuid() != 0:
        pytest.skip("mounting a tmpfs needs root")
    where = tmp_path / "small"
    where.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=40m", "tmpfs", str(where)], capture_output=True).returncode:
        pytest.skip("no tmpfs can be mounted here")
    yield where
    subprocess.run(["umount", "-l", str(where)], check=True)


@pytest.mark.parametrize("late", [False, True], ids=["path first", "file first"])
def test_a_full_disk_is_told_and_the_old_file_stays(node: Node, small_disk: Path, late: bool) -> None:
    (small_disk / "f").write_text("old")
    refused(push(node, f"{small_disk}/f", b"x" * 30_000_000, late=late), 507, 4005, "disk")
    body = form(("destPath", None, f"{small_disk}/f".encode()), ("file", "f", b"x" * 60_000_000))
    chunk = f"{len(body):x}\r\n".encode() + body + b"\r\n0\r\n\r\n"
    answer = raw(node, head(node, "Transfer-Encoding: chunked\r\nConnection: close") + chunk)
    assert b" 507 " in answer.split(b"\r\n")[0]
    assert [(p.name, p.read_text()) for p in small_disk.iterdir()] == [("f", "old")]
    assert push(node, f"{small_disk}/f", b"x" * 1_000_000).status == 200


# -- memory -----------------------------------------------------------------------------------------------------------
GIB = 1024 * 1024 * 1024


def test_memory_stays_flat_for_a_gibibyte_each_way_through_the_gateway(make_node: Any) -> None:
    """It is pushed in four files, one after the other: no disk needs room for more than one."""
    from loopsy.testing.nodes import keyed_pair

    a, b = make_node("alfa"), make_node("bravo")
    keyed_pair(a, b)
    a.start()
    b.start()
    processes = [psutil.Process(node.process.pid) for node in (a, b) if node.process]
    before = [process.memory_info().rss for process in processes]
    peak = [0, 0]
    over = threading.Event()

    def watch() -> None:
        while not over.is_set():
            for n, process in enumerate(processes):
                peak[n] = max(peak[n], process.memory_info().rss)
            time.sleep(0.02)

    watcher = threading.Thread(target=watch)
    watcher.start()
    sparse = home(b) / "sparse"
    with open(sparse, "wb") as file:
        file.truncate(GIB)
    url = f"http://127.0.0.1:{a.port}/api/v1/peers/bravo/transfer"
    curl = ["curl", "-sSf", "-H", f"Authorization: Bearer {a.key}"]
    try:
        got = subprocess.run(
            [*curl, "-o", "/dev/null", "-w", "%{size_download}", f"{url}/file?path=sparse"], capture_output=True
        )
        os.truncate(sparse, GIB // 4)
        sizes = []
        for _ in range(4):
            put = subprocess.run(
                [*curl, "-F", "destPath=~/landed", "-F", f"file=@{sparse}", f"{url}/push"], capture_output=True
            )
            sizes.append(json.loads(put.stdout)["size"])
            (home(b) / "landed").unlink()
    finally:
        over.set()
        watcher.join()
    assert int(got.stdout) == GIB
    assert sizes == [GIB // 4] * 4
    for start, top in zip(before, peak, strict=True):
        assert top - start < 25_000_000
