"""A paired machine that turned bad, asked by us: what it answers can't undo a decision of ours, or fill our disk."""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from loopsy.core import rotation
from loopsy.store import configfile
from loopsy.testing.nodes import Node
from tests.integration.conftest import PATIENCE_S, until
from tests.integration.test_rest import refused

SIZE = 300_000
"""Of a file: more than travels in a batch."""


class Bad(ThreadingHTTPServer):
    """Speaks loopsy as far as it suits it."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.port: int = self.server_address[1]
        self.key, self.our_key = secrets.token_hex(32), secrets.token_hex(32)
        self.asked, self.answer = threading.Event(), threading.Event()
        self.sent = 0
        self.mode = "644"
        self.limit: int | None = None

    def paired_with(self, node: Node) -> None:
        node.write_config(
            auth={"apiKey": node.key, "allowedKeys": {"bad": self.key}, "peerKeys": {"bad": self.our_key}},
            discovery={
                "enabled": False,
                "manualPeers": [{"address": "127.0.0.1", "port": self.port, "hostname": "bad"}],
            },
        )


class Handler(BaseHTTPRequestHandler):
    """One request to it."""

    server: Bad
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path.startswith("/api/v1/transfer/file"):
            self._file()
        else:
            self._json({"error": {"code": 9003, "message": "no"}}, 404)

    do_HEAD = do_GET

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("content-length", 0)))
        if self.path == "/api/v1/trust/rotation":
            self.server.asked.set()
            self.server.answer.wait(60)
            self._json({"public": rotation.public_half(ec.generate_private_key(ec.SECP256R1()))})
        elif self.path == "/api/v1/transfer/manifest":
            self._json({"path": "", "type": "file", "size": SIZE, "mtimeNs": 0, "mode": 0o644})
        else:
            self._json({"error": {"code": 9003, "message": "no"}}, 404)

    def _file(self) -> None:
        self.send_response(200)
        for name, value in (("file-size", SIZE), ("mode", self.server.mode), ("mtime", "9" * 30)):
            self.send_header(f"x-loopsy-{name}", str(value))
        self.send_header("etag", '"1"')
        self.send_header("connection", "close")
        if self.server.limit is not None:
            self.send_header("content-length", str(self.server.limit))
        self.end_headers()
        self.close_connection = True
        if self.command == "HEAD":
            return
        left = self.server.limit
        with suppress(OSError):
            while left is None or left > 0:
                piece = b"x" * min(65536, 65536 if left is None else left)
                self.wfile.write(piece)
                self.server.sent += len(piece)
                left = None if left is None else left - len(piece)

    def _json(self, value: Any, status: int = 200) -> None:
        body = json.dumps(value).encode() + b"\n"
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Not here."""


@pytest.fixture
def bad() -> Iterator[Bad]:
    server = Bad()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.answer.set()
    server.shutdown()
    server.server_close()


def test_a_peer_that_is_revoked_while_it_holds_a_rotation_back_stays_out(
    make_node: Callable[..., Node], bad: Bad
) -> None:
    node = make_node()
    bad.paired_with(node)
    node.start()
    answers: list[Any] = []
    asking = threading.Thread(target=lambda: answers.append(node.ask("POST", "/trust/bad/rotate")))
    asking.start()
    assert bad.asked.wait(PATIENCE_S)
    assert node.ask("POST", "/trust/bad/revoke").body["success"] is True
    bad.answer.set()
    asking.join(PATIENCE_S)
    refused(answers[0], 404, 2001, "revoked")
    auth = configfile.load(node.layout.config).config.auth
    assert "bad" not in auth.allowed_keys
    assert "bad" not in auth.peer_keys
    refused(node.ask("GET", "/context", key=bad.key), 403, 1002)


def test_keys_that_were_offered_to_a_peer_end_with_its_next_pairing(make_node: Callable[..., Node], bad: Bad) -> None:
    """It kept new keys in hand, was revoked, and a machine was trusted under its name: the keys open nothing."""
    node = make_node()
    bad.paired_with(node)
    node.start()
    auth = configfile.load(node.layout.config).config.auth
    private = ec.generate_private_key(ec.SECP256R1())
    half = rotation.public_half(private)
    theirs = node.ask("POST", "/trust/rotation", {"public": half}, key=bad.key).body["public"]
    old = rotation.PairKeys(initiator=bad.key, responder=auth.peer_keys["bad"])
    kept = rotation.agree(private, half, theirs, theirs, old).initiator
    configfile.change(node.layout.config, ("auth", "allowedKeys", "bad"), None)
    node.ask("POST", "/reload")
    refused(node.ask("GET", "/context", key=kept), 403, 1002)
    node.ask("POST", "/trust/bad/revoke")
    configfile.change(node.layout.config, ("auth", "allowedKeys", "bad"), secrets.token_hex(32))
    node.ask("POST", "/reload")
    refused(node.ask("GET", "/context", key=kept), 403, 1002)


def pulled(node: Node, into: Path) -> Any:
    begun = node.ask(
        "POST",
        "/transfers",
        {"direction": "pull", "peer": "bad", "sources": ["/f"], "destination": str(into), "recursive": False},
    )
    assert begun.status == 201, begun.body
    path = f"/transfers/{begun.body['transferId']}"
    until(lambda: node.ask("GET", path).body["state"] != "running", "the end of the pull")
    return node.ask("GET", path).body


def test_a_file_without_end_is_cut_where_it_should_have_ended(
    make_node: Callable[..., Node], bad: Bad, tmp_path: Path
) -> None:
    node = make_node()
    bad.paired_with(node)
    node.start()
    (tmp_path / "here").mkdir()
    info = pulled(node, tmp_path / "here" / "f")
    assert "more of" in info["error"], info["error"]
    assert list((tmp_path / "here").iterdir()) == []
    time.sleep(0.3)  # it would go on sending now
    assert bad.sent < 64 * 1024 * 1024


def test_odd_numbers_in_a_files_head_do_no_harm(make_node: Callable[..., Node], bad: Bad, tmp_path: Path) -> None:
    bad.mode, bad.limit = "rwxr-xr-x", SIZE
    node = make_node()
    bad.paired_with(node)
    node.start()
    info = pulled(node, tmp_path / "f")
    assert info["state"] == "completed", info
    assert (tmp_path / "f").stat().st_mode & 0o7777 == 0o644
    assert "Traceback" not in node.log


def test_no_peer_is_trusted_under_the_name_of_the_machine_itself(make_node: Callable[..., Node], bad: Bad) -> None:
    node = make_node().start()
    asked = {"address": "127.0.0.1", "port": bad.port, "ourKey": "o" * 64, "theirKey": "t" * 64}
    for name in ("local", "stranger"):
        refused(node.ask("POST", "/trust", {"name": name, **asked}), 400, 9003, name)
