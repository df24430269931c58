"""Messages with an existing node, which knows nothing but its context store."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

import pytest

from loopsy.testing.nodes import Node
from tests.integration.conftest import until
from tests.integration.old_node import OldNode
from tests.integration.test_messages import becomes, outbox, send, take
from tests.integration.test_rest import refused

KAIS = secrets.token_hex(32)
"""What kai presents to us."""


@pytest.fixture
def kai() -> Iterator[OldNode]:
    """An existing node."""
    with OldNode() as node:
        yield node


@pytest.fixture
def leo(make_node: Callable[..., Node], kai: OldNode) -> Node:
    """One of ours that knows it."""
    return started(make_node("leo"), kai)


def started(node: Node, old: OldNode) -> Node:
    """With the keys of both."""
    manual = {"address": "127.0.0.1", "port": old.port, "hostname": "kai"}
    auth = {"apiKey": node.key, "allowedKeys": {"kai": KAIS, "mia": "31" * 32}, "peerKeys": {"kai": old.key}}
    node.write_config(auth=auth, discovery={"enabled": False, "manualPeers": [manual]})
    node.start()
    until(lambda: node.ask("GET", "/peers").body["peers"][0]["hostname"] == old.hostname, "who it is")
    return node


def put(node: Node, key: str, value: object, presented: str = KAIS, ttl: int = 3600) -> Any:
    """As an existing node does it."""
    text = value if isinstance(value, str) else json.dumps(value)
    return node.ask("PUT", f"/context/{quote(key, safe='')}", {"value": text, "ttl": ttl}, key=presented)


def old_envelope(identifier: str = "1795341829489-kais-mac-4f2a", **more: Any) -> dict[str, Any]:
    """As an existing node writes it."""
    return {"from": "kais-mac", "to": "leo", "ts": 5, "id": identifier, "type": "chat", "body": "hi leo", **more}


# -- to it ------------------------------------------------------------------------------------------------------------
def test_ours_appear_as_its_context_entries_and_its_ack_is_understood(leo: Node, kai: OldNode) -> None:
    first, second, third = (send(leo, "kai", body, ttl=3000) for body in ("one", "two", "three"))
    becomes(leo, third["id"], "delivered")
    key = f"inbox:kais-mac:{first['id']}"
    assert json.loads(kai.entries[key]["value"]) == {
        "from": "leo", "to": "kais-mac", "ts": first["ts"], "id": first["id"], "type": "chat", "body": "one",
    }  # fmt: skip
    assert kai.entries[key]["ttl"] == 3600
    assert [e["body"] for e in kai.envelopes] == ["one", "two", "three"]
    ours = leo.ask("GET", f"/context/{quote('outbox:' + first['id'], safe='')}").body
    assert (ours["ttl"], json.loads(ours["value"])["body"]) == (3600, "one")
    assert put(leo, "ack:kais-mac", second["id"], ttl=7200).status == 200
    assert [outbox(leo, m["id"])["state"] for m in (first, second, third)] == ["read", "acked", "delivered"]


def test_it_is_waited_for_and_nothing_is_sent_twice(make_node: Callable[..., Node], kai: OldNode) -> None:
    kai.refuses = (429, 9002)
    node = started(make_node("leo"), kai)
    sent = send(node, "kai")
    until(lambda: outbox(node, sent["id"])["attempts"] >= 2, "two tries")
    kai.refuses = None
    becomes(node, sent["id"], "delivered")
    assert len([path for path in kai.asked if path.startswith("PUT") and sent["id"] in path]) >= 3
    assert len(kai.envelopes) == 1


@pytest.mark.parametrize("answer", [(413, 5002), (400, 9003)])
def test_what_it_won_t_take_is_refused_and_the_next_goes_on(leo: Node, kai: OldNode, answer: tuple[int, int]) -> None:
    kai.refuses = answer
    sent = send(leo, "kai")
    assert becomes(leo, sent["id"], "refused")["reason"] == "no"
    kai.refuses = None
    becomes(leo, send(leo, "kai")["id"], "delivered")


def test_one_that_has_no_context_either_can_t_be_written_to(make_node: Callable[..., Node]) -> None:
    with OldNode(capabilities=("execute",)) as old:
        node = started(make_node("leo"), old)
        assert "can't take" in becomes(node, send(node, "kai")["id"], "undeliverable")["reason"]


def test_one_that_becomes_one_of_ours_is_spoken_to_as_such(leo: Node, kai: OldNode) -> None:
    becomes(leo, send(leo, "kai")["id"], "delivered")
    kai.capabilities = ("context", "messages")
    itself = {"nodeId": kai.node_id, "hostname": kai.hostname, "port": kai.port, "capabilities": ["messages"]}
    assert leo.ask("POST", "/peers/handshake", itself, key=KAIS).status == 200
    kai.asked.clear()
    send(leo, "kai")
    until(lambda: "POST /messages/deliver" in kai.asked, "a delivery")


# -- from it ----------------------------------------------------------------------------------------------------------
def test_its_envelopes_arrive_once_and_our_ack_is_its_context_entry(leo: Node, kai: OldNode) -> None:
    envelope = old_envelope()
    key = f"inbox:leo:{envelope['id']}"
    for _ in range(2):
        assert put(leo, key, envelope).status == 200
    (got,) = take(leo)
    assert (got["id"], got["from"], got["body"], got["ts"]) == (envelope["id"], "kai", "hi leo", 5)
    assert "claimedFrom" not in got, "it calls itself so, and we know that"
    assert (got["origin"], got["trust"]) == ("agent", "from peer kai, not from your user")
    assert leo.ask("GET", f"/context/{quote(key, safe='')}").status == 200, "reading does not remove the entry"
    leo.ask("POST", f"/messages/{got['id']}/ack", {})
    until(lambda: "ack:leo" in kai.entries, "our ack")
    assert (kai.entries["ack:leo"]["value"], kai.entries["ack:leo"]["ttl"]) == (got["id"], 7200)
    refused(leo.ask("GET", f"/context/{quote(key, safe='')}"), 404, 5001)
    put(leo, key, envelope)
    assert take(leo, 0) == []


def test_a_reply_belongs_to_the_thread_of_what_it_answers(leo: Node, kai: OldNode) -> None:
    sent = send(leo, "kai", "question", origin="agent")
    put(leo, "inbox:leo:r1", old_envelope("r1", inReplyTo=sent["id"], type="response"))
    (got,) = take(leo)
    assert (got["thread"], got["depth"]) == (sent["thread"], 1)
    send(leo, "kai", "thanks", inReplyTo="r1")
    until(lambda: len(kai.envelopes) == 2, "both")
    assert kai.envelopes[1]["inReplyTo"] == "r1"


def test_who_it_says_it_is_is_shown_and_not_believed(leo: Node) -> None:
    put(leo, "inbox:leo:f1", old_envelope("f1", **{"from": "mia"}))
    (got,) = take(leo)
    assert (got["from"], got["claimedFrom"]) == ("kai", "mia")
    assert got["trust"] == "from peer kai, not from your user"


def test_what_is_no_envelope_or_not_for_us_is_a_context_entry_and_nothing_else(leo: Node) -> None:
    for key, value in (
        ("inbox:mia:x1", old_envelope("x1", to="mia")),
        ("inbox:leo:x2", old_envelope("other")),
        ("inbox:leo:x3", old_envelope("x3", to="mia")),
        ("inbox:leo:x4", "just a text"),
        ("inbox:leo:x5", old_envelope("x5", type="shout")),
        ("inbox:leo:x6", old_envelope("x6", body="")),
        ("inbox:leo:x7", old_envelope("x7", body="x" * 70_000)),
        ("note", old_envelope("x8")),
    ):
        assert put(leo, key, value).status == 200
    assert take(leo, 0.2) == []
    assert len(leo.ask("GET", "/context").body["entries"]) == 8


def test_the_context_is_no_way_round_the_scope(leo: Node, kai: OldNode) -> None:
    leo.ask("PUT", "/trust/kai/scopes", {"scopes": ["context"]})
    sent = send(leo, "kai")
    becomes(leo, sent["id"], "delivered")
    assert put(leo, "inbox:leo:n1", old_envelope("n1")).status == 200
    put(leo, "ack:kais-mac", sent["id"])
    assert take(leo, 0.2) == []
    assert outbox(leo, sent["id"])["state"] == "delivered"


def test_another_peer_can_t_acknowledge_for_it(leo: Node) -> None:
    sent = send(leo, "kai")
    becomes(leo, sent["id"], "delivered")
    assert put(leo, "ack:kais-mac", sent["id"], presented="31" * 32).status == 200
    assert outbox(leo, sent["id"])["state"] == "delivered"


def test_with_a_shared_key_nobody_knows_whose_it_is_and_it_says_so(leo: Node, kai: OldNode) -> None:
    """Existing installs present this machine's own key."""
    put(leo, "inbox:leo:s1", old_envelope("s1"), presented=leo.key)
    (got,) = take(leo)
    assert (got["claimedFrom"], "perhaps not from your user" in got["trust"]) == ("kais-mac", True)
    leo.ask("POST", "/messages/s1/ack", {})
    until(lambda: "ack:leo" in kai.entries, "our ack, to the one it says it is")
    sent = send(leo, "kai")
    becomes(leo, sent["id"], "delivered")
    put(leo, "ack:kais-mac", sent["id"], presented=leo.key)
    assert outbox(leo, sent["id"])["state"] == "acked"
