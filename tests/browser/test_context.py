"""The context of any machine: browse, filter, edit; lifetimes tick."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from loopsy.testing.nodes import Node
from tests.browser.page import Dash


def dialog_sets(dash: Dash, value: str, ttl: str = "") -> None:
    dash.page.get_by_label("Value", exact=True).fill(value)
    dash.page.get_by_label("Lifetime in seconds").fill(ttl)
    dash.press("Save")


@pytest.mark.parametrize("on", [None, "bravo"])
def test_a_value_is_set_changed_and_deleted(dash: Dash, pair: tuple[Node, Node], on: str | None) -> None:
    node = pair[0] if on is None else pair[1]
    dash.go("context", "Context")
    if on is not None:
        dash.page.get_by_label("Machine").select_option(on)
    dash.press("Set a value")
    dash.page.get_by_role("textbox", name="Key").fill("a/b c%")
    dialog_sets(dash, "one")
    dash.says("a/b c% is set")
    assert node.ask("GET", "/context/a%2Fb%20c%25").body["value"] == "one"
    entries = dash.page.get_by_role("list", name="Entries")
    entries.get_by_role("button", name="a/b c%").click()
    dialog_sets(dash, "two", "7200")
    expect(entries).to_contain_text("two")
    expect(entries).to_contain_text(re.compile(r"1 h 5\d min left|2 h 0 min left"))
    entries.get_by_role("button", name="a/b c%").click()
    dash.press("Delete")
    dash.press("Yes")
    dash.says("a/b c% is gone")
    assert node.ask("GET", "/context/a%2Fb%20c%25").status == 404


def test_lifetimes_tick_and_what_others_set_comes_by_itself(dash: Dash, pair: tuple[Node, Node]) -> None:
    dash.go("context", "Context")
    pair[0].ask("PUT", "/context/short", {"value": "x", "ttl": 3000})
    row = dash.page.get_by_role("listitem").filter(has_text="short")
    left = row.get_by_text(re.compile(r"^(50|4\d) min.* left$"))
    expect(left).to_be_visible()
    expect(left).not_to_have_text(left.inner_text())
    dash.page.clock.install()
    dash.page.clock.fast_forward(3_000_000)  # however long the machine takes meanwhile: time itself is not waited for
    expect(row).to_be_hidden()


def test_the_filter_looks_into_keys_and_values(dash: Dash, pair: tuple[Node, Node]) -> None:
    for key, value in (("apple", "red"), ("pear", "green"), ("plum", "APPLE-like")):
        pair[0].ask("PUT", f"/context/{key}", {"value": value})
    dash.go("context", "Context").sees("pear")
    dash.page.get_by_label("Filter by key or value").fill("apple")
    rows = dash.page.get_by_role("list", name="Entries").get_by_role("listitem")
    expect(rows).to_have_count(2)
    dash.page.get_by_label("Filter by key or value").fill("nothing of it")
    dash.sees("Nothing fits the filter.")
