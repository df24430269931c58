"""Peers: adding, pairing with a code and a number in two pages, scopes, new keys, revoking."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import expect

from loopsy.testing.nodes import Node
from tests.browser.conftest import MakeTab
from tests.browser.page import PATIENCE_MS, Dash
from tests.integration.conftest import until

MakeNode = Callable[..., Node]
SECURE: dict[str, Any] = {"tls": {"enabled": True}}


@pytest.fixture
def two(make_node: MakeNode) -> tuple[Node, Node]:
    return make_node("alfa", **SECURE).start(), make_node("bravo", **SECURE).start()


def invite(dash: Dash) -> str:
    """Begin on one side; the code that its page shows."""
    dash.go("peers", "Peers").press("Pair a machine")
    dash.press("Show a code")
    shown = dash.page.locator(".digits")
    expect(shown).to_be_visible()
    return shown.inner_text().replace(" ", "")


def join(dash: Dash, port: int, code: str) -> None:
    dash.go("peers", "Peers").press("Pair a machine")
    dash.page.get_by_label("Its address").fill(f"127.0.0.1:{port}")
    dash.page.get_by_label("The six digits that it shows").fill(code)
    dash.press("Join")


def number(dash: Dash) -> str:
    expect(dash.page.get_by_text("show the same number?")).to_be_visible(timeout=PATIENCE_MS)
    return dash.page.locator(".digits").inner_text()


def test_two_pages_pair_two_machines_and_one_revokes(two: tuple[Node, Node], tab: MakeTab) -> None:
    a, b = two
    one, other = tab(a), tab(b)
    join(other, a.port, invite(one))
    assert number(one) == number(other)
    one.press("Yes, the same")
    expect(one.page.get_by_text("Waiting for the other side")).to_be_visible()
    other.press("Yes, the same")
    for dash, name in ((one, "bravo"), (other, "alfa")):
        expect(dash.page.get_by_role("dialog")).to_contain_text(f"paired with {name}", timeout=PATIENCE_MS)
        dash.press("Close")
        dash.sees("paired, pinned")
    assert a.ask("POST", "/peers/bravo/execute", {"command": "echo", "args": ["hi"]}).body["stdout"] == "hi\n"

    narrow(one, b, a)
    one.page.get_by_role("button", name="bravo").click()
    one.press("New keys")
    one.says("new keys are in use")
    assert b.ask("GET", "/peers/alfa/status").status == 200, "the new key, from the other side"
    one.page.get_by_role("button", name="bravo").click()
    one.press("Revoke")
    one.press("Yes")
    one.says("bravo is revoked")
    one.sees("not paired")
    assert b.ask("GET", "/peers/alfa/status").status in (401, 403)


def narrow(dash: Dash, peer: Node, here: Node) -> None:
    """It may read the context, and nothing else."""
    dash.page.get_by_role("button", name="bravo").click()
    for scope in ("run commands", "read and write files", "send messages", "start AI tasks", "open terminals"):
        dash.page.get_by_label(scope).uncheck()
    dash.press("Save")
    dash.says("bravo may now: context")
    dash.press("Close")
    assert peer.ask("GET", "/peers/alfa/context").status == 200
    assert peer.ask("POST", "/peers/alfa/execute", {"command": "true"}).status == 403
    assert here.ask("GET", "/peers").body["peers"][0]["scopes"] == ["context"]


def test_a_no_ends_it_on_both_sides(two: tuple[Node, Node], tab: MakeTab) -> None:
    """The other side by REST, as its command would."""
    a, b = two
    dash = tab(a)
    code = invite(dash)
    b.ask("POST", "/pair/join", {"address": "127.0.0.1", "port": a.port, "code": code})
    number(dash)
    dash.press("No, it differs")
    expect(dash.page.get_by_role("dialog").get_by_role("alert")).to_be_visible(timeout=PATIENCE_MS)
    until(lambda: b.ask("GET", "/pair/status").body["state"] == "ended", "the end there")
    dash.press("Try again")
    expect(dash.button("Show a code")).to_be_visible()
    assert a.ask("GET", "/peers").body["peers"] == []


def test_a_reload_in_mid_pairing_shows_where_it_stands(two: tuple[Node, Node], tab: MakeTab) -> None:
    a = two[0]
    dash = tab(a)
    code = invite(dash)
    dash.page.reload()
    dash.go("peers", "Peers").press("Pair a machine")
    assert dash.page.locator(".digits").inner_text().replace(" ", "") == code
    dash.press("Close")
    until(lambda: a.ask("GET", "/pair/status").body["state"] in ("idle", "ended"), "the end")


def test_a_wrong_code_says_so(two: tuple[Node, Node], tab: MakeTab) -> None:
    a, b = two
    one, other = tab(a), tab(b)
    code = invite(one)
    join(other, a.port, f"{(int(code) + 1) % 10**6:06}")
    expect(other.page.get_by_role("dialog").get_by_role("alert")).to_be_visible(timeout=PATIENCE_MS)
    assert code not in other.page.content()


def test_a_machine_is_added_by_its_address_and_struck(make_node: MakeNode, tab: MakeTab) -> None:
    a, b = make_node("alfa").start(), make_node("bravo").start()
    dash = tab(a).go("peers", "Peers")
    dash.press("Add by address")
    dash.page.get_by_role("textbox", name="Address").fill("127.0.0.1")
    dash.page.get_by_label("Port").fill(str(b.port))
    dash.press("Add")
    dash.says("is in the list")
    dash.sees("not paired")
    own = b.ask("GET", "/status").body["nodeId"]
    until(lambda: [peer["nodeId"] for peer in a.ask("GET", "/peers").body["peers"]] == [own], "its name for itself")
    dash.page.get_by_role("table").get_by_role("button").click()
    dash.press("Remove")
    dash.press("Yes")
    dash.sees("No machine is known yet.")
    assert a.ask("GET", "/peers").body["peers"] == []
