"""The dashboard's door by hand: tokens, cookies, and who may use them from where."""

from __future__ import annotations

import http.client
import json
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any

import pytest

from loopsy.testing.nodes import Node
from tests.integration.conftest import PATIENCE_S, until

MakeNode = Callable[..., Node]
OURS = {"sec-fetch-site": "same-origin"}


def asked(node: Node, method: str, path: str, body: Any = None, **headers: str) -> http.client.HTTPResponse:
    """One request without a key; the answer, read."""
    connection = http.client.HTTPConnection("127.0.0.1", node.port, timeout=PATIENCE_S)
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    data = None if body is None else json.dumps(body)
    if data is not None:
        sent.setdefault("content-type", "application/json")
    connection.request(method, path, data, sent)
    answer = connection.getresponse()
    answer.text = answer.read()  # type: ignore[attr-defined]
    connection.close()
    return answer


def origin(node: Node) -> str:
    return f"http://127.0.0.1:{node.port}"


def token(node: Node) -> str:
    return str(node.ask("POST", "/dashboard/launch").body["url"].partition("#")[2])


def entered(node: Node) -> str:
    """A cookie, as a browser sends it."""
    answer = asked(node, "POST", "/api/v1/dashboard/session", {"token": token(node)}, origin=origin(node))
    assert answer.status == 200
    return (answer.getheader("set-cookie") or "").partition(";")[0]


@pytest.fixture(scope="module")
def cookie(node: Node) -> str:
    return entered(node)


def test_a_token_works_once_and_only_as_it_is(node: Node) -> None:
    good = token(node)
    for wrong in ("x", good[:-1], good + "x", good.lower(), "ü" * 20):
        answer = asked(node, "POST", "/api/v1/dashboard/session", {"token": wrong}, origin=origin(node))
        assert answer.status == 403
        assert json.loads(answer.text)["error"]["code"] == 1004  # type: ignore[attr-defined]
        assert answer.getheader("set-cookie") is None
    for status in (200, 403, 403):
        answer = asked(node, "POST", "/api/v1/dashboard/session", {"token": good}, origin=origin(node))
        assert answer.status == status


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"origin": "http://evil.example"},
        {"origin": "http://127.0.0.1:1"},
        {"origin": "null"},
        {"sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "same-site"},
        {"sec_fetch_site": "same-origin", "origin": "http://localhost"},
        {"content_type": "text/plain"},
    ],
    ids=str,
)
def test_a_token_is_exchanged_by_our_own_page_only(node: Node, headers: dict[str, str]) -> None:
    good = token(node)
    if "content_type" in headers:
        headers = {**headers, "origin": origin(node)}
    answer = asked(node, "POST", "/api/v1/dashboard/session", {"token": good}, **headers)
    assert answer.status in (403, 415)
    answer = asked(node, "POST", "/api/v1/dashboard/session", {"token": good}, origin=origin(node))
    assert answer.status == 200  # what was refused did not use it up


def test_the_cookie_is_what_it_must_be(node: Node) -> None:
    answer = asked(node, "POST", "/api/v1/dashboard/session", {"token": token(node)}, origin=origin(node))
    name, *parts = (answer.getheader("set-cookie") or "").split("; ")
    assert name.startswith(f"loopsy-{node.port}=")
    assert {part.lower() for part in parts} == {"max-age=43200", "path=/", "httponly", "samesite=strict"}
    value = name.partition("=")[2]
    assert len(value) >= 43
    database = b"".join(path.read_bytes() for path in node.layout.database.parent.glob("loopsy.db*"))
    assert value.encode() not in database  # only its hash is held


GOOD: list[Mapping[str, str]] = [OURS, {"origin": "OWN"}, {"referer": "OWN/dashboard/"}, {"sec-fetch-site": "none"}]
BAD: list[Mapping[str, str]] = [
    {},
    {"sec-fetch-site": "same-site"},
    {"sec-fetch-site": "cross-site"},
    {"origin": "http://evil.example"},
    {"origin": "null"},
    {"referer": "http://evil.example/dashboard/"},
    {"referer": "OWN.evil.example/"},
    {**OURS, "origin": "http://evil.example"},
]


