"""Messages between two daemons, and what a raw peer may and may not do to an inbox."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable
from typing import Any

import psutil
import pytest

from loopsy.store import configfile
from loopsy.testing.nodes import Node, keyed_pair
from tests.integration.conftest import PATIENCE_S, until
from tests.integration.test_rest import refused

DAY = 24 * 3600 * 1000
Pair = tuple[Node, Node]


def send(node: Node, to: str, body: str = "hello", **more: Any) -> Any:
    """One message, queued."""
    answer = node.ask("POST", "/messages", {"to": to, "body": body, **more})
    assert answer.status == 201, answer.body
    return answer.body["messages"][0]


def take(node: Node, wait: float = 50, **more: Any) -> list[Any]:
    """What is unread."""
    answer = node.ask("POST", "/messages/take", {"wait": wait, **more})
    assert answer.status == 200, answer.body
    return list(answer.body["messages"])


def outbox(node: Node, identifier: str) -> Any:
    """A message of ours as it is now."""
    return node.ask("GET", f"/messages/{identifier}?box=out").body


def becomes(node: Node, identifier: str, state: str) -> Any:
    """A message of ours, once it is in that state."""
    return until(
        lambda: (m := outbox(node, identifier))["state"] == state and m, f"{state} (now {outbox(node, identifier)})"
    )


def envelope(identifier: str, **more: Any) -> dict[str, Any]:
    """As a peer's daemon would send it."""
    return {"id": identifier, "type": "chat", "body": "b", "ts": 1, "thread": identifier, "origin": "agent", **more}


def deliver(node: Node, key: str, *envelopes: Any) -> Any:
    """A raw peer delivers."""
    return node.ask("POST", "/messages/deliver", {"envelopes": list(envelopes)}, key=key)


@pytest.fixture
def mia(make_node: Callable[..., Node]) -> tuple[Node, str, str]:
    """A node, and the keys of two raw peers of it, mia and kai."""
    node, mia, kai = make_node("leo"), secrets.token_hex(32), secrets.token_hex(32)
    node.write_config(auth={"apiKey": node.key, "allowedKeys": {"mia": mia, "kai": kai}})
    return node.start(), mia, kai


def empty(node: Node) -> None:
    """So that tests that share a pair find nothing of the one before."""
    while take(node, 0, limit=200):
        pass


# -- the way of a message ---------------------------------------------------------------------------------------------
def test_a_message_goes_there_is_read_and_acknowledged_and_its_sender_knows(pair: Pair) -> None:
    a, b = pair
    own = a.ask("GET", "/identity").body["nodeId"]
    until(lambda: own in [peer["nodeId"] for peer in b.ask("GET", "/peers").body["peers"]], "that they met")
    sent = send(a, "bravo", "build is green")
    assert (sent["state"], sent["from"], sent["to"], sent["direction"]) == ("queued", "alfa", "bravo", "out")
    (got,) = take(b)
    assert (got["id"], got["body"], got["from"]) == (sent["id"], "build is green", "alfa")
    assert got["trust"] == "from peer alfa, not from your user"
    assert got["fromNodeId"] == own
    becomes(a, sent["id"], "read")
    acked = b.ask("POST", f"/messages/{sent['id']}/ack", {})
    assert (acked.status, acked.body["state"]) == (200, "acked")
    assert b.ask("POST", f"/messages/{sent['id']}/ack", {}).body == acked.body, "again changes nothing"
    becomes(a, sent["id"], "acked")


def test_a_reader_waits_and_is_woken(pair: Pair) -> None:
    """It would wait for longer than the test does."""
    a, b = pair
    got: list[Any] = []
    reader = threading.Thread(target=lambda: got.extend(take(b, 300)), daemon=True)
    reader.start()
    time.sleep(0.3)  # most of the time it waits by then
    sent = send(a, "bravo")
    reader.join(PATIENCE_S)
    assert [m["id"] for m in got] == [sent["id"]]
    begin = time.monotonic()
    assert take(b, 0.5) == []
    assert time.monotonic() - begin > 0.4
    answer = a.ask("GET", "/messages/outbox?state=acked&wait=0.3&thread=nothing")
    assert answer.body["messages"] == []


