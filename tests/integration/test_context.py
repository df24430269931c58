"""The context store over HTTP, and what survives a crash."""

from __future__ import annotations

import http.client
import json
import threading
import time
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loopsy.testing.nodes import Node
from tests.integration.conftest import PATIENCE_S, until
from tests.integration.test_rest import refused


def test_an_entry_is_set_read_listed_and_deleted(node: Node) -> None:
    put = node.ask("PUT", "/context/greeting", {"value": "hello", "ttl": 100})
    assert put.status == 200
    assert put.body["expiresAt"] == put.body["updatedAt"] + 100_000
    assert node.ask("GET", "/context/greeting").body == put.body
    assert put.body in node.ask("GET", "/context?prefix=gree").body["entries"]
    assert node.ask("GET", "/context?prefix=xx").body == {"entries": []}
    assert node.ask("DELETE", "/context/greeting").body == {"success": True, "key": "greeting"}
    refused(node.ask("DELETE", "/context/greeting"), 404, 5001)
    refused(node.ask("GET", "/context/greeting"), 404, 5001)


def test_an_overwritten_entry_keeps_its_creation_time_and_an_empty_string_is_a_value(node: Node) -> None:
    first = node.ask("PUT", "/context/twice", {"value": "1"}).body
    time.sleep(0.005)  # times are told in milliseconds
    second = node.ask("PUT", "/context/twice", {"value": ""}).body
    assert second["createdAt"] == first["createdAt"] < second["updatedAt"]
    assert node.ask("GET", "/context/twice").body["value"] == ""


def test_an_expired_entry_is_not_there(node: Node) -> None:
    node.ask("PUT", "/context/brief", {"value": "x", "ttl": 0.2})
    until(lambda: node.ask("GET", "/context/brief").status == 404)
    assert node.ask("GET", "/context?prefix=brief").body == {"entries": []}


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(key=st.text(min_size=1, max_size=60).filter(str.isprintable), value=st.text(max_size=200))
def test_any_printable_key_and_any_text_come_back(node: Node, key: str, value: str) -> None:
    path = f"/context/{quote(key, safe='').replace('.', '%2E')}"
    assert node.ask("PUT", path, {"value": value}).body["key"] == key
    assert node.ask("GET", path).body["value"] == value
    assert node.ask("DELETE", path).status == 200


@pytest.mark.parametrize("key", ["%00", "%0A", "%FF", "%ED%A0%80", "x" * 257])
def test_what_is_no_key_is_refused(node: Node, key: str) -> None:
    refused(node.ask("PUT", f"/context/{key}", {"value": "v"}), 400, 9003)


def test_limits(make_node: Any) -> None:
    node = make_node(context={"maxEntries": 3, "maxValueBytes": 1000}).start()
    refused(node.ask("PUT", "/context/big", {"value": "ä" * 501}), 413, 5002)
    assert node.ask("PUT", "/context/fits", {"value": "ä" * 500}).status == 200
    assert node.ask("PUT", "/context/b", {"value": ""}).status == 200
    assert node.ask("PUT", "/context/c", {"value": ""}).status == 200
    refused(node.ask("PUT", "/context/d", {"value": ""}), 409, 5003)
    assert node.ask("PUT", "/context/c", {"value": "again"}).status == 200
    assert node.ask("PUT", "/context/b", {"value": "", "ttl": 0.3}).status == 200
    until(lambda: node.ask("PUT", "/context/d", {"value": ""}).status == 200, "room after an expiry")


def test_a_value_of_a_mebibyte_with_every_byte_escaped(node: Node) -> None:
    value = '"\\\n' * (1024 * 1024 // 3)
    assert node.ask("PUT", "/context/escaped", {"value": value}).status == 200
    assert node.ask("GET", "/context/escaped").body["value"] == value


def test_every_acknowledged_value_survives_kill_9(make_node: Any) -> None:
    """5,000 PUTs from 8 clients, and the daemon killed amidst them; five times over."""
    node = make_node(context={"maxEntries": 1_000_000})
    acknowledged: dict[str, str] = {}
    for round_number in range(5):
        node.start()
        kept = {e["key"]: e["value"] for e in node.ask("GET", "/context").body["entries"]}
        assert acknowledged.items() <= kept.items()
        done = put_from_eight(node, round_number, 5000, kill_after=400 + 700 * round_number)
        assert len(done) >= 400
        acknowledged |= done
    node.start()
    kept = {e["key"]: e["value"] for e in node.ask("GET", "/context").body["entries"]}
    assert acknowledged.items() <= kept.items()


def put_from_eight(node: Node, round_number: int, total: int, kill_after: int) -> dict[str, str]:
    """Eight clients PUT until the daemon is gone; returns what was acknowledged."""
    acknowledged: dict[str, str] = {}
    enough = threading.Event()

    def client(number: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", node.port, timeout=PATIENCE_S)
        headers = {"authorization": f"Bearer {node.key}", "content-type": "application/json"}
        try:
            for n in range(total // 8):
                key, value = f"r{round_number}-c{number}-{n}", f"{round_number}.{number}.{n}"
                connection.request("PUT", f"/api/v1/context/{key}", json.dumps({"value": value}), headers)
                response = connection.getresponse()
                response.read()
                if response.status == 200:
                    acknowledged[key] = value
                if len(acknowledged) >= kill_after:
                    enough.set()
        except (OSError, http.client.HTTPException):
            pass

    threads = [threading.Thread(target=client, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    assert enough.wait(5 * PATIENCE_S)
    node.kill()
    for thread in threads:
        thread.join(2 * PATIENCE_S)
    return dict(acknowledged)
