"""Uploads that can be resumed: tus as its clients speak it, and daemons killed in the middle."""

from __future__ import annotations

import hashlib
import os
import random
import secrets
import socket
import subprocess
import threading
from base64 import b64encode
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from loopsy.store.database import Database
from loopsy.testing.nodes import Answer, Node
from tests.integration.conftest import until
from tests.integration.test_rest import refused
from tests.integration.test_transfer import home, parts, sha, small_disk  # noqa: F401 - a fixture

PIECE = "application/offset+octet-stream"
JSON = {"accept": "application/json"}
WAITING = 256 * 1024
"""Bytes of a sender that stopped which may not be on disk yet."""


def metadata(**values: str) -> str:
    return ",".join(f"{key} {b64encode(value.encode()).decode()}" for key, value in values.items())


def begin(
    node: Node, length: int, *, key: str = "own", prefix: str = "", body: bytes | None = None, **values: str
) -> Answer:
    headers = {"tus-resumable": "1.0.0", "upload-length": str(length), "upload-metadata": metadata(**values), **JSON}
    if body is not None:
        headers["content-type"] = PIECE
    return node.ask("POST", f"{prefix}/transfer/uploads", body, key=key, headers=headers)


def address(answer: Answer) -> str:
    assert answer.status in (200, 201), answer
    return answer.headers["location"].removeprefix("/api/v1")


def patch(node: Node, where: str, offset: int, body: bytes, *, key: str = "own", **more: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in more.items()}
    headers = {"content-type": PIECE, "upload-offset": str(offset), "tus-resumable": "1.0.0", **JSON, **named}
    return node.ask("PATCH", where, body, key=key, headers=headers)


def offset(node: Node, where: str, key: str = "own") -> int:
    answer = node.ask("HEAD", where, key=key)
    assert answer.status == 200, answer
    return int(answer.headers["upload-offset"])


def test_what_is_spoken(node: Node) -> None:
    answer = node.ask("OPTIONS", "/transfer/uploads")
    assert (answer.status, answer.headers["tus-version"]) == (204, "1.0.0")
    assert set(answer.headers["tus-extension"].split(",")) == {
        "creation", "creation-with-upload", "termination", "expiration", "checksum"}  # fmt: skip
    assert answer.headers["tus-max-size"] == str(1024**3)
    wrong = node.ask("POST", "/transfer/uploads", headers={"tus-resumable": "0.2.2"})
    refused(wrong, 412, 9003)
    assert wrong.headers["tus-version"] == "1.0.0"


@pytest.mark.parametrize("prefix", ["", "/peers/bravo"])
def test_an_upload_in_pieces(pair: tuple[Node, Node], prefix: str) -> None:
    a, b = pair
    node, data = (a if prefix else b), secrets.token_bytes(3_000_000)
    values = {
        "path": "~/up/f",
        "source": f"s{prefix}",
        "mode": "750",
        "mtime": "1000000000123456789",
        "checksum": sha(data),
    }
    began = begin(node, len(data), prefix=prefix, **values)
    where = address(began)
    assert (began.status, began.headers["upload-offset"]) == (201, "0")
    assert where.startswith(f"{prefix}/transfer/uploads/")
    assert "upload-expires" in began.headers
    first = patch(node, where, 0, data[:1_000_000])
    assert (first.status, first.headers["upload-offset"]) == (204, "1000000")
    assert not (home(b) / "up/f").exists()
    assert [p.stat().st_mode & 0o777 for p in parts(b)] == [0o600]
    conflict = patch(node, where, 999_999, data[999_999:])
    refused(conflict, 409, 4007)
    assert conflict.body["error"]["details"]["offset"] == offset(node, where) == 1_000_000
    again = begin(node, len(data), prefix=prefix, **values)
    assert (again.status, address(again), again.headers["upload-offset"]) == (200, where, "1000000")
    last = patch(node, where, 1_000_000, data[1_000_000:])
    assert (last.status, last.body["checksum"], last.headers["x-loopsy-checksum"]) == (200, sha(data), sha(data))
    status = (home(b) / "up/f").stat()
    assert (status.st_mode & 0o7777, status.st_mtime_ns) == (0o750, 1000000000123456789)
    assert (home(b) / "up/f").read_bytes() == data
    assert offset(node, where) == len(data)
    assert patch(node, where, len(data), b"").body["checksum"] == sha(data)
    assert not parts(b)
    (home(b) / "up/f").unlink()