def test_a_reader_that_left_takes_nothing(pair: Pair) -> None:
    a, b = pair
    import http.client
    import json

    ports = set()
    for _ in range(5):
        connection = http.client.HTTPConnection("127.0.0.1", b.port)
        headers = {"authorization": f"Bearer {b.key}", "content-type": "application/json"}
        connection.request("POST", "/api/v1/messages/take", json.dumps({"wait": 60}), headers)
        ports.add(connection.sock.getsockname()[1])
        time.sleep(0.1)  # most of the time it waits by then
        connection.close()
    until(lambda: not ports & connected(b), "the daemon to see that they left")
    sent = send(a, "bravo")
    assert [m["id"] for m in take(b)] == [sent["id"]]


def connected(node: Node) -> set[int]:
    """The ports from which somebody is connected to the daemon."""
    assert node.process is not None
    return {c.raddr.port for c in psutil.Process(node.process.pid).net_connections() if c.raddr}


def test_two_takers_never_get_the_same_message(pair: Pair) -> None:
    a, b = pair
    got: list[list[str]] = [[] for _ in range(6)]
    over = threading.Event()

    def taker(mine: list[str]) -> None:
        while not over.is_set():
            mine.extend(m["id"] for m in take(b, 2, limit=3))

    takers = [threading.Thread(target=taker, args=(mine,)) for mine in got]
    for thread in takers:
        thread.start()
    try:
        sent = [send(a, "bravo", str(n))["id"] for n in range(80)]
        until(lambda: sum(map(len, got)) >= len(sent), "all were taken")
    finally:
        over.set()
        for thread in takers:
            thread.join()
    assert sorted(m for mine in got for m in mine) == sorted(sent)
    place = {identifier: n for n, identifier in enumerate(sent)}
    assert all(sorted(mine, key=place.__getitem__) == mine for mine in got), "each reader reads in order"


def test_a_thread_goes_both_ways_and_reading_lists_changes_nothing(pair: Pair) -> None:
    a, b = pair
    first = send(a, "bravo", "how far are you?", type="request")
    (got,) = take(b)
    answer = send(b, "alfa", "half way", type="response", inReplyTo=got["id"])
    assert answer["thread"] == first["thread"] == first["id"]
    assert [m["body"] for m in a.ask("GET", "/messages/inbox?state=unread&from=bravo&wait=50").body["messages"]] == [
        "half way"
    ]
    assert len(take(a, thread=first["id"])) == 1
    for node in (a, b):
        thread = node.ask("GET", f"/messages/threads/{first['id']}").body["messages"]
        assert [m["body"] for m in thread] == ["how far are you?", "half way"]
    refused(a.ask("GET", "/messages/threads/none"), 404, 8001)


def test_pages_of_a_box(pair: Pair) -> None:
    a, b = pair
    thread = send(a, "bravo", "0")["thread"]
    for number in range(1, 7):
        send(a, "bravo", str(number), inReplyTo=thread)
    seen, after = [], 0
    while after is not None:
        page = a.ask("GET", f"/messages/outbox?thread={thread}&limit=3&after={after}").body
        seen += [m["body"] for m in page["messages"]]
        after = page.get("next")
    assert seen == [str(n) for n in range(7)]
    newest = a.ask("GET", f"/messages/outbox?thread={thread}&limit=2&newest=1").body["messages"]
    assert [m["body"] for m in newest] == ["6", "5"]
    until(lambda: b.ask("GET", "/status").body["messages"]["unread"] == 7, "seven unread")
    until(lambda: a.ask("GET", "/status").body["messages"]["queued"] == 0, "an empty outbox")
    empty(b)
    assert a.ask("GET", f"/messages/outbox?thread={thread}&state=open&to=bravo").body["messages"]


def test_one_to_this_machine_itself(pair: Pair) -> None:
    a, _ = pair
    sent = send(a, "alfa", "note to self")
    (got,) = take(a)
    assert (got["id"], got["from"], got["trust"]) == (sent["id"], "alfa", "from this machine")
    a.ask("POST", f"/messages/{sent['id']}/ack", {})
    assert outbox(a, sent["id"])["state"] == "acked"
    assert a.ask("GET", "/messages/inbox?from=alfa").body["messages"]


