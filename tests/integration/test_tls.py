"""TLS on one port, pins, scopes and revocation, between real daemons; and the browser next door."""

from __future__ import annotations

import hashlib
import http.client
import socket
import ssl
import threading
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from loopsy.core import rotation
from loopsy.store import certificate, configfile
from loopsy.testing.nodes import Node, keyed_pair
from tests.integration.conftest import PATIENCE_S, until
from tests.integration.streams import Stream
from tests.integration.test_execution import alive
from tests.integration.test_hostile import raw
from tests.integration.test_rest import refused


def pinned_pair(a: Node, b: Node) -> None:
    """Two nodes with TLS, keyed to each other and pinned."""
    keyed_pair(a, b, tls={"enabled": True})
    for one, other in ((a, b), (b, a)):
        pin = certificate.ensure(other.layout, other.name).fingerprint
        configfile.change(one.layout.config, ("tls", "pinnedCerts", other.name), pin)


@pytest.fixture
def secure(make_node: Callable[..., Node]) -> tuple[Node, Node]:
    a, b = make_node("alfa"), make_node("bravo")
    pinned_pair(a, b)
    return a.start(), b.start()


def fingerprint(node: Node) -> str:
    """Of the certificate that a node's port shows."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        socket.create_connection(("127.0.0.1", node.port), timeout=PATIENCE_S) as sock,
        context.wrap_socket(sock) as wrapped,
    ):
        return hashlib.sha256(wrapped.getpeercert(True) or b"").hexdigest()


def test_one_port_speaks_both_and_peers_speak_tls(secure: tuple[Node, Node]) -> None:
    a, b = secure
    assert a.ask("POST", "/peers/bravo/execute", {"command": "echo", "args": ["hi"]}).body["stdout"] == "hi\n"
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(b.layout.tls_certificate)
    connection = http.client.HTTPSConnection("localhost", b.port, context=context, timeout=PATIENCE_S)
    connection.request("GET", "/api/v1/health")
    assert connection.getresponse().status == 200
    connection.close()
    (peer,) = a.ask("GET", "/peers").body["peers"]
    assert peer["pin"] == fingerprint(b)


def test_old_tls_is_refused(secure: tuple[Node, Node]) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    at = ("127.0.0.1", secure[1].port)
    with socket.create_connection(at, timeout=PATIENCE_S) as sock, pytest.raises(ssl.SSLError):
        context.wrap_socket(sock)


def test_another_certificate_ends_it_before_a_byte_of_the_request(secure: tuple[Node, Node], tmp_path: Path) -> None:
    """An impostor on b's port shows a certificate of its own: it sees a handshake, and no request."""
    a, b = secure
    b.stop()
    impostor = Node(tmp_path / "eve", "eve")
    impostor.layout.make()
    shown = certificate.ensure(impostor.layout, "bravo").fingerprint
    heard = serve_tls(b.port, impostor)
    answer = a.ask("GET", "/peers/bravo/status")
    refused(answer, 502, 2006, shown)
    assert answer.body["error"]["details"]["pinned"] in answer.body["error"]["message"]
    assert "pair" in answer.body["error"]["details"]["hint"]
    assert heard == [b""] or not any(heard)


def serve_tls(port: int, impostor: Node) -> list[bytes]:
    """Take connections on ``port`` with the impostor's certificate; what they send is put into the list."""
    heard: list[bytes] = []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(impostor.layout.tls_certificate, impostor.layout.tls_key)
    listening = socket.create_server(("127.0.0.1", port))

    def serve() -> None:
        while True:  # the prober comes, too
            try:
                with context.wrap_socket(listening.accept()[0], server_side=True) as sock:
                    heard.append(sock.recv(65536))
            except OSError:
                continue

    threading.Thread(target=serve, daemon=True).start()
    return heard


def test_a_pinned_peer_is_never_asked_in_plain(secure: tuple[Node, Node]) -> None:
    """b is replaced by something that speaks plain HTTP only: it never sees the key."""
    a, b = secure
    b.stop()
    heard: list[bytes] = []
    listening = socket.create_server(("127.0.0.1", b.port))

    def serve() -> None:
        with suppress(OSError):
            while True:  # the prober comes, too
                with listening.accept()[0] as sock, suppress(ConnectionError):
                    heard.append(sock.recv(65536))
                    sock.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")

    threading.Thread(target=serve, daemon=True).start()
    answer = a.ask("GET", "/peers/bravo/status")
    refused(answer, 502, 2003)
    refused(a.ask("GET", "/peers/bravo/status", headers={"x-loopsy-peer-key": "5e" * 32}), 502, 2003)
    assert heard
    assert all(data[:1] == b"\x16" for data in heard)
    listening.close()


