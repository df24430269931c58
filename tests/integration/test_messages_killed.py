"""Messages and kill -9: nothing acknowledged is lost, the reader gets nothing twice, each sender's order stays."""

from __future__ import annotations

import http.client
import random
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from loopsy.testing.nodes import Node, keyed_pair
from tests.integration.conftest import PATIENCE_S, until
from tests.integration.test_messages import becomes, outbox, send, take

KILLS, MOMENT_S = 8, 0.5
GONE = (OSError, http.client.HTTPException)


@pytest.fixture
def two(make_node: Callable[..., Node]) -> tuple[Node, Node]:
    """Two of their own, for they will be killed."""
    a, b = make_node("alfa"), make_node("bravo")
    keyed_pair(a, b)
    return a.start(), b.start()


def killed(node: Node) -> Node:
    """kill -9, and a new start over what it left."""
    node.kill()
    return node.start()


# -- one kill behind each state ---------------------------------------------------------------------------------------
def test_the_sender_is_killed_when_it_has_said_queued(make_node: Callable[..., Node]) -> None:
    a, b = make_node("alfa"), make_node("bravo")
    keyed_pair(a, b)
    a.start()
    sent = [send(a, "bravo", str(n))["id"] for n in range(5)]
    killed(a)
    assert [outbox(a, identifier)["state"] for identifier in sent] == ["queued"] * 5
    b.start()
    becomes(a, sent[-1], "delivered")
    assert [m["id"] for m in take(b)] == sent


def test_the_recipient_is_killed_when_it_has_it(two: tuple[Node, Node]) -> None:
    a, b = two
    sent = send(a, "bravo")
    becomes(a, sent["id"], "delivered")
    killed(b)
    assert [m["id"] for m in take(b)] == [sent["id"]]


def test_the_recipient_is_killed_when_its_reader_has_it(two: tuple[Node, Node]) -> None:
    a, b = two
    sent = send(a, "bravo")
    assert [m["id"] for m in take(b)] == [sent["id"]]
    killed(b)
    assert take(b, 0.5) == [], "not twice"
    assert [m["id"] for m in b.ask("GET", "/messages/inbox?state=read").body["messages"]] == [sent["id"]]
    becomes(a, sent["id"], "read")


def test_the_recipient_is_killed_when_its_reader_has_acknowledged(two: tuple[Node, Node]) -> None:
    a, b = two
    a.kill()
    a.start()
    sent = send(a, "bravo")
    take(b)
    a.kill()
    b.ask("POST", f"/messages/{sent['id']}/ack", {})
    killed(b)
    a.start()
    becomes(a, sent["id"], "acked")
    assert b.ask("GET", f"/messages/{sent['id']}").body["state"] == "acked"


def test_the_sender_is_killed_while_the_other_reads(two: tuple[Node, Node]) -> None:
    a, b = two
    sent = send(a, "bravo")
    becomes(a, sent["id"], "delivered")
    a.kill()
    take(b)
    a.start()
    becomes(a, sent["id"], "read")


# -- kills at any moment ----------------------------------------------------------------------------------------------
class Writer(threading.Thread):
    """Sends until told to stop; where no answer came it sends the same again."""

    def __init__(self, node: Node) -> None:
        super().__init__()
        self.node, self.sent, self.ended = node, list[str](), threading.Event()
        self.start()

    def run(self) -> None:
        """One after the other, so that their order is known."""
        while not self.ended.is_set():
            asked = {"to": "bravo", "body": f"body {len(self.sent)}", "id": f"m-{len(self.sent):06}"}
            try:
                answer = self.node.ask("POST", "/messages", asked)
            except GONE:
                time.sleep(0.02)
                continue
            assert answer.status in (200, 201), answer
            self.sent.append(asked["id"])


class Reader(threading.Thread):
    """Takes until told to stop, and acknowledges every other message."""

    def __init__(self, node: Node) -> None:
        super().__init__()
        self.node, self.got, self.bodies, self.ended = node, list[str](), list[str](), threading.Event()
        self.start()

    def run(self) -> None:
        """What was taken in an answer that the kill swallowed is not in ``got``."""
        while not self.ended.is_set():
            try:
                for message in take(self.node, 1, limit=7):
                    self.got.append(message["id"])
                    self.bodies.append(message["body"])
                    if len(self.got) % 2:
                        self.node.ask("POST", f"/messages/{message['id']}/ack", {})
            except GONE:
                time.sleep(0.02)


def everything(node: Node, box: str) -> list[Any]:
    """A whole box."""
    found: list[Any] = []
    after: int | None = 0
    while after is not None:
        page = node.ask("GET", f"/messages/{box}?limit=200&after={after}").body
        found += page["messages"]
        after = page.get("next")
    return found


@pytest.mark.parametrize("victims", ["sender", "recipient", "either"])
def test_kills_at_any_moment(two: tuple[Node, Node], victims: str) -> None:
    a, b = two
    chance = random.Random()
    choice = {"sender": [a], "recipient": [b], "either": [a, b]}[victims]
    writer, reader = Writer(a), Reader(b)
    try:
        for number in range(1, KILLS + 1):
            until(lambda wanted=7 * number: len(writer.sent) > wanted, "enough for the kills to hit something")
            time.sleep(chance.uniform(0, MOMENT_S))
            killed(chance.choice(choice))
    finally:
        writer.ended.set()
        writer.join(PATIENCE_S)
    sent = writer.sent
    try:
        until(lambda: outbox(a, sent[-1])["state"] in ("read", "acked"), "the last one's end")
    finally:
        reader.ended.set()
        reader.join(PATIENCE_S)
    inbox, out = everything(b, "inbox"), everything(a, "outbox")
    assert len(sent) > 50
    assert [m["id"] for m in out] == sent
    assert [m["id"] for m in inbox] == sent, "lost, doubled, or out of order"
    assert len(set(reader.got)) == len(reader.got), "the reader got one twice"
    assert reader.got == sorted(reader.got), "the reader got them out of order"
    swallowed = set(sent) - set(reader.got)
    assert all(m["state"] in ("read", "acked") for m in inbox), "all were handed out"
    assert len(swallowed) <= KILLS * 7, "more than the answers under way at the kills"
    until(
        lambda: [m["state"] for m in everything(a, "outbox")] == [m["state"] for m in inbox], "the same states on both"
    )
    assert reader.bodies == [f"body {int(identifier[2:])}" for identifier in reader.got]
    assert "Traceback" not in a.log + b.log