def test_a_broadcast_is_one_message_for_each_and_the_same_when_sent_again(make_node: Callable[..., Node]) -> None:
    names = {"bravo": secrets.token_hex(32), "carol": secrets.token_hex(32)}
    a, others = make_node("alfa"), {name: make_node(name) for name in names}
    manual = [{"address": "127.0.0.1", "port": others[n].port, "hostname": n} for n in names]
    a.write_config(auth={"apiKey": a.key, "peerKeys": names}, discovery={"enabled": False, "manualPeers": manual})
    for name, node in others.items():
        node.write_config(auth={"apiKey": node.key, "allowedKeys": {"alfa": names[name]}})
        node.start()
    a.start()
    asked = {"to": "*", "body": "all hands", "id": "call-1"}
    first = a.ask("POST", "/messages", asked)
    assert first.status == 201
    messages = first.body["messages"]
    assert sorted(m["to"] for m in messages) == ["bravo", "carol"]
    assert len({m["id"] for m in messages}) == 2
    assert {m["thread"] for m in messages} == {"call-1"}
    assert {m["type"] for m in messages} == {"broadcast"}
    for node in others.values():
        (got,) = take(node)
        assert (got["body"], got["type"]) == ("all hands", "broadcast")
    again = a.ask("POST", "/messages", asked)
    assert again.status == 200
    assert [m["id"] for m in again.body["messages"]] == [m["id"] for m in messages]
    refused(a.ask("POST", "/messages", {**asked, "body": "other"}), 409, 8004)
    assert [take(node, 0.5) for node in others.values()] == [[], []]


# -- what is refused --------------------------------------------------------------------------------------------------
def test_requests_that_mean_nothing(pair: Pair) -> None:
    a, _ = pair
    for body, status, code, words in (
        ({"to": "nobody", "body": "x"}, 404, 2001, "nobody"),
        ({"to": "bravo", "body": "x" * 65537}, 413, 8006, "65537"),
        ({"to": "bravo", "body": "é" * 40000}, 413, 8006, "80000"),
        ({"to": "bravo", "body": ""}, 400, 9003, "body"),
        ({"to": "bravo"}, 400, 9003, "body is missing"),
        ({"to": "bravo", "body": 5}, 400, 9003, "body"),
        ({"to": ["bravo"], "body": "x"}, 400, 9003, "to"),
        ({"to": "bravo", "body": "x", "type": "shout"}, 400, 9003, "type"),
        ({"to": "bravo", "body": "x", "origin": "boss"}, 400, 9003, "origin"),
        ({"to": "bravo", "body": "x", "ttl": 0}, 400, 9003, "ttl"),
        ({"to": "bravo", "body": "x", "ttl": 8 * 24 * 3600}, 400, 9003, "queueDays"),
        ({"to": "bravo", "body": "x", "id": "two words"}, 400, 9003, "id"),
        ({"to": "bravo", "body": "x", "id": "x" * 129}, 400, 9003, "id"),
        ({"to": "bravo", "body": "x", "inReplyTo": "é"}, 400, 9003, "inReplyTo"),
    ):
        refused(a.ask("POST", "/messages", body), status, code, words)
    for path in ("?limit=0", "?limit=201", "?limit=x", "?after=-1", "?wait=301", "?wait=nan", "?wait=x", "?state=gone"):
        refused(a.ask("GET", f"/messages/inbox{path}"), 400, 9003)
    for method, path in (("GET", "/messages/none"), ("POST", "/messages/none/ack"), ("DELETE", "/messages/none")):
        refused(a.ask(method, path, {} if method == "POST" else None), 404, 8001)
    refused(a.ask("POST", "/messages/take", {"limit": 0}), 400, 9003, "limit")
    refused(a.ask("GET", "/messages/none?box=both"), 400, 9003, "box")


def test_an_id_of_the_clients_own_is_sent_once(pair: Pair) -> None:
    a, b = pair
    identifier = f"mine-{secrets.token_hex(4)}"
    first = send(a, "bravo", id=identifier)
    again = a.ask("POST", "/messages", {"to": "bravo", "body": "hello", "id": identifier})
    assert (again.status, again.body["messages"][0]["seq"]) == (200, first["seq"])
    refused(a.ask("POST", "/messages", {"to": "bravo", "body": "other", "id": identifier}), 409, 8004)
    assert [m["id"] for m in take(b)] == [identifier]
    assert take(b, 0.3) == []
    refused(a.ask("POST", f"/messages/{identifier}/ack", {}), 400, 9003, "recipient")


def test_a_peer_without_a_key(make_node: Callable[..., Node]) -> None:
    a, b = make_node("alfa").start(), make_node("bravo").start()
    a.ask("POST", "/peers", {"address": "127.0.0.1", "port": b.port, "hostname": "bravo"})
    refused(a.ask("POST", "/messages", {"to": "bravo", "body": "x"}), 403, 8002, "bravo")
    refused(a.ask("POST", "/messages", {"to": "*", "body": "x"}), 404, 2001)


