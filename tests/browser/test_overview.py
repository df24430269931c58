"""The overview: what runs and who is there, as it changes."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from playwright.sync_api import Locator, expect

from loopsy.testing.nodes import Node, keyed_pair
from tests.browser.conftest import MakeTab
from tests.browser.page import PATIENCE_MS, Dash
from tests.integration.conftest import until
from tests.integration.tasking import Client

MakeNode = Callable[..., Node]


def card(dash: Dash, name: str) -> Locator:
    return dash.page.get_by_role("region", name=name, exact=True)


@contextmanager
def running(node: Node, *argv: str, on: str = "") -> Iterator[None]:
    """A command that a node's user runs here or on a peer, for as long as somebody reads its output."""
    connection = http.client.HTTPConnection("127.0.0.1", node.port, timeout=60)
    body = json.dumps({"command": argv[0], "args": argv[1:]})
    headers = {"authorization": f"Bearer {node.key}", "content-type": "application/json"}
    connection.request("POST", f"/api/v1{on}/execute/stream", body, headers)
    assert connection.getresponse().status == 200
    try:
        yield
    finally:
        connection.close()


def test_jobs_come_and_go_on_every_machine(dash: Dash, pair: tuple[Node, Node]) -> None:
    """Of those on a peer we see what we started there: it shows us no others."""
    for name, on in (("alfa", ""), ("bravo", "/peers/bravo")):
        shown = card(dash, name)
        expect(shown).to_contain_text("Platform")
        with running(pair[0], "sleep", "77", on=on):
            expect(shown.get_by_text("sleep 77")).to_be_visible(timeout=PATIENCE_MS)
        expect(shown.get_by_text("sleep 77")).to_be_hidden(timeout=PATIENCE_MS)


def test_a_job_is_ended_from_here(dash: Dash, pair: tuple[Node, Node]) -> None:
    here = pair[0]
    with running(here, "sleep", "78"):
        card(dash, "alfa").get_by_role("button", name="End sleep").click()
        dash.press("Yes")
        expect(card(dash, "alfa").get_by_text("sleep 78")).to_be_hidden(timeout=PATIENCE_MS)
    assert here.ask("GET", "/execute/jobs").body["jobs"] == []


def test_what_waits_for_a_person_stands_first_and_leads_there(dash: Dash, pair: tuple[Node, Node]) -> None:
    there = Client(pair[0], base="/peers/bravo")
    task = there.start("ask make -C src all", title="Build it")
    link = dash.page.get_by_role("region", name="Waits for you").get_by_role("link", name="Build it")
    expect(link).to_contain_text("make -C src all", timeout=PATIENCE_MS)
    link.click()
    expect(dash.page.get_by_role("heading", name="claude wants to use Bash")).to_be_visible()
    dash.press("Deny")
    there.over(task)
    dash.go("overview", "Overview")
    expect(link).to_be_hidden(timeout=PATIENCE_MS)


def test_unread_messages_are_counted(dash: Dash, pair: tuple[Node, Node]) -> None:
    pair[1].ask("POST", "/messages", {"to": "alfa", "body": "look here"})
    expect(dash.page.get_by_role("link", name="1 unread message")).to_be_visible(timeout=PATIENCE_MS)
    expect(dash.page.get_by_role("link", name="Messages 1")).to_be_visible()
    pair[0].ask("POST", "/messages/take", {})
    expect(dash.page.get_by_role("link", name="1 unread message")).to_be_hidden(timeout=PATIENCE_MS)


def test_a_peer_that_goes_away_and_returns(make_node: MakeNode, tab: MakeTab) -> None:
    here, there = make_node("alfa"), make_node("bravo")
    keyed_pair(here, there)
    here.start()
    there.start()
    dash = tab(here)
    shown = card(dash, "bravo")
    expect(shown).to_contain_text("online", timeout=PATIENCE_MS)
    there.stop()
    until(lambda: here.ask("GET", "/peers").body["peers"][0]["status"] == "offline", "its leave")
    expect(shown).to_contain_text("Messages to it wait", timeout=PATIENCE_MS)
    there.start()
    until(lambda: here.ask("GET", "/peers").body["peers"][0]["status"] == "online", "its return")
    expect(shown).to_contain_text("Platform", timeout=PATIENCE_MS)
    with running(here, "sleep", "79", on="/peers/bravo"):
        expect(shown.get_by_text("sleep 79")).to_be_visible(timeout=PATIENCE_MS)


def test_no_machine_yet_says_what_to_do(make_node: MakeNode, tab: MakeTab) -> None:
    dash = tab(make_node("alone").start())
    dash.sees("No other machine yet.")
    dash.go("messages").sees("No messages.")
    dash.go("tasks").sees("No task yet.")
    dash.go("context").sees("Nothing is shared yet.")
    dash.go("terminal").sees("No terminal is open there.")
    dash.go("peers").sees("No machine is known yet.")


def test_sessions_are_machines_like_others(make_node: MakeNode, tab: MakeTab) -> None:
    """Started by the command, they have cards of their own."""
    node = make_node("alfa").start()
    dash = tab(node)
    started = node.run("session", "start-fleet", "-c", "2")
    try:
        assert started.returncode == 0, started.stderr
        for name in ("alfa-worker-1", "alfa-worker-2"):
            expect(card(dash, name)).to_contain_text("online", timeout=PATIENCE_MS)
    finally:
        node.run("session", "stop-all")