def test_in_one_request_and_without_content(node: Node) -> None:
    made = begin(node, 5, path="~/one", body=b"hello")
    assert (made.status, made.body["size"], made.headers["upload-offset"]) == (201, 5, "5")
    assert (home(node) / "one").read_bytes() == b"hello"
    empty = begin(node, 0, path="~/none")
    assert (empty.status, empty.body["size"]) == (201, 0)
    assert (home(node) / "none").read_bytes() == b""
    (home(node) / "updir").mkdir()
    assert begin(node, 1, path="~/updir", filename="n", body=b"x").body["path"] == str(home(node) / "updir/n")
    plain = node.ask("POST", "/transfer/uploads", b"x", headers={
        "content-type": PIECE, "upload-length": "1", "upload-metadata": metadata(path="~/plain")})  # fmt: skip
    assert (plain.status, plain.body) == (201, b"")


def test_a_changed_source_starts_over_and_another_peer_begins_its_own(make_node: Any) -> None:
    key = "e" * 64
    node = make_node(auth={"allowedKeys": {"eve": key}}).start()
    first = address(begin(node, 10, path="~/f", source="one"))
    patch(node, first, 0, b"12345")
    eves = address(begin(node, 10, path="~/f", source="one", key=key))
    assert eves != first
    for method in ("HEAD", "DELETE"):
        assert node.ask(method, first, key=key).status == 404
    refused(patch(node, first, 5, b"x", key=key), 404, 4006)
    second = begin(node, 10, path="~/f", source="two")
    assert (second.status, second.headers["upload-offset"]) == (201, "0")
    assert node.ask("HEAD", first).status == 404
    assert len(parts(node)) == 2
    assert node.ask("DELETE", address(second)).status == 204
    assert node.ask("DELETE", eves, key=key).status == 204
    assert not parts(node)


def test_what_is_refused(make_node: Any) -> None:
    node = make_node(transfer={"maxFileSize": 1000}).start()
    refused(begin(node, 1001, path="~/f"), 413, 4003)
    refused(begin(node, 5, path="/proc/x"), 404, 4002) if os.geteuid() else None
    refused(begin(node, 5, path=f"{node.root}/x"), 403, 4001)
    refused(begin(node, 5), 400, 9003, "path")
    refused(node.ask("POST", "/transfer/uploads", headers={"upload-metadata": metadata(path="f")}), 400, 9003, "Length")
    where = address(begin(node, 10, path="~/f"))
    refused(patch(node, where, 0, b"x" * 11), 413, 4003)
    refused(patch(node, where, 0, b"x", content_type="text/plain"), 415, 9003)
    refused(node.ask("PATCH", where, b"{}", headers={"upload-offset": "0"}), 415, 9003)
    refused(patch(node, where, 0, b"x", upload_checksum="md5 x"), 400, 9003)
    refused(patch(node, f"{where}0", 0, b"x"), 404, 4006)
    assert offset(node, where) == 0
    bad = address(begin(node, 5, path="~/g", checksum="0" * 64))
    refused(patch(node, bad, 0, b"hello"), 422, 4004)
    assert node.ask("HEAD", bad).status == 404
    assert not (home(node) / "g").exists()
    assert len(parts(node)) == 1
    assert "Traceback" not in node.log