def test_scopes_take_effect_at_once_and_cut_what_they_no_longer_allow(secure: tuple[Node, Node]) -> None:
    a, b = secure
    stream = Stream(a, "/peers/bravo/execute/stream", {"command": "sh", "args": ["-c", "echo hi; exec sleep 300"]})
    assert next(stream.frames())[1] == b"hi\n"
    answer = b.ask("PUT", "/trust/alfa/scopes", {"scopes": ["context"]})
    assert answer.body["scopes"] == ["context"]
    assert stream.ending() is None
    refused(a.ask("POST", "/peers/bravo/execute", {"command": "true"}), 403, 1002, "execute")
    assert a.ask("GET", "/peers/bravo/context").status == 200
    refused(b.ask("PUT", "/trust/alfa/scopes", {"scopes": ["all"]}), 400, 9003, "scopes")


def test_a_revoked_peer_is_out_at_once_and_its_streams_are_cut(secure: tuple[Node, Node], tmp_path: Path) -> None:
    a, b = secure
    marker = tmp_path / "pid"
    script = f"echo $$ > {marker}; echo hi; exec sleep 300"
    stream = Stream(a, "/peers/bravo/execute/stream", {"command": "sh", "args": ["-c", script]})
    assert next(stream.frames())[1] == b"hi\n"
    assert b.ask("POST", "/trust/alfa/revoke").body == {"success": True, "name": "alfa"}
    assert stream.ending() is None
    until(lambda: not alive(marker))
    refused(a.ask("GET", "/peers/bravo/status"), 403, 1002)
    text = b.layout.config.read_text()
    assert "alfa" not in text.partition("discovery")[0]
    b.stop()
    b.start()
    refused(a.ask("GET", "/peers/bravo/status"), 403, 1002)


def keys(node: Node, other: str) -> tuple[str, str]:
    auth = configfile.load(node.layout.config).config.auth
    return auth.peer_keys[other], auth.allowed_keys[other]


def test_new_keys_are_made_over_the_link_and_the_old_ones_open_nothing(secure: tuple[Node, Node]) -> None:
    a, b = secure
    old_ours, old_theirs = keys(a, "bravo")
    assert a.ask("POST", "/trust/bravo/rotate").body == {"success": True, "name": "bravo", "confirmed": True}
    assert b.ask("GET", "/peers/alfa/status").status == 200, "confirmed: the other side uses them too"
    assert keys(b, "alfa") == keys(a, "bravo")[::-1]
    assert not {old_ours, old_theirs} & {*keys(a, "bravo"), *keys(b, "alfa")}
    assert a.ask("GET", "/peers/bravo/status").status == 200
    assert b.ask("GET", "/peers/alfa/status").status == 200
    refused(b.ask("GET", "/status", key=old_ours), 403, 1002)
    refused(a.ask("GET", "/status", key=old_theirs), 403, 1002)


def test_new_keys_that_the_other_side_cannot_store_are_not_called_confirmed(secure: tuple[Node, Node]) -> None:
    a, b = secure
    before = b.layout.config.read_text()
    b.layout.config.write_text("{")
    assert a.ask("POST", "/trust/bravo/rotate").body == {"success": True, "name": "bravo", "confirmed": False}
    b.layout.config.write_text(before)
    assert a.ask("GET", "/peers/bravo/status").status == 200, "its new key is taken, and now it can be stored"
    until(lambda: keys(b, "alfa") == keys(a, "bravo")[::-1])
    until(lambda: b.ask("GET", "/peers/alfa/status").status == 200)


def test_several_rotations_at_once_leave_keys_that_work(secure: tuple[Node, Node]) -> None:
    a, b = secure
    for _ in range(5):
        for node, peer in ((a, "bravo"), (b, "alfa")):
            assert node.ask("POST", f"/trust/{peer}/rotate").status == 200
    assert a.ask("GET", "/peers/bravo/status").status == 200
    assert b.ask("GET", "/peers/alfa/status").status == 200