def test_agents_that_answer_each_other_are_stopped_and_a_person_lets_them_go_on(make_node: Callable[..., Node]) -> None:
    a, b = make_node("alfa"), make_node("bravo")
    keyed_pair(a, b, messages={"maxReplies": 3})
    a.start(), b.start()
    last = send(a, "bravo", "ping", origin="agent")
    (last,) = take(b)
    speakers = [(b, a, "alfa"), (a, b, "bravo")]
    for turn in range(3):
        here, there, name = speakers[turn % 2]
        send(here, name, "pong", inReplyTo=last["id"], origin="agent")
        (last,) = take(there)
        assert last["depth"] == turn + 1
    answer = {"to": "bravo", "body": "and so on", "inReplyTo": last["id"], "origin": "agent"}
    here, there, name = speakers[1]
    refused(here.ask("POST", "/messages", answer), 409, 8005, "3")
    assert send(here, name, "go on", inReplyTo=last["id"], origin="agent", force=True)["depth"] == 0
    assert take(there)[0]["depth"] == 0
    assert send(here, name, "I say so", inReplyTo=last["id"])["depth"] == 0
    assert take(there)[0]["origin"] == "person"


def test_agents_of_a_machine_may_send_so_many_a_minute(make_node: Callable[..., Node]) -> None:
    node = make_node(rateLimits={"messages": 3})
    node.start()
    for _ in range(3):
        send(node, "alfa", origin="agent")
    answer = node.ask("POST", "/messages", {"to": "alfa", "body": "x", "origin": "agent"})
    refused(answer, 429, 9002, "agents here")
    assert int(answer.headers["retry-after"]) >= 1
    send(node, "alfa")  # a person may


# -- peers that are away ----------------------------------------------------------------------------------------------
def test_an_offline_peer_gets_it_all_in_order_when_it_is_back(make_node: Callable[..., Node]) -> None:
    a, b = make_node("alfa"), make_node("bravo")
    keyed_pair(a, b)
    a.start()
    sent = [send(a, "bravo", str(n))["id"] for n in range(250)]
    waiting = until(lambda: (m := outbox(a, sent[0]))["attempts"] >= 2 and m, "two tries")
    assert (waiting["state"], "reached" in waiting["reason"]) == ("queued", True)
    a.stop()
    a.start()
    assert a.ask("GET", "/status").body["messages"] == {"unread": 0, "queued": 250}
    b.start()
    got: list[Any] = []
    while len(got) < 250:
        more = take(b, limit=200)
        assert more, f"after {len(got)} nothing more came"
        got += more
    assert [m["id"] for m in got] == sent
    becomes(a, sent[-1], "read")
    assert "reason" not in outbox(a, sent[0])


def test_deadlines_pass_on_either_side_and_cancelled_is_never_sent(make_node: Callable[..., Node]) -> None:
    a, b = make_node("alfa"), make_node("bravo")
    keyed_pair(a, b)
    a.start()
    short, long, unwanted = send(a, "bravo", ttl=1), send(a, "bravo", "long"), send(a, "bravo", "unwanted")
    assert a.ask("DELETE", f"/messages/{unwanted['id']}").body == {"success": True, "id": unwanted["id"]}
    becomes(a, short["id"], "expired")
    assert outbox(a, unwanted["id"])["state"] == "cancelled"
    b.start()
    assert [m["body"] for m in take(b)] == ["long"]
    unread = send(a, "bravo", "nobody reads it", ttl=10)
    becomes(a, unread["id"], "delivered")
    becomes(a, unread["id"], "expired")
    assert b.ask("GET", f"/messages/{unread['id']}").body["state"] == "expired"
    assert take(b, 0) == []
    a.ask("DELETE", f"/messages/{long['id']}")
    refused(a.ask("GET", f"/messages/{long['id']}"), 404, 8001)


def test_one_without_the_scope_is_refused_and_says_so(make_node: Callable[..., Node]) -> None:
    a, b = make_node("alfa"), make_node("bravo")
    keyed_pair(a, b)
    a.start(), b.start()
    b.ask("PUT", "/trust/alfa/scopes", {"scopes": ["context"]})
    sent = send(a, "bravo")
    assert "may not use messages" in becomes(a, sent["id"], "refused")["reason"]
    b.ask("PUT", "/trust/alfa/scopes", {"scopes": ["messages"]})
    again = send(a, "bravo")
    becomes(a, again["id"], "delivered")


