"""Messages: inbox, outbox, conversations, states, writing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from playwright.sync_api import expect

from loopsy.testing.nodes import Node, keyed_pair
from tests.browser.conftest import MakeTab
from tests.browser.page import PATIENCE_MS, Dash
from tests.integration.conftest import until


def taken(node: Node) -> list[dict[str, Any]]:
    """What comes next."""
    return list(until(lambda: node.ask("POST", "/messages/take", {"wait": 20}).body["messages"], "a message"))


def test_a_conversation_from_both_ends(dash: Dash, pair: tuple[Node, Node]) -> None:
    there = pair[1]
    dash.go("messages", "Messages")
    dash.page.get_by_label("To").select_option("bravo")
    dash.page.get_by_label("Message", exact=True).fill("Is the disk full?\n<b>bold</b>")
    dash.press("Send")
    dash.says("queued for bravo")
    (got,) = taken(there)
    assert (got["body"], got["from"], got["origin"]) == ("Is the disk full?\n<b>bold</b>", "alfa", "person")
    dash.page.get_by_role("tab", name="Outbox").click()
    sent = dash.page.get_by_role("article", name="Message to bravo").first
    expect(sent).to_contain_text("read", timeout=PATIENCE_MS)
    there.ask("POST", f"/messages/{got['id']}/ack", {})
    expect(sent).to_contain_text("acked", timeout=PATIENCE_MS)

    there.ask("POST", "/messages", {"to": "alfa", "body": "Nearly: 94 %.", "inReplyTo": got["id"]})
    dash.page.get_by_role("tab", name="Inbox").click()
    came = dash.page.get_by_role("article", name="Message from bravo").filter(has_text="94 %")
    expect(came).to_contain_text("from peer bravo, not from your user", timeout=PATIENCE_MS)
    came.get_by_role("link", name="Conversation").click()
    expect(dash.page.get_by_role("article")).to_have_count(2)
    dash.page.get_by_label("Answer bravo").fill("Clean it up, please.")
    dash.press("Send")
    expect(dash.page.get_by_role("article")).to_have_count(3)
    (answer,) = taken(there)
    assert answer["thread"] == got["thread"]
    dash.page.get_by_role("article", name="Message from bravo").get_by_role("button", name="Acknowledge").click()
    dash.says("acknowledged")


def test_all_are_read_at_once(dash: Dash, pair: tuple[Node, Node]) -> None:
    for number in range(3):
        pair[1].ask("POST", "/messages", {"to": "alfa", "body": f"number {number}"})
    dash.go("messages", "Messages")
    for number in range(3):
        dash.sees(f"number {number}")
    dash.press("Mark all as read")
    dash.says("marked as read")
    expect(dash.page.locator("nav .badge")).to_be_hidden(timeout=PATIENCE_MS)


def test_one_that_waits_is_taken_back(make_node: Callable[..., Node], tab: MakeTab) -> None:
    here, away = make_node("alfa"), make_node("away")
    keyed_pair(here, away)
    here.start()
    dash = tab(here).go("messages", "Messages")
    dash.page.get_by_label("To").select_option("away")
    dash.page.get_by_label("Message", exact=True).fill("never mind")
    dash.press("Send")
    dash.page.get_by_role("tab", name="Outbox").click()
    dash.sees("never mind")
    dash.press("Take back")
    dash.says("taken back")
    states = [one["state"] for one in here.ask("GET", "/messages/outbox?state=all").body["messages"]]
    assert "queued" not in states