def test_a_piece_with_a_wrong_checksum_is_forgotten(node: Node) -> None:
    def named(data: bytes, algorithm: str) -> str:
        return f"{algorithm} {b64encode(hashlib.new(algorithm, data).digest()).decode()}"

    where = address(begin(node, 10, path="~/pieces"))
    assert patch(node, where, 0, b"12345", upload_checksum=named(b"12345", "sha256")).status == 204
    refused(patch(node, where, 5, b"wrong", upload_checksum=named(b"67890", "sha1")), 460, 4004)
    assert offset(node, where) == 5
    assert patch(node, where, 5, b"67890", upload_checksum=named(b"67890", "sha1")).body["checksum"] == sha(
        b"1234567890"
    )


def half(node: Node, where: str, length: int, data: bytes, start: int = 0) -> socket.socket:
    """A sender that stops in the middle."""
    sock = socket.create_connection(("127.0.0.1", node.port), timeout=60)
    sock.sendall(
        f"PATCH /api/v1{where} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {node.key}\r\n"
        f"Content-Type: {PIECE}\r\n"
        f"Upload-Offset: {start}\r\nContent-Length: {length}\r\n\r\n".encode()
        + data
    )
    return sock


def send_some(node: Node, where: str, data: bytes, start: int, end: int) -> None:
    """A sender of all from ``start`` on that stops at ``end``, and stays until the connection ends."""
    with suppress(OSError), half(node, where, len(data) - start, data[start:end], start) as sock:
        sock.recv(1)


@pytest.mark.parametrize("prefix", ["", "/peers/bravo"])
def test_a_broken_connection_keeps_what_arrived_and_a_new_sender_cuts_an_old_one(
    pair: tuple[Node, Node], prefix: str
) -> None:
    data, receiver = secrets.token_bytes(2_000_000), pair[1]
    node = pair[0] if prefix else receiver
    where = address(begin(node, len(data), prefix=prefix, path="~/broken", source=f"s{prefix}"))
    sock = half(node, where, len(data), data[:700_001])
    until(lambda: parts(receiver)[0].stat().st_size > 0)
    sock.close()
    until(lambda: offset(node, where) == 700_001)
    stalled: list[socket.socket] = []

    def cut() -> bool:
        """Whether the four bytes of one that stalls had come when the next sender did."""
        stalled.append(half(node, where, len(data) - 700_001, data[700_001:700_005], 700_001))
        again = begin(node, len(data), prefix=prefix, path="~/broken", source=f"s{prefix}")
        assert address(again) == where
        return again.headers["upload-offset"] == "700005"

    until(cut, "the four bytes")
    assert patch(node, where, 700_005, data[700_005:]).body["checksum"] == sha(data)
    for sock in stalled:
        sock.close()


def test_a_restart_keeps_it_unless_the_part_is_another_file(make_node: Any) -> None:
    node = make_node().start()
    where = address(begin(node, 10, path="~/f", source="s"))
    patch(node, where, 0, b"12345")
    node.stop()
    node.start()
    assert offset(node, where) == 5
    node.stop()
    (part,) = parts(node)
    part.unlink()
    (home(node) / "victim").write_text("v")
    part.symlink_to("victim")
    node.start()
    assert node.ask("HEAD", where).status == 404
    fresh = begin(node, 10, path="~/f", source="s")
    assert (fresh.status, fresh.headers["upload-offset"]) == (201, "0")
    assert patch(node, address(fresh), 0, b"1234567890").status == 200
    assert (home(node) / "victim").read_text() == "v"


def test_what_is_older_than_a_day_is_swept(make_node: Any) -> None:
    node = make_node().start()
    old, young = (address(begin(node, 10, path=f"~/{n}")) for n in "ab")
    node.stop()
    database = Database(node.layout.database)
    database.write([lambda db: db.execute(
        "UPDATE uploads SET record = json_set(record, '$.touched', 1) WHERE upload_id = ?", (old.rpartition("/")[2],))
    ])  # fmt: skip
    database.close()
    node.start()
    until(lambda: [node.ask("HEAD", where).status for where in (old, young)] == [404, 200])
    assert len(parts(node)) == 1