def test_to_one_that_does_not_know_us_messages_wait(make_node: Callable[..., Node]) -> None:
    a, b = make_node("alfa"), make_node("bravo")
    keyed_pair(a, b)
    keys = configfile.load(b.layout.config).config.auth.allowed_keys["alfa"]
    configfile.change(b.layout.config, ("auth", "allowedKeys", "alfa"), secrets.token_hex(32))
    a.start(), b.start()
    sent = send(a, "bravo")
    waiting = until(lambda: (m := outbox(a, sent["id"]))["attempts"] >= 1 and m, "a try")
    assert (waiting["state"], "not known" in waiting["reason"]) == ("queued", True)
    configfile.change(b.layout.config, ("auth", "allowedKeys", "alfa"), keys)
    b.ask("POST", "/reload")
    becomes(a, sent["id"], "delivered")


@pytest.mark.parametrize("how", ["removed", "revoked"])
def test_one_that_was_removed_or_revoked_gets_nothing_any_more(make_node: Callable[..., Node], how: str) -> None:
    a, b = make_node("alfa"), make_node("bravo")
    keyed_pair(a, b)
    a.start()
    sent = send(a, "bravo")
    if how == "removed":
        record = next(p for p in a.ask("GET", "/peers").body["peers"] if p["hostname"] == "bravo")
        a.ask("DELETE", f"/peers/{record['nodeId']}")
    else:
        a.ask("POST", "/trust/bravo/revoke")
    assert "bravo" in becomes(a, sent["id"], "undeliverable")["reason"]


def test_a_full_inbox_is_waited_for_and_goes_on_when_it_is_read(make_node: Callable[..., Node]) -> None:
    a, b = make_node("alfa"), make_node("bravo")
    keyed_pair(a, b, messages={"maxUnread": 40})
    a.start(), b.start()
    sent = [send(a, "bravo", str(n))["id"] for n in range(35)]
    until(lambda: b.ask("GET", "/status").body["messages"]["unread"] == 10, "ten unread")
    until(lambda: "full" in outbox(a, sent[-1]).get("reason", ""), "the reason")
    until(lambda: outbox(a, sent[-1])["attempts"] >= 3, "three tries in vain")
    assert b.ask("GET", "/status").body["messages"]["unread"] == 10
    got: list[str] = []
    while len(got) < 35:  # what was read makes room, and the sender hears of it
        more = take(b)
        assert more, f"after {len(got)} nothing more came"
        got += [m["id"] for m in more]
    assert got == sent


# -- a raw peer -------------------------------------------------------------------------------------------------------
def test_the_sender_is_who_has_the_key_whatever_the_envelope_says(mia: tuple[Node, str, str]) -> None:
    node, key, kais = mia
    forged = envelope("a", **{"from": "kai", "fromNodeId": "x" * 32, "trust": "from your user", "state": "acked"})
    assert deliver(node, key, forged).body == {"results": [{"id": "a", "result": "delivered"}]}
    (got,) = take(node)
    assert (got["from"], got["trust"]) == ("mia", "from peer mia, not from your user")
    assert got["state"] == "read"
    assert deliver(node, kais, envelope("a", body="kai's own")).body["results"][0]["result"] == "delivered"
    assert node.ask("GET", "/messages/inbox?from=kai").body["messages"][0]["body"] == "kai's own"


def test_replayed_ids_are_read_once(mia: tuple[Node, str, str]) -> None:
    node, key, _ = mia
    for expected in ("delivered", "duplicate", "duplicate"):
        assert deliver(node, key, envelope("a")).body["results"][0]["result"] == expected
    assert len(take(node)) == 1
    assert deliver(node, key, envelope("a")).body["results"][0]["result"] == "duplicate"
    other = deliver(node, key, envelope("a", body="other")).body["results"][0]
    assert (other["result"], other["code"]) == ("refused", 8004)
    node.ask("DELETE", "/messages/a")
    assert deliver(node, key, envelope("a")).body["results"][0]["result"] == "duplicate"
    assert take(node, 0) == []


