"""What is not HTTP, or wants too much of it: answered in the one shape or dropped, the daemon as healthy as before."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loopsy.testing.nodes import Node
from loopsy.web.site import HEAD_S
from tests.integration.conftest import PATIENCE_S, until


def raw(node: Node, data: bytes, limit: int = 1 << 20) -> bytes:
    """Send bytes, read what comes back until the end or the time-out."""
    with socket.create_connection(("127.0.0.1", node.port), timeout=PATIENCE_S) as sock:
        answer = b""
        with suppress(OSError):  # refused in mid-sentence: what was answered before that counts
            sock.sendall(data)
        with suppress(OSError):
            while len(answer) < limit and (piece := sock.recv(65536)):
                answer += piece
        return answer


def error_in(answer: bytes) -> dict[str, Any]:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"application/json" in head
    return json.loads(body)["error"]


@pytest.mark.parametrize(
    "data",
    [
        b"hello\r\n\r\n",
        b"GET / HTTP/9.9.9\r\nbad header\r\n\r\n",
        b"GET /api/v1/health HTTP/1.1\r\nX: " + b"x" * 1_000_000 + b"\r\n\r\n",
        b"GET /api/v1/health HTTP/1.1\r\n" + b"X: y\r\n" * 2000 + b"\r\n",
        b"POST /api/v1/execute HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
        b"POST /api/v1/execute HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET /api/v1/health HTTP/1.1\r\nA: b\0c\r\n\r\n",
    ],
)
def test_what_is_not_http_is_told_so(node: Node, data: bytes) -> None:
    answer = raw(node, data)
    assert answer.startswith(b"HTTP/1.1 4")
    assert error_in(answer)["code"] in (9003, 1001)
    assert node.ask("GET", "/health").status == 200


def test_a_chunked_body_without_end_is_stopped_at_the_limit(node: Node) -> None:
    head = (
        f"POST /api/v1/execute HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {node.key}\r\n"
        "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    ).encode()
    chunk = b"10000\r\n" + b" " * 65536 + b"\r\n"
    answer = raw(node, head + chunk * 100)
    assert b" 413 " in answer.split(b"\r\n")[0]
    assert error_in(answer)["code"] == 9003


def test_a_refused_upload_gets_its_answer_before_its_end(node: Node) -> None:
    head = b"POST /api/v1/execute HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000000\r\n\r\n"
    with socket.create_connection(("127.0.0.1", node.port), timeout=PATIENCE_S) as sock:
        sock.sendall(head + b"x" * 1000)
        assert b" 401 " in sock.recv(65536)


def test_a_connection_goes_on_after_a_refused_small_body(node: Node) -> None:
    bad = b"POST /api/v1/execute HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello"
    good = b"GET /api/v1/health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    answer = raw(node, bad + good)
    assert answer.count(b"HTTP/1.1 ") == 2
    assert b"HTTP/1.1 200" in answer


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    method=st.sampled_from(["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD", "X"]),
    path=st.sampled_from(
        ["execute", "execute/stream", "execute/jobs", "context", "context/k", "peers", "peers/handshake", "peers/x/y"]
    )
    | st.text(st.characters(codec="ascii", exclude_characters="\r\n \t#"), max_size=30),
    body=st.one_of(
        st.binary(max_size=80),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
            lambda inner: st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["args", "cwd", "env", "timeout", "value", "ttl", "address", "port", "nodeId", "x"]),
                inner,
                max_size=4,
            ),
            max_leaves=6,
        ).map(lambda value: json.dumps(value).encode()),
    ),
    query=st.text(st.characters(codec="ascii", exclude_characters="\r\n \t#"), max_size=12),
)
def test_no_request_makes_an_internal_error(node: Node, method: str, path: str, body: bytes, query: str) -> None:
    head = (
        f"{method} /api/v1/{path}?{query} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {node.key}\r\n"
        f"Connection: close\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    answer = raw(node, head.encode("ascii", "ignore") + body)
    assert answer.startswith(b"HTTP/1.1 ")
    assert b"HTTP/1.1 500" not in answer
    if answer[9:10] == b"4" and method != "HEAD":
        assert {"code", "message"} <= set(error_in(answer))


def test_the_log_holds_no_traceback_after_all_that(node: Node) -> None:
    assert "Traceback" not in node.log
    assert node.ask("GET", "/health").status == 200


def test_heads_and_handshakes_that_dribble_are_cut_by_time(make_node: Callable[..., Node]) -> None:
    """A byte each quarter of a second: a fresh connection, a kept one, and one that never ends its TLS handshake. All
    are cut after about 15 s, while others are served."""
    node = make_node(tls={"enabled": True}).start()
    whole = b"GET /api/v1/health HTTP/1.1\r\nHost: localhost\r\n\r\n"
    dribbles = {"fresh": b"GET /api/v1/he", "kept": b"GET /api/v1/he", "tls": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc"}
    started, took, answers = time.monotonic(), {}, {}
    held = {name: socket.create_connection(("127.0.0.1", node.port), timeout=PATIENCE_S) for name in dribbles}
    held["kept"].sendall(whole)
    assert held["kept"].recv(65536).startswith(b"HTTP/1.1 200")
    left = {name: iter(said + b"x" * 10_000) for name, said in dribbles.items()}
    while len(took) < len(held) and time.monotonic() - started < PATIENCE_S:
        for name in held.keys() - took.keys():
            with suppress(OSError):  # cut already: what was answered before that is still there
                held[name].sendall(bytes([next(left[name])]))
            try:
                held[name].settimeout(0.01)
                answers[name] = held[name].recv(65536)
            except TimeoutError:
                continue
            except OSError:
                answers.setdefault(name, b"")
            took[name] = time.monotonic() - started
        assert node.ask("GET", "/health").status == 200
        time.sleep(0.25)
    for sock in held.values():
        sock.close()
    assert took.keys() == held.keys()
    assert all(HEAD_S - 1 < seconds < HEAD_S + 60 for seconds in took.values()), took
    assert all(answers[name].startswith(b"HTTP/1.1 408 ") for name in ("fresh", "kept"))


def test_one_address_can_not_use_up_the_connections(make_node: Callable[..., Node]) -> None:
    """600 connections from one address: those beyond the bound are closed, and another address is served."""
    node = make_node().start()
    here, other_end = ("127.0.0.1", node.port), ("127.0.0.2", 0)
    held = [socket.create_connection(here, timeout=PATIENCE_S) for _ in range(600)]
    try:
        with socket.create_connection(here, timeout=PATIENCE_S, source_address=other_end) as other:
            other.sendall(b"GET /api/v1/health HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert other.recv(65536).startswith(b"HTTP/1.1 200")
        # who came before that one was let in or not by now
        until(lambda: sum(map(is_closed, held)) >= 80, "the end of some")
        assert sum(map(is_closed, held)) <= 100  # 600 less the 512 that are let in
    finally:
        for sock in held:
            sock.close()
    until(lambda: node.ask("GET", "/health").status == 200)


def is_closed(sock: socket.socket) -> bool:
    sock.setblocking(False)
    try:
        return sock.recv(1) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True