@pytest.mark.parametrize("dies", ["alfa", "bravo"])
def test_wherever_a_rotation_is_cut_off_the_two_can_talk_afterwards(secure: tuple[Node, Node], dies: str) -> None:
    """The responder has pending keys, and one of the two is killed before anybody used them."""
    a, b = secure
    ours = keys(a, "bravo")[0]
    half = rotation.public_half(ec.generate_private_key(ec.SECP256R1()))
    assert b.ask("POST", "/trust/rotation", {"public": half}, key=ours).status == 200
    victim = a if dies == "alfa" else b
    victim.kill()
    victim.start()
    assert a.ask("GET", "/peers/bravo/status").status == 200
    assert a.ask("POST", "/trust/bravo/rotate").body["confirmed"] is True
    assert a.ask("GET", "/peers/bravo/status").status == 200
    until(lambda: b.ask("GET", "/peers/alfa/status").status == 200)


def test_a_half_that_is_none_is_refused_and_strangers_make_no_keys(secure: tuple[Node, Node]) -> None:
    a, b = secure
    refused(b.ask("POST", "/trust/rotation", {"public": "AAAA"}, key=keys(a, "bravo")[0]), 400, 9003, "public")
    refused(b.ask("POST", "/trust/rotation", {"public": "AAAA"}), 403, 1002)
    refused(b.ask("POST", "/trust/rotation", {"public": "AAAA"}, key=None), 401, 1001)


def test_a_certificate_near_its_end_is_renewed_and_the_pins_go_with_it(make_node: Callable[..., Node]) -> None:
    a, b = make_node("alfa"), make_node("bravo")
    keyed_pair(a, b, tls={"enabled": True})
    made = certificate.ensure(a.layout, "alfa")
    ending = certificate.Certificate(made.key, certificate._sign(made.key, "alfa", days=30))
    certificate.write(a.layout, ending)
    configfile.change(b.layout.config, ("tls", "pinnedCerts", "alfa"), ending.fingerprint)
    bravo = certificate.ensure(b.layout, "bravo").fingerprint
    configfile.change(a.layout.config, ("tls", "pinnedCerts", "bravo"), bravo)
    b.start()
    a.start()
    until(lambda: "," in configfile.load(b.layout.config).config.tls.pinned_certs["alfa"], "the announcement")
    until(lambda: not a.layout.tls_next.exists(), "the next certificate to be put in use")
    assert b.ask("GET", "/peers/alfa/status").status == 200
    a.stop()
    a.start()
    assert fingerprint(a) not in (ending.fingerprint, bravo)
    assert b.ask("GET", "/peers/alfa/status").status == 200
    assert b.ask("GET", "/peers").body["peers"][0]["pin"].endswith(fingerprint(a))
    refused(b.ask("POST", "/trust/certificate", {"fingerprint": "xyz"}, key=keys(a, "bravo")[0]), 400, 9003, "hex")


def test_a_name_that_an_attacker_points_here_is_refused(make_node: Callable[..., Node]) -> None:
    node = make_node().start()
    for host in ("evil.example", "evil.example:80", "127.0.0.1.evil.example", "localhost.evil.example", "alfa.evil"):
        refused(node.ask("GET", "/health", headers={"host": host}), 421, 9003, host.partition(":")[0])
        refused(node.ask("POST", "/execute", {"command": "true"}, headers={"host": host}), 421, 9003)
    for host in ("127.0.0.1", "[::1]:80", "localhost:1", "ALFA", "alfa.local:19532", "192.0.2.7"):
        assert node.ask("GET", "/health", headers={"host": host}).status == 200


def test_a_page_of_another_site_gets_nothing(make_node: Callable[..., Node]) -> None:
    """Even one that has found out the key; a page of our own, and programs, are served."""
    node = make_node().start()
    own = f"127.0.0.1:{node.port}"
    for origin in ("http://evil.example", "null", f"http://127.0.0.1:{node.port + 1}", "file://", "http://127.0.0.1"):
        refused(node.ask("POST", "/execute", {"command": "true"}, headers={"origin": origin}), 403, 1002, "site")
        refused(node.ask("GET", "/health", key=None, headers={"origin": origin}), 403, 1002)
    refused(node.ask("GET", "/health", headers={"sec-fetch-site": "cross-site"}), 403, 1002)
    assert node.ask("GET", "/health", headers={"origin": f"http://{own}", "host": own}).status == 200
    assert node.ask("GET", "/health", headers={"sec-fetch-site": "same-origin"}).status == 200
    assert "default-src 'none'" in node.ask("GET", "/health").headers["content-security-policy"]


def test_what_is_neither_is_answered_as_bad_http(make_node: Any) -> None:
    node = make_node(tls={"enabled": True}).start()
    assert raw(node, b"\x00\x01\x02\r\n\r\n").startswith(b"HTTP/1.1 4")
    assert node.ask("GET", "/health").status == 200
