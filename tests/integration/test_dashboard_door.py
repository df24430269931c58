"""The door of the dashboard: who leaves is out, with all that the browser still had open."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
from collections.abc import Callable

from loopsy.store import configfile
from loopsy.testing.nodes import Node
from tests.integration.conftest import PATIENCE_S


def enter(node: Node, token: str) -> tuple[int, str]:
    """Status, and the cookie."""
    connection = http.client.HTTPConnection("127.0.0.1", node.port, timeout=PATIENCE_S)
    headers = {"content-type": "application/json", "origin": f"http://127.0.0.1:{node.port}"}
    connection.request("POST", "/api/v1/dashboard/session", json.dumps({"token": token}), headers)
    answer = connection.getresponse()
    connection.close()
    return answer.status, (answer.getheader("set-cookie") or "").partition(";")[0]


def launched(node: Node) -> str:
    return str(node.ask("POST", "/dashboard/launch").body["url"]).partition("#")[2]


def streaming(node: Node, cookie: str) -> socket.socket:
    """An open stream of a page's."""
    stream = socket.create_connection(("127.0.0.1", node.port), timeout=PATIENCE_S)
    host = f"127.0.0.1:{node.port}"
    head = f"GET /api/v1/events HTTP/1.1\r\nHost: {host}\r\nCookie: {cookie}\r\nSec-Fetch-Site: same-origin\r\n\r\n"
    stream.sendall(head.encode())
    reads(stream, b"hello")
    return stream


def reads(stream: socket.socket, words: bytes) -> None:
    """On until they have come, in however many pieces."""
    seen = b""
    while words not in seen:
        piece = stream.recv(65536)
        assert piece, f"it ended without {words!r}: {seen!r}"
        seen += piece


def ends(stream: socket.socket) -> bool:
    try:
        while stream.recv(65536):
            pass
    except ConnectionResetError:
        pass
    return True


def test_who_leaves_is_out_with_all_streams(make_node: Callable[..., Node]) -> None:
    node = make_node().start()
    (_, first), (_, second) = enter(node, launched(node)), enter(node, launched(node))
    leaving, staying = streaming(node, first), streaming(node, second)
    page = {"cookie": first, "origin": f"http://127.0.0.1:{node.port}"}
    assert node.ask("DELETE", "/dashboard/session", key=None, headers=page).status == 200
    assert ends(leaving)
    assert node.ask("POST", "/terminals", {"command": "true"}).status == 201
    reads(staying, b"terminal.opened")


def test_a_new_own_key_ends_launches_too(make_node: Callable[..., Node]) -> None:
    """Whoever had the old one could have made some."""
    node = make_node().start()
    token, (status, cookie) = launched(node), enter(node, launched(node))
    assert status == 200
    stream = streaming(node, cookie)
    configfile.change_all(node.layout.config, [(("auth", "apiKey"), "n" * 64)])
    with contextlib.suppress(ConnectionResetError, http.client.RemoteDisconnected):
        node.ask("POST", "/reload")  # (who asks has the old key)
    assert ends(stream)
    assert enter(node, token) == (403, "")
