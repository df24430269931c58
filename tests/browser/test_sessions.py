"""A page that is left open: the daemon goes and returns, the session ends."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

from playwright.sync_api import Browser, expect

from loopsy.cli.dashboard import leading_page
from loopsy.testing.nodes import Node
from tests.browser.conftest import MakeTab
from tests.browser.page import PATIENCE_MS, Dash, context_of

MakeNode = Callable[..., Node]
OVER = "This browser's session is over."


def is_over(dash: Dash) -> None:
    expect(dash.page.get_by_role("alert")).to_have_text(OVER, timeout=PATIENCE_MS)
    expect(dash.page.get_by_text("loopsy dashboard")).to_be_visible()


def test_a_restart_is_told_and_recovered_from(make_node: MakeNode, tab: MakeTab) -> None:
    node = make_node().start()
    node.ask("PUT", "/context/before", {"value": "x"})
    dash = tab(node).go("context", "Context")
    dash.press("Set a value")
    dash.page.get_by_role("textbox", name="Key").fill("half")
    dash.page.get_by_label("Value", exact=True).fill("half a text")
    node.stop()
    expect(dash.page.locator(".bar .live")).to_have_text("not fresh: the daemon does not answer", timeout=PATIENCE_MS)
    dash.press("Save")
    dash.says("the daemon does not answer")
    node.start()
    dash.is_live()
    expect(dash.page.get_by_label("Value", exact=True)).to_have_value("half a text")
    dash.press("Save")
    dash.says("half is set")
    expect(dash.page.get_by_role("list", name="Entries")).to_contain_text("half a text")
    node.ask("PUT", "/context/after", {"value": "came by the new stream"})
    dash.sees("came by the new stream")


def test_a_reload_stays_where_it_was(dash: Dash) -> None:
    dash.go("context?on=bravo", "Context")
    dash.page.reload()
    expect(dash.page.get_by_role("heading", level=1, name="Context")).to_be_visible()
    expect(dash.page.get_by_label("Machine")).to_have_value("bravo")


def test_signing_out_ends_all_tabs_of_the_browser(dash: Dash, tab: MakeTab, pair: tuple[Node, Node]) -> None:
    other = tab(pair[0])  # another profile: another session
    dash.press("Sign out")
    is_over(dash)
    dash.page.reload()
    is_over(dash)
    other.go("peers", "Peers").sees("bravo")


def test_a_new_key_ends_all_sessions_at_once(make_node: MakeNode, tab: MakeTab) -> None:
    node = make_node().start()
    one, other = tab(node), tab(node)
    other.go("terminal", "Terminal").press("Open a shell")
    expect(other.page.locator(".screen[data-state=live]")).to_be_visible()
    node.run("key", "generate", check=True)
    is_over(one)
    is_over(other)


def test_an_expired_cookie_says_what_to_do(make_node: MakeNode, tab: MakeTab) -> None:
    """Twelve hours from its last use: the daemon's note of it is put back by a day while it is down."""
    node = make_node().start()
    dash = tab(node)
    node.stop()
    import sqlite3

    with sqlite3.connect(node.layout.database) as db:
        changed = db.execute(
            "UPDATE facts SET value = ? WHERE name LIKE 'dashboard.session.%'", (repr(time.time() - 24 * 3600),)
        )
        assert changed.rowcount == 1
    db.close()
    node.start()
    is_over(dash)


def test_a_session_outlives_the_daemon(make_node: MakeNode, tab: MakeTab) -> None:
    node = make_node().start()
    dash = tab(node)
    node.kill()
    node.start()
    dash.page.reload()
    dash.is_live()


def test_an_address_works_once(dash: Dash, pair: tuple[Node, Node]) -> None:
    url = pair[0].ask("POST", "/dashboard/launch").body["url"]
    page = dash.page
    page.goto("about:blank")
    page.goto(url)
    expect(page.get_by_role("navigation", name="Views")).to_be_visible()
    assert "#" not in page.url or "token" not in page.url
    page.goto("about:blank")
    page.goto(url)
    expect(page.get_by_role("status")).to_contain_text("Run “loopsy dashboard” again")
    expect(page).not_to_have_url(re.compile(re.escape(url.partition("#")[2])))


def test_the_page_that_loopsy_dashboard_writes_leads_in(browser: Browser, pair: tuple[Node, Node]) -> None:
    """A file of this user's, opened by the desktop's browser: to the daemon that is another site."""
    page = context_of(browser).new_page()
    page.goto(leading_page(pair[0].ask("POST", "/dashboard/launch").body["url"]))
    expect(page.get_by_role("navigation", name="Views")).to_be_visible(timeout=PATIENCE_MS)
    page.context.close()


def test_a_hidden_tab_gives_its_connection_back(dash: Dash) -> None:
    """Browsers hold six connections to one host, over all tabs."""
    page = dash.page
    page.evaluate("""() => {
      Object.defineProperty(document, "hidden", {get: () => window.away, configurable: true});
      window.setTimeout = ((real) => (work, ms) => real(work, ms === 30000 ? 10 : ms))(window.setTimeout);
      EventSource.prototype.close = ((real) => function () { real.call(this); window.isGivenBack = true; })(
        EventSource.prototype.close);
      window.away = true; document.dispatchEvent(new Event("visibilitychange"));
    }""")
    page.wait_for_function("() => window.isGivenBack")
    page.evaluate("() => { window.away = false; document.dispatchEvent(new Event('visibilitychange')); }")
    dash.is_live()
    page.request.put(f"{page.url.partition('/dashboard')[0]}/api/v1/health")  # any request: the page still answers
