"""The overview: what runs and who is there, as it changes."""

from __future__ import annotations

from playwright.sync_api import expect

from tests.browser.page import Dash


def card(dash: Dash, name: str) -> object:
    return dash.page.get_by_role("region", name=name)


def test_both_machines_are_there(dash: Dash) -> None:
    for name in ("alfa", "bravo"):
        expect(dash.page.get_by_role("region", name=name)).to_contain_text("Platform")
