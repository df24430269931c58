"""The gateway: every area of another machine through one's own daemon, streamed both ways."""

from __future__ import annotations

import http.client
import json
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from loopsy.testing.nodes import Node, keyed_pair
from tests.integration.conftest import until
from tests.integration.streams import Stream
from tests.integration.test_execution import STUBBORN, alive, both_started
from tests.integration.test_rest import refused

Pair = tuple[Node, Node]


def test_each_area_answers_through_it(pair: Pair) -> None:
    a, b = pair
    assert a.ask("GET", "/peers/bravo/status").body["nodeId"] == b.ask("GET", "/status").body["nodeId"]
    assert a.ask("POST", "/peers/bravo/execute", {"command": "echo", "args": ["hi"]}).body["stdout"] == "hi\n"
    put = a.ask("PUT", "/peers/bravo/context/a%2Fb%20ä".replace("ä", "%C3%A4"), {"value": "v"})
    assert put.body["key"] == "a/b ä"
    assert b.ask("GET", "/context/a%2Fb%20%C3%A4").body["fromNodeId"] == a.ask("GET", "/health").body["nodeId"]
    assert len(a.ask("GET", "/peers/bravo/context?prefix=a%2F").body["entries"]) == 1
    assert a.ask("DELETE", "/peers/bravo/context/a%2Fb%20%C3%A4").status == 200


def test_the_peers_errors_come_through_as_they_are(pair: Pair) -> None:
    a, _ = pair
    refused(a.ask("GET", "/peers/bravo/context/none"), 404, 5001, "none")
    refused(a.ask("POST", "/peers/bravo/execute", {"command": "rm"}), 403, 3001)
    refused(a.ask("POST", "/peers/bravo/execute", {"command": 5}), 400, 9003, "command")
    refused(a.ask("POST", "/peers/bravo/execute", b"{"), 400, 9003)
    refused(a.ask("GET", "/peers/bravo/nothing"), 404, 9003)
    refused(a.ask("POST", "/peers/bravo/reload"), 403, 1002)


def test_names_ids_prefixes_and_addresses_mean_the_peer(pair: Pair) -> None:
    a, b = pair
    node_id = b.ask("GET", "/health").body["nodeId"]
    until(lambda: a.ask("GET", "/peers").body["peers"][0]["nodeId"] == node_id, "the real id to be learnt")
    for word in ("bravo", node_id, node_id[:8], f"127.0.0.1:{b.port}"):
        assert a.ask("GET", f"/peers/{word}/identity").body["nodeId"] == node_id
    answer = a.ask("GET", "/peers/brvo/identity")
    refused(answer, 404, 2001, "brvo")
    assert answer.body["error"]["details"]["near"] == ["bravo"]


def test_it_does_not_lead_on_to_a_third_machine(pair: Pair) -> None:
    a, _ = pair
    refused(a.ask("GET", "/peers/bravo/peers/alfa/status"), 403, 1002)
    refused(a.ask("GET", "/peers/bravo/peers%2Falfa%2Fstatus"), 404, 9003)


def test_a_stream_passes_byte_for_byte_with_its_job_id(pair: Pair) -> None:
    a, _ = pair
    script = "import os;[os.write(1,bytes(range(256))*256) for _ in range(100)];os.write(2,b'\\xfe')"
    stream = Stream(a, "/peers/bravo/execute/stream", {"command": "python3", "args": ["-c", script]})
    assert stream.job
    out, err, end = stream.rest()
    assert (out, err, end["exitCode"]) == (bytes(range(256)) * 256 * 100, b"\xfe", 0)


@pytest.mark.parametrize("way", ["cancel", "disconnect"])
def test_ending_it_here_ends_it_there(pair: Pair, tmp_path: Path, way: str) -> None:
    a, b = pair
    pids = tmp_path / "pids"
    stream = Stream(a, "/peers/bravo/execute/stream", {"command": "sh", "args": ["-c", STUBBORN, str(pids)]})
    until(lambda: both_started(pids))
    if way == "cancel":
        assert a.ask("DELETE", f"/peers/bravo/execute/{stream.job}").status == 200
        assert stream.rest()[2]["reason"] == "cancelled"
    else:
        stream.close()
    until(lambda: not alive(pids))
    until(lambda: b.ask("GET", "/execute/jobs").body == {"jobs": []})


