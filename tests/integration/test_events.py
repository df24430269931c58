"""``/events`` of a real node: nothing lost, nothing twice, nothing that is another's business."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any

import psutil
import pytest

from loopsy.core.events import HELD, STREAMS
from loopsy.store import configfile
from loopsy.testing.nodes import Node, keyed_pair
from tests.integration.conftest import until
from tests.integration.event_streams import EventStream
from tests.integration.test_rest import refused

Pair = tuple[Node, Node]


def put(node: Node, *keys: str, key: str | None = "own") -> None:
    for name in keys:
        assert node.ask("PUT", f"/context/{name}", {"value": "a secret"}, key=key).status == 200


def changed(stream: EventStream, count: int) -> list[str]:
    """The keys of the next ``count`` changes."""
    return [stream.until("context.changed")["data"]["key"] for _ in range(count)]


def test_a_stream_begins_with_hello_and_tells_what_changes(node: Node) -> None:
    node_id = node.ask("GET", "/health").body["nodeId"]
    with EventStream(node) as stream:
        assert (stream.status, "content-type: text/event-stream" in stream.headers) == (200, True)
        hello = stream.next()
        assert (hello["type"], hello["data"]["nodeId"]) == ("hello", node_id)
        assert stream.last_id is not None
        assert stream.last_id.startswith(f"{hello['data']['epoch']}.")
        put(node, "k1")
        told = stream.next()
        assert (told["type"], told["data"]) == ("context.changed", {"key": "k1", "fromNodeId": node_id})
        assert abs(told["at"] - time.time() * 1000) < 60_000
        node.ask("DELETE", "/context/k1")
        assert stream.next()["data"] == {"key": "k1", "fromNodeId": node_id}
        node.ask("POST", "/execute", {"command": "echo", "args": ["x" * 10_000, "y"]})
        started, ended = stream.next(), stream.next()
        assert (started["type"], ended["type"]) == ("job.started", "job.ended")
        assert started["data"]["args"] == ended["data"]["args"] == ["x" * 4096 + "…"]
        assert (ended["data"]["exitCode"], ended["data"]["jobId"]) == (0, started["data"]["jobId"])


def test_a_signal_and_a_transfer_and_a_pairing_are_told(node: Node, tmp_path: Any) -> None:
    (tmp_path / "file").write_text("x")
    with EventStream(node) as stream:
        node.ask("POST", "/execute", {"command": "sh", "args": ["-c", "kill -9 $$"]})
        ended = stream.until("job.ended")["data"]
        assert (ended["exitCode"], ended["signal"]) == (None, "SIGKILL")
        asked = {"direction": "send", "peer": ".", "sources": [str(tmp_path / "file")], "destination": "copy"}
        node.ask("POST", "/transfers", asked)
        assert stream.next()["type"] == "transfer.started"
        assert stream.until("transfer.ended")["data"]["state"] == "completed"
        code = node.ask("POST", "/pair/start").body["inviteCode"]
        told = stream.until("pairing.changed")["data"]
        assert told["state"] == "inviting"
        assert code not in str(told)
        node.ask("POST", "/pair/confirm", {"accept": False})
        assert stream.until("pairing.changed")["data"]["state"] == "ended"


def test_types_choose(node: Node) -> None:
    with EventStream(node, "/events?types=job.ended,message,%20context.deleted") as stream:
        put(node, "t1")
        node.ask("POST", "/execute", {"command": "true"})
        node.ask("DELETE", "/context/t1")
        assert [stream.next()["type"] for _ in range(3)] == ["hello", "job.ended", "context.deleted"]


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("path", ["/events?types=context", "/peers/bravo/events"])
def test_connections_that_drop_lose_and_repeat_nothing(pair: Pair, path: str, seed: int) -> None:
    chance, (a, b) = random.Random(seed), pair
    there = b if path.startswith("/peers") else a
    keys = [f"drop-{seed}-{number}" for number in range(300)]
    todo, got = list(keys), []
    stream = EventStream(a, path)
    assert stream.next()["type"] == "hello"
    while len(got) < len(keys):
        some = chance.randrange(1, 20)
        put(there, *todo[:some])
        todo = todo[some:]
        if chance.random() < 0.5:
            left = len(keys) - len(todo) - len(got)
            got += changed(stream, chance.randrange(left + 1))
            last_id = stream.last_id
            stream.close()
            put(there, *todo[:some])
            todo = todo[some:]
            stream = EventStream(a, path, last_id=last_id)
        if not todo:
            got += changed(stream, len(keys) - len(got))
    stream.close()
    assert got == keys


def test_what_is_no_longer_held_means_a_reset(make_node: Callable[..., Node]) -> None:
    node = make_node().start()
    with EventStream(node) as stream:
        stream.next()
        put(node, "first")
        stream.next()
        last_id = stream.last_id
    put(node, *(f"k{number % 10}" for number in range(HELD)))
    with EventStream(node, last_id=last_id) as stream:
        assert [stream.next()["data"]["key"] for _ in range(HELD)][-1] == "k9"
    put(node, "one-more")
    with EventStream(node, last_id=last_id) as stream:
        reset = stream.next()
        assert reset["type"] == "reset"
        put(node, "after")
        assert stream.next()["data"]["key"] == "after"
        last_id = stream.last_id
    node.kill()
    node.start()
    with EventStream(node, last_id=last_id) as stream:
        again = stream.next()
        assert (again["type"], again["data"]["epoch"] > reset["data"]["epoch"]) == ("reset", True)


def test_slow_readers_are_cut_and_cost_no_memory(make_node: Callable[..., Node]) -> None:
    node = make_node().start()
    assert node.process is not None
    process = psutil.Process(node.process.pid)
    job = {"command": "true", "args": ["x" * 4000]}
    for _ in range(300):
        node.ask("POST", "/execute", job)
    before = process.memory_info().rss
    slow = [EventStream(node, buffer=4096) for _ in range(20)]
    quick = EventStream(node)
    quick.next()
    rounds = 0
    while process.net_connections() and len(open_streams(process)) > 1:
        assert rounds < 3000, "they are never cut"
        for _ in range(50):
            node.ask("POST", "/execute", job)
        for _ in range(50):
            quick.until("job.ended")
        rounds += 50
    assert process.memory_info().rss - before < 16 * 1024 * 1024
    for stream in slow:
        stream.close()
    put(node, "on")
    assert quick.until("context.changed")["data"]["key"] == "on"
    quick.close()


def open_streams(process: psutil.Process) -> list[Any]:
    """Its connections, beside those that wait to be forgotten."""
    return [c for c in process.net_connections() if c.status == psutil.CONN_ESTABLISHED]


def test_streams_of_one_caller_are_counted(pair: Pair) -> None:
    _, b = pair
    key = peer_key(b, "alfa")
    streams = [EventStream(b, key=key) for _ in range(STREAMS)]
    assert {stream.status for stream in streams} == {200}
    answer = b.ask("GET", "/events", key=key)
    refused(answer, 429, 9002, str(STREAMS))
    assert answer.headers["retry-after"] == "1"
    with EventStream(b) as own:
        assert own.status == 200  # another caller is not touched
    for stream in streams:
        stream.close()

    def one_more() -> bool:
        with EventStream(b, key=key) as stream:
            return stream.status == 200

    until(one_more)


def test_head_ends(node: Node) -> None:
    answer = node.ask("HEAD", "/events")
    assert (answer.status, answer.body) == (200, b"")


def test_nobody_without_a_key(node: Node) -> None:
    refused(node.ask("GET", "/events", key=None), 401, 1001)


def peer_key(node: Node, name: str) -> str:
    """What that peer presents to this node."""
    return configfile.load(node.layout.config).config.auth.allowed_keys[name]


@pytest.fixture
def trusting(make_node: Callable[..., Node]) -> Pair:
    """Two nodes whose trust may be changed."""
    a, b = make_node("alfa"), make_node("bravo")
    keyed_pair(a, b)
    a.start()
    b.start()
    until(lambda: a.ask("GET", "/peers/bravo/health").status == 200)
    return a, b


def test_a_peer_sees_its_own_only(trusting: Pair, tmp_path: Any) -> None:
    a, b = trusting
    (tmp_path / "secret-name").write_text("x")
    with EventStream(a, "/peers/bravo/events") as stream, EventStream(b) as own:
        assert stream.next()["data"]["nodeId"] == b.ask("GET", "/health").body["nodeId"]
        b.ask("POST", "/execute", {"command": "true", "args": ["of-bravo"]})
        b.ask("POST", "/pair/start")
        b.ask("POST", "/peers", {"address": "192.0.2.1", "hostname": "stranger"})
        asked = {"direction": "send", "peer": ".", "sources": [str(tmp_path / "secret-name")], "destination": "copy"}
        b.ask("POST", "/transfers", asked)
        own.until("transfer.ended")
        assert a.ask("POST", "/peers/bravo/execute", {"command": "true", "args": ["of-alfa"]}).status == 200
        put(b, "shared")
        told = [stream.next() for _ in range(3)]
        assert [event["type"] for event in told] == ["job.started", "job.ended", "context.changed"]
        assert told[0]["data"]["args"] == ["of-alfa"]
        assert own.until("context.changed")["data"]["key"] == "shared"


def test_scopes_hold_for_streams_that_are_open(trusting: Pair) -> None:
    a, b = trusting
    with EventStream(a, "/peers/bravo/events") as stream:
        stream.next()
        put(b, "seen")
        assert stream.next()["data"]["key"] == "seen"
        assert b.ask("PUT", "/trust/alfa/scopes", {"scopes": ["execute"]}).status == 200
        put(b, "unseen")
        a.ask("POST", "/peers/bravo/execute", {"command": "true"})
        assert stream.next()["type"] == "job.started"


def test_a_revoked_peer_is_cut_at_once(trusting: Pair) -> None:
    a, b = trusting
    with (
        EventStream(a, "/peers/bravo/events") as through,
        EventStream(b, key=peer_key(b, "alfa")) as direct,
        EventStream(b) as own,
    ):
        assert [stream.next()["type"] for stream in (through, direct, own)] == ["hello"] * 3
        assert b.ask("POST", "/trust/alfa/revoke").body["success"] is True
        put(b, "later")
        assert list(through) == []
        assert list(direct) == []
        while own.until("peer.changed")["data"]["trusted"]:
            pass  # it was seen to be online, perhaps
        assert own.until("context.changed")["data"]["key"] == "later"


def test_peers_that_come_and_go_are_told_once(trusting: Pair) -> None:
    a, _ = trusting
    until(lambda: a.ask("GET", "/peers").body["peers"][0]["status"] == "online")
    with EventStream(a, "/events?types=peer") as stream:
        stream.next()
        added = a.ask("POST", "/peers", {"address": "192.0.2.1", "hostname": "nobody"}).body
        assert stream.next()["data"]["nodeId"] == added["nodeId"]
        a.ask("POST", "/peers/handshake", {"nodeId": "n-1", "hostname": "x", "port": 7})
        assert stream.next()["data"]["nodeId"] == "n-1"
        a.ask("POST", "/peers/handshake", {"nodeId": "n-1", "hostname": "x", "port": 7})  # no news
        a.ask("PUT", "/trust/bravo/scopes", {"scopes": ["context"]})
        assert stream.next()["data"]["scopes"] == ["context"]
        a.ask("DELETE", f"/peers/{added['nodeId']}")
        gone = stream.next()
        assert (gone["type"], gone["data"]["name"]) == ("peer.removed", "nobody")