def test_a_policy_that_was_tightened_holds_for_what_was_begun(make_node: Any) -> None:
    key = "e" * 64
    node = make_node(auth={"allowedKeys": {"eve": key}}).start()
    where = address(begin(node, 10, path="~/f", key=key))
    node.write_config(auth={"allowedKeys": {"eve": key}}, transfer={"deniedPaths": ["~/f"]})
    assert node.ask("POST", "/reload").status == 200
    refused(patch(node, where, 0, b"1234567890", key=key), 403, 4001)


@pytest.mark.parametrize("is_running", [True, False])
def test_what_a_revoked_peer_began_is_dropped_and_nobody_goes_on_with_it(make_node: Any, is_running: bool) -> None:
    key, heirs = "e" * 64, "f" * 64
    node = make_node(auth={"allowedKeys": {"eve": key}}).start()
    where = address(begin(node, 10, path="~/f", key=key))
    assert patch(node, where, 0, b"1234", key=key).status == 204
    done = address(begin(node, 2, path="~/done", key=key))
    assert patch(node, done, 0, b"ab", key=key).status == 200
    own = address(begin(node, 10, path="~/own"))
    assert len(parts(node)) == 2
    if is_running:
        assert node.ask("POST", "/trust/eve/revoke").status == 200
    else:
        node.stop()
        node.write_config(auth={"allowedKeys": {}})
        node.start()
    until(lambda: len(parts(node)) == 1, "the end of what was begun")
    node.write_config(auth={"allowedKeys": {"eve": heirs}})
    assert node.ask("POST", "/reload").status == 200
    assert [node.ask("HEAD", each, key=heirs).status for each in (where, done)] == [404, 404]
    assert node.ask("HEAD", own).status == 200


def test_a_full_disk_keeps_what_arrived_and_the_old_file(node: Node, small_disk: Path) -> None:  # noqa: F811
    (small_disk / "f").write_text("old")
    refused(begin(node, 60_000_000, path=f"{small_disk}/f"), 507, 4005)
    where = address(begin(node, 20_000_000, path=f"{small_disk}/f"))
    with open(small_disk / "filler", "wb") as file:
        file.write(b"x" * 35_000_000)
    refused(patch(node, where, 0, b"y" * 20_000_000), 507, 4005)
    assert (small_disk / "f").read_text() == "old"
    (small_disk / "filler").unlink()
    done = offset(node, where)
    assert patch(node, where, done, b"y" * (20_000_000 - done)).body["checksum"] == sha(b"y" * 20_000_000)


def test_kill_9_at_random_moments_of_twenty_uploads(make_node: Any) -> None:
    """Moments by what is on disk, not by the clock: each is in the middle, however quick the machine is."""
    node, dice = make_node().start(), random.Random(7)
    data = secrets.token_bytes(20_000_000)
    values = {"path": "~/killed", "source": "s", "checksum": sha(data)}
    resumed = 0
    for number in range(20):
        values["source"] = f"s{number}"
        for most in (len(data) // 2, len(data)):
            began = begin(node, len(data), **values)
            at = int(began.headers["upload-offset"])
            resumed += at > 0
            end = dice.randrange(at + WAITING, most)
            sender = threading.Thread(target=send_some, args=(node, address(began), data, at, end))
            sender.start()
            moment = dice.randrange(at, end - WAITING + 1)
            until(lambda moment=moment: parts(node)[0].stat().st_size >= moment, f"{moment} bytes on disk")
            node.kill()
            sender.join()
            node.start()
        began = begin(node, len(data), **values)
        at = int(began.headers["upload-offset"])
        resumed += at > 0
        answer = patch(node, address(began), at, data[at:])
        assert (answer.status, answer.body["checksum"]) == (200, sha(data))
        assert (home(node) / "killed").read_bytes() == data
    assert resumed > 20
    node.stop()
    node.start()
    until(lambda: not parts(node), "nothing to be left")
    assert subprocess.run(["ls", str(home(node))], capture_output=True).stdout == b"killed\n"