@pytest.mark.parametrize(("headers", "status"), [(h, 200) for h in GOOD] + [(h, 403) for h in BAD], ids=str)
def test_a_cookie_counts_where_our_page_asks(
    node: Node, cookie: str, headers: Mapping[str, str], status: int
) -> None:
    own = {name: value.replace("OWN", origin(node)) for name, value in headers.items()}
    assert asked(node, "GET", "/api/v1/status", cookie=cookie, **own).status == status
    write = asked(node, "PUT", "/api/v1/context/k", {"value": "x"}, cookie=cookie, **own).status
    assert (write == 200) is ("origin" in headers and status == 200)  # without an Origin nothing is changed
    upgrade = {**own, "upgrade": "websocket", "connection": "upgrade", "sec_websocket_version": "13",
               "sec_websocket_key": "x3JJHMbDL1EzLkh9GBhXDw=="}  # fmt: skip
    socket_ = asked(node, "GET", "/api/v1/terminals/none/attach", cookie=cookie, **upgrade).status
    assert (socket_ == 404) is ("origin" in headers and status == 200)  # let in, and there is no such terminal


def test_a_cookie_of_another_value_name_or_number_is_none(node: Node, cookie: str) -> None:
    name, _, value = cookie.partition("=")
    long = f"{name}={'a' * 43}"
    wrong_ones = (f"{name}={value}x", f"{name}=", f"{name}1={value}", f"{cookie}; {cookie}", value, long)
    for wrong in wrong_ones:
        assert asked(node, "GET", "/api/v1/status", cookie=wrong, **OURS).status == 401
    assert asked(node, "GET", "/api/v1/status", cookie=f"a=b; {cookie}; c", **OURS).status == 200


def test_a_key_beside_a_cookie_is_what_counts(node: Node, cookie: str) -> None:
    headers = {"cookie": cookie, "origin": origin(node)}
    assert asked(node, "GET", "/api/v1/status", authorization="Bearer " + "f" * 64, **headers).status == 403


def test_signing_out_ends_it_and_no_other(node: Node, cookie: str) -> None:
    mine = entered(node)
    answer = asked(node, "DELETE", "/api/v1/dashboard/session", cookie=mine, origin=origin(node))
    assert answer.status == 200
    assert "Max-Age=0" in (answer.getheader("set-cookie") or "")
    assert asked(node, "GET", "/api/v1/status", cookie=mine, **OURS).status == 401
    assert asked(node, "GET", "/api/v1/status", cookie=cookie, **OURS).status == 200


def test_twenty_browsers_the_least_used_goes(make_node: MakeNode) -> None:
    node = make_node().start()
    cookies = [entered(node) for _ in range(20)]
    assert asked(node, "GET", "/api/v1/status", cookie=cookies[0], **OURS).status == 200
    entered(node)
    states = [asked(node, "GET", "/api/v1/status", cookie=one, **OURS).status for one in cookies[:3]]
    assert states == [200, 401, 200]


def test_a_new_key_ends_them_and_cuts_what_is_open(make_node: MakeNode) -> None:
    node = make_node().start()
    mine = entered(node)
    connection = http.client.HTTPConnection("127.0.0.1", node.port, timeout=PATIENCE_S)
    connection.request("GET", "/api/v1/events", headers={"cookie": mine, **OURS})
    stream = connection.getresponse()
    assert stream.readline()
    node.run("key", "generate", check=True)
    with suppress(http.client.HTTPException, OSError):
        while stream.readline():
            pass
    assert asked(node, "GET", "/api/v1/status", cookie=mine, **OURS).status == 401
    node.stop()
    node.start()
    assert asked(node, "GET", "/api/v1/status", cookie=mine, **OURS).status == 401