def test_leaving_before_the_answer_ends_a_plain_execute_there(pair: Pair, tmp_path: Path) -> None:
    a, b = pair
    marker = tmp_path / "pid"
    script = f"echo $$ > {marker}; exec sleep 300"
    connection = http.client.HTTPConnection("127.0.0.1", a.port)
    body = json.dumps({"command": "sh", "args": ["-c", script]})
    headers = {"authorization": f"Bearer {a.key}", "content-type": "application/json"}
    connection.request("POST", "/api/v1/peers/bravo/execute", body, headers)
    until(lambda: marker.exists() and marker.read_text().strip())
    connection.close()
    until(lambda: not alive(marker))
    until(lambda: b.ask("GET", "/execute/jobs").body == {"jobs": []})


def test_memory_stays_flat_on_both_sides_with_a_reader_that_does_not_read(pair: Pair) -> None:
    a, _ = pair
    processes = [psutil.Process(node.process.pid) for node in pair]
    before = [process.memory_info().rss for process in processes]
    request = {"command": "sh", "args": ["-c", "yes | head -c 100000000"]}
    stream = Stream(a, "/peers/bravo/execute/stream", request)
    time.sleep(1.0)  # an unread stream: whatever is going to pile up piles up now
    for process, start in zip(processes, before, strict=True):
        assert process.memory_info().rss - start < 20_000_000
    out, _, end = stream.rest()
    assert (len(out), end["exitCode"]) == (100_000_000, 0)
    for process, start in zip(processes, before, strict=True):
        assert process.memory_info().rss - start < 20_000_000


def test_a_body_that_is_not_json_streams_on(pair: Pair) -> None:
    """No area takes such a body yet: the peer refuses it early, and that refusal comes back."""
    a, _ = pair
    answer = a.ask(
        "POST", "/peers/bravo/execute", b"x" * 20_000_000, headers={"content-type": "application/octet-stream"}
    )
    refused(answer, 415, 9003)


def test_a_peer_that_goes_is_told_and_one_that_returns_is_seen(make_node: Any) -> None:
    a, b = make_node("alfa"), make_node("bravo")
    keyed_pair(a, b)
    a.start()
    b.start()
    assert a.ask("GET", "/peers/bravo/health").status == 200
    b.kill()
    refused(a.ask("GET", "/peers/bravo/status"), 502, 2003, "bravo")
    b.start()
    assert a.ask("GET", "/peers/bravo/status").status == 200
    until(lambda: a.ask("GET", "/peers").body["peers"][0]["status"] == "online")


def test_a_peer_killed_in_mid_stream_is_a_cut_not_an_end(make_node: Any) -> None:
    a, b = make_node("alfa"), make_node("bravo")
    keyed_pair(a, b)
    a.start()
    b.start()
    stream = Stream(a, "/peers/bravo/execute/stream", {"command": "sh", "args": ["-c", "echo hi; exec sleep 20"]})
    pieces = stream.frames()
    assert next(pieces)[1] == b"hi\n"
    b.kill()
    assert stream.ending() is None


def test_without_a_key_it_says_where_to_put_one(make_node: Any) -> None:
    a, b = make_node("alfa"), make_node("bravo")
    a.start()
    b.start()
    a.ask("POST", "/peers", {"address": "127.0.0.1", "port": b.port, "hostname": "bravo"})
    answer = a.ask("GET", "/peers/bravo/status")
    refused(answer, 401, 1001, "bravo")
    assert "loopsy pair" in answer.body["error"]["details"]["hint"]
    assert a.ask("GET", "/peers/bravo/status", headers={"x-loopsy-peer-key": b.key}).status == 200
    direct = a.ask("GET", f"/peers/127.0.0.1:{b.port}/status", headers={"x-loopsy-peer-key": b.key})
    assert direct.status == 200


def test_one_audit_line_on_each_machine(pair: Pair) -> None:
    a, b = pair
    request = {"command": "echo", "args": ["audited"]}
    a.ask("POST", "/peers/bravo/execute", request, headers={"x-request-id": "trace-me"})

    def lines(node: Node) -> list[Any]:
        records = [json.loads(line) for line in node.layout.audit.read_text().splitlines()]
        return [record for record in records if record["request"] == "trace-me"]

    (here,), (there,) = until(lambda: lines(a)), until(lambda: lines(b))
    assert (here["who"], there["who"]) == ("local", "alfa")
    assert here["what"]["command"] == there["what"]["command"] == "echo audited"
    assert here["what"]["peer"] == "bravo"
