"""The wire as existing scripts speak it: answers, statuses, and the one shape of errors."""

from __future__ import annotations

from typing import Any

import pytest

from loopsy.testing.nodes import Answer, Node


def refused(answer: Answer, status: int, code: int, words: str = "") -> None:
    """The answer is an error in the one shape, and its text is of use."""
    assert answer.status == status, answer
    assert answer.headers["content-type"] == "application/json"
    assert set(answer.body) == {"error"}
    assert answer.body["error"]["code"] == code
    assert words in answer.body["error"]["message"]


def test_health_needs_no_key(node: Node) -> None:
    answer = node.ask("GET", "/health", key=None)
    assert answer.status == 200
    assert set(answer.body) == {"status", "nodeId", "uptime", "version"}
    assert (answer.body["status"], answer.body["version"]) == ("ok", "1.0.0")


def test_identity_and_status_have_the_fields_of_the_wire(node: Node) -> None:
    identity, status = node.ask("GET", "/identity").body, node.ask("GET", "/status").body
    assert {"nodeId", "hostname", "platform", "version", "port", "capabilities"} <= set(identity)
    assert {"total", "online", "offline"} == set(status["peers"])
    assert {"active", "total"} == set(status["jobs"])
    assert "entries" in status["context"]
    assert identity["nodeId"] == status["nodeId"] == node.ask("GET", "/health").body["nodeId"]


def test_the_node_id_is_the_same_after_a_restart(make_node: Any) -> None:
    node = make_node().start()
    before = node.ask("GET", "/health").body["nodeId"]
    node.stop()
    assert node.start().ask("GET", "/health").body["nodeId"] == before


def test_without_a_key_and_with_a_wrong_one(node: Node) -> None:
    refused(node.ask("GET", "/status", key=None), 401, 1001)
    refused(node.ask("GET", "/status", key="f" * 64), 403, 1002)
    refused(node.ask("GET", "/status", key=None, headers={"authorization": "Basic eDp5"}), 401, 1001)
    refused(node.ask("GET", "/status", key=None, headers={"authorization": "Bearer "}), 401, 1001)


def test_a_stranger_learns_nothing_of_what_there_is(node: Node) -> None:
    for method, path in (("GET", "/nothing"), ("PATCH", "/status"), ("GET", "/context/k"), ("DELETE", "/peers/x")):
        refused(node.ask(method, path, key=None), 401, 1001)


def test_framework_errors_have_the_one_shape(node: Node) -> None:
    refused(node.ask("GET", "/nothing"), 404, 9003)
    answer = node.ask("PATCH", "/execute")
    refused(answer, 405, 9003, "POST")
    assert answer.headers["allow"] == "POST"
    refused(node.ask("POST", "/execute", b"{", headers={}), 400, 9003, "not JSON")
    refused(node.ask("POST", "/execute", b"\xff{}"), 400, 9003, "UTF-8")
    refused(node.ask("POST", "/execute", b"{}", headers={"content-type": "text/plain"}), 415, 9003)
    refused(node.ask("POST", "/execute", b'{"command":"' + b"x" * 3_000_000 + b'"}'), 413, 9003)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({}, "command"),
        ({"command": 5}, "command"),
        ({"command": ""}, "command"),
        ({"command": "a\0b"}, "NUL"),
        ({"command": "ls", "args": "x"}, "args"),
        ({"command": "ls", "args": [1]}, "args"),
        ({"command": "ls", "args": ["\0"]}, "NUL"),
        ({"command": "ls", "env": {"a=b": "c"}}, "env"),
        ({"command": "ls", "env": {"a": 1}}, "env"),
        ({"command": "ls", "timeout": "5"}, "timeout"),
        ({"command": "ls", "timeout": 0}, "timeout"),
        ({"command": "ls", "timeout": -1}, "timeout"),
        ({"command": "ls", "timeout": True}, "timeout"),
        ({"command": "ls", "cwd": 5}, "cwd"),
        ({"command": "ls", "encoding": "latin"}, "encoding"),
        ({"command": "ls", "detach": "yes"}, "detach"),
        ([], "object"),
        ("ls", "object"),
        (None, "object"),
    ],
)
def test_bad_fields_are_named(node: Node, body: Any, words: str) -> None:
    sent = b"null" if body is None else body
    refused(node.ask("POST", "/execute", sent), 400, 9003, words)


@pytest.mark.parametrize(
    ("ttl", "status"), [(0, 400), (-1, 400), (1e300, 400), ("x", 400), (True, 400), (0.5, 200), (60, 200)]
)
def test_ttl(node: Node, ttl: Any, status: int) -> None:
    answer = node.ask("PUT", "/context/ttl", {"value": "v", "ttl": ttl})
    assert answer.status == status, answer
    if status == 400:
        refused(answer, 400, 9003, "ttl")


def test_unknown_fields_are_ignored(node: Node) -> None:
    assert node.ask("PUT", "/context/k", {"value": "v", "later": {"x": 1}}).status == 200


def test_the_request_id_is_echoed_unless_it_is_nonsense(node: Node) -> None:
    assert node.ask("GET", "/health", headers={"x-request-id": "abc-1"}).headers["x-request-id"] == "abc-1"
    assert node.ask("GET", "/health", headers={"x-request-id": "x" * 500}).headers["x-request-id"] != "x" * 500


def test_no_header_lets_another_site_in(node: Node) -> None:
    answer = node.ask("GET", "/health", headers={"origin": "http://evil.example"})
    assert not [name for name in answer.headers if name.startswith("access-control")]
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_rates_are_counted_for_each_peer_and_not_for_the_local_user(make_node: Any) -> None:
    key = "c" * 64
    node = make_node(auth={"allowedKeys": {"carl": key}}, rateLimits={"execute": 3, "context": 2}).start()
    statuses = [node.ask("GET", "/context/none", key=key).status for _ in range(4)]
    assert statuses == [404, 404, 429, 429]
    answer = node.ask("GET", "/context/none", key=key)
    refused(answer, 429, 9002, "context")
    assert 1 <= int(answer.headers["retry-after"]) <= 60
    assert node.ask("POST", "/execute", {"command": "true"}, key=key).status == 200
    assert {node.ask("GET", "/context/none").status for _ in range(10)} == {404}


def test_scopes_limit_a_peer(make_node: Any) -> None:
    key = "d" * 64
    node = make_node(auth={"allowedKeys": {"dora": key}, "scopes": {"dora": ["context"]}}).start()
    assert node.ask("GET", "/context", key=key).status == 200
    refused(node.ask("POST", "/execute", {"command": "true"}, key=key), 403, 1002, "execute")
    refused(node.ask("POST", "/reload", key=key), 403, 1002)
    refused(node.ask("GET", "/peers/alfa/status", key=key), 403, 1002)
    refused(node.ask("POST", "/peers", {"address": "127.0.0.1"}, key=key), 403, 1002)


def test_the_description_is_served_and_describes_each_route(node: Node) -> None:
    document = node.ask("GET", "/openapi.json", key=None).body
    assert document["openapi"].startswith("3.1")
    assert {"get", "put", "delete"} <= set(document["paths"]["/api/v1/context/{key}"])