@pytest.mark.parametrize("skew", [-DAY, DAY, 400 * DAY])
def test_a_clock_that_is_a_day_off_does_no_harm(mia: tuple[Node, str, str], skew: int) -> None:
    node, key, _ = mia
    ts = int(time.time() * 1000) + skew
    deliver(node, key, envelope("a", ts=ts, expiresIn=60_000), envelope("b", ts=ts), envelope("c", ts=ts, expiresIn=1))
    until(lambda: node.ask("GET", "/messages/c").body["state"] == "expired", "the end of c")
    got = take(node)
    assert [m["id"] for m in got] == ["a", "b"], "deadlines are relative"
    assert abs(got[0]["expiresAt"] - got[0]["receivedAt"] - 60_000) <= 1
    assert got[0]["ts"] == ts


def test_malformed_envelopes_spoil_themselves_only(mia: tuple[Node, str, str]) -> None:
    node, key, _ = mia
    bad = [
        {**envelope("no-body"), "body": None}, {**envelope("type"), "type": "shout"}, {**envelope("ts"), "ts": "now"},
        {**envelope("depth"), "depth": -1}, {"id": "alone"}, envelope("large", body="x" * 65537),
        envelope("deep", depth=31), {**envelope("thread"), "thread": "\u202e"},
    ]  # fmt: skip
    results = deliver(node, key, envelope("first"), *bad, envelope("last")).body["results"]
    assert [r["result"] for r in results] == ["delivered", *["refused"] * len(bad), "delivered"]
    assert [r["code"] for r in results[1:-1]] == [9003, 9003, 9003, 9003, 9003, 8006, 8005, 9003]
    assert [m["id"] for m in take(node)] == ["first", "last"]
    for envelopes in ([5], [{}], [[envelope("a")]], [{**envelope("x"), "id": "two words"}], [None, envelope("b")]):
        refused(deliver(node, key, *envelopes), 400, 9003, "envelopes[0]")
    for body in ({}, {"envelopes": []}, {"envelopes": {}}, {"envelopes": [envelope(str(n)) for n in range(101)]}, []):
        refused(node.ask("POST", "/messages/deliver", body, key=key), 400, 9003)
    refused(deliver(node, key, *[envelope(f"{n}", body="x" * 60_000) for n in range(20)]), 413, 9003)
    assert take(node, 0) == []
    assert "Traceback" not in node.log


def test_a_peer_reports_of_its_own_messages_only(make_node: Callable[..., Node]) -> None:
    a, b, key = make_node("alfa"), make_node("bravo"), secrets.token_hex(32)
    keyed_pair(a, b)
    configfile.change(a.layout.config, ("auth", "allowedKeys", "mia"), key)
    a.start()
    sent = send(a, "bravo")
    for state in ("read", "acked", "expired"):
        receipts = {"receipts": [{"id": sent["id"], "state": state, "at": 1}]}
        answer = a.ask("POST", "/messages/receipts", receipts, key=key)
        assert answer.body == {"results": [{"id": sent["id"], "result": "unknown"}]}
    assert outbox(a, sent["id"])["state"] == "queued"
    for receipt in ({"id": sent["id"], "state": "queued", "at": 1}, {"id": sent["id"]}, 5):
        refused(a.ask("POST", "/messages/receipts", {"receipts": [receipt]}, key=key), 400, 9003)


def test_a_peer_reads_nobodys_boxes_and_sends_in_nobodys_name(mia: tuple[Node, str, str]) -> None:
    node, key, _ = mia
    deliver(node, key, envelope("a"))
    for method, path, body in (
        ("GET", "/messages/inbox", None), ("GET", "/messages/outbox", None), ("POST", "/messages/take", {}),
        ("POST", "/messages", {"to": "kai", "body": "x"}), ("GET", "/messages/a", None),
        ("POST", "/messages/a/read", {}), ("POST", "/messages/a/ack", {}), ("DELETE", "/messages/a", None),
        ("GET", "/messages/threads/a", None), ("POST", "/peers/kai/messages/deliver", {"envelopes": [envelope("x")]}),
    ):  # fmt: skip
        refused(node.ask(method, path, body, key=key), 403, 1002)
    refused(deliver(node, node.key, envelope("b")), 403, 1002, "key")


def test_deliveries_are_counted(mia: tuple[Node, str, str]) -> None:
    node, key, kais = mia
    statuses: list[int] = []
    while 429 not in statuses and len(statuses) < 5000:  # while it lasts, some of the rate comes back
        statuses.append(deliver(node, key, envelope(f"m{len(statuses) % 600}")).status)
    assert statuses[:600] == [200] * 600
    assert statuses[-1] == 429
    assert deliver(node, kais, envelope("k")).status == 200, "each peer for itself"