@pytest.fixture
def recorder() -> Iterator[tuple[int, list[bytes]]]:
    """A machine that writes down what it is asked, and answers as one that means harm."""
    heard: list[bytes] = []
    listening = socket.create_server(("127.0.0.1", 0))
    page = b"<script>document.title='owned'</script><form action=/api/v1/execute method=post>"

    def serve() -> None:
        while True:
            try:
                sock = listening.accept()[0]
            except OSError:
                return
            heard.append(sock.recv(65536))
            head = b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\nset-cookie: theirs=1\r\n"
            head += b"access-control-allow-origin: *\r\n"
            policy = b"content-security-policy: script-src *\r\n"
            sock.sendall(head + policy + b"content-length: %d\r\nconnection: close\r\n\r\n" % len(page) + page)
            sock.close()

    threading.Thread(target=serve, daemon=True).start()
    yield listening.getsockname()[1], heard
    listening.close()


def test_a_cookie_never_leaves_this_machine_and_a_peer_s_page_is_no_page(
    make_node: MakeNode, recorder: tuple[int, list[bytes]]
) -> None:
    port, heard = recorder
    node = make_node()
    node.write_config(
        auth={"apiKey": node.key, "peerKeys": {"eve": "e" * 64}},
        discovery={"enabled": False, "manualPeers": [{"address": "127.0.0.1", "port": port, "hostname": "eve"}]},
    )
    node.start()
    mine = entered(node)
    answer = asked(node, "GET", "/api/v1/peers/eve/anything", cookie=mine, **OURS)
    assert until(lambda: any(b"/api/v1/anything" in text for text in heard), "the request")
    assert answer.status == 200
    value = mine.partition("=")[2].encode()
    assert not any(value in text or b"cookie" in text.lower() for text in heard)
    assert answer.getheader("set-cookie") is None
    assert answer.getheader("access-control-allow-origin") is None
    policy = answer.getheader("content-security-policy") or ""
    assert "default-src 'none'" in policy
    assert "sandbox" in policy  # no script, no form, no origin of ours
    assert answer.getheader("x-content-type-options") == "nosniff"


def test_its_files_carry_their_policy_and_hold_no_secret(node: Node) -> None:
    for path in ("/dashboard/", "/dashboard/enter", "/dashboard/app.js", "/dashboard/vendor/xterm.js"):
        answer = asked(node, "GET", path)
        assert answer.status == 200
        policy = answer.getheader("content-security-policy") or ""
        assert "script-src 'self'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe-inline" not in policy.partition("style-src")[0]
        assert answer.getheader("x-content-type-options") == "nosniff"
        assert node.key.encode() not in answer.text  # type: ignore[attr-defined]
        tag = answer.getheader("etag") or ""
        assert asked(node, "GET", path, if_none_match=tag).status == 304
    for path in ("/dashboard/../config.yaml", "/dashboard/%2e%2e/dashboard.py", "/dashboard/x", "/dashboard/views/"):
        assert asked(node, "GET", path).status == 404


def test_a_link_opens_the_page_and_counts_for_nothing_else(node: Node, cookie: str) -> None:
    """From a file, a bookmark, a chat: the page is served, the cookie unseen; an answer of the API is not."""
    opens = {"sec_fetch_site": "cross-site", "sec_fetch_mode": "navigate", "sec_fetch_dest": "document"}
    for site in ("cross-site", "same-site"):
        opens["sec_fetch_site"] = site
        assert asked(node, "GET", "/dashboard/enter", cookie=cookie, **opens).status == 200
        assert asked(node, "GET", "/api/v1/status", cookie=cookie, **opens).status == 403
        assert asked(node, "GET", "/dashboard/", **{**opens, "sec_fetch_dest": "iframe"}).status == 403
        loads = {**opens, "sec_fetch_dest": "script", "sec_fetch_mode": "no-cors"}
        assert asked(node, "GET", "/dashboard/app.js", **loads).status == 403
