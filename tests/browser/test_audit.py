"""The audit log."""

from __future__ import annotations

from playwright.sync_api import Route, expect

from loopsy.testing.nodes import Node
from tests.browser.page import Dash
from tests.integration.conftest import until


def test_who_did_what_with_the_page_s_own_reading_left_out(dash: Dash, pair: tuple[Node, Node]) -> None:
    pair[1].ask("POST", "/peers/alfa/execute", {"command": "echo", "args": ["from bravo"]})
    pair[0].ask("POST", "/execute", {"command": "sh", "args": ["-c", "exit 7"]})
    lines = ("echo 'from bravo'", "exit 7")
    until(lambda: all(line in str(pair[0].ask("GET", "/audit?limit=1000").body) for line in lines), "their lines")
    dash.go("audit", "Audit")
    table = dash.page.get_by_role("table", name="Audit log")
    expect(table).to_contain_text("echo 'from bravo'")
    expect(table).to_contain_text("exit 7")
    expect(table).not_to_contain_text("GET /api/v1/status")
    dash.page.get_by_label("Also what this page").check()
    expect(table).to_contain_text("GET /api/v1/status")
    dash.page.get_by_label("Only lines that hold").fill("from bravo")
    expect(table.locator("tbody tr")).to_have_count(1)
    dash.page.get_by_label("Only lines that hold").fill("nothing of that kind")
    dash.sees("Nothing fits.")


def test_older_lines_are_fetched(dash: Dash, pair: tuple[Node, Node]) -> None:
    for number in range(130):
        pair[0].ask("PUT", f"/context/k{number}", {"value": "x"})
    dash.go("audit", "Audit")
    rows = dash.page.get_by_role("table", name="Audit log").locator("tbody tr")
    expect(rows.first).to_be_visible()
    dash.page.get_by_label("Only lines that hold").fill("/context/k")
    expect(rows).to_have_count(130)  # all of it: one page's answer at a time, whichever comes last is shown
    dash.page.get_by_label("Also what this page").check()
    expect(rows).to_have_count(100)
    dash.press("Older lines")
    expect(rows).to_have_count(130)


def test_an_answer_that_comes_after_a_newer_question_is_not_shown(dash: Dash, pair: tuple[Node, Node]) -> None:
    pair[0].ask("POST", "/execute", {"command": "true"})
    dash.go("audit", "Audit")
    word = dash.page.get_by_label("Only lines that hold")
    held: list[Route] = []
    dash.page.route("**/audit?*word=execute*", lambda route: held.append(route))
    with dash.page.expect_request("**/audit?*word=execute*"):
        word.fill("execute")
    word.fill("nothing holds this")
    dash.sees("Nothing fits.")
    with dash.page.expect_response("**/audit?*word=execute*") as late:
        held[0].continue_()
    late.value.finished()
    dash.page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    dash.sees("Nothing fits.")
