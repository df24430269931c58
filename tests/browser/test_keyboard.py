"""The main actions without a mouse."""

from __future__ import annotations

from playwright.sync_api import expect

from loopsy.testing.nodes import Node
from tests.browser.page import PATIENCE_MS, Dash
from tests.browser.test_terminal import is_live, shows
from tests.integration.conftest import until
from tests.integration.tasking import Client

FOCUSED = """() => { const one = document.activeElement;
  const label = one.labels?.[0]?.querySelector("span")?.innerText;
  return one.getAttribute("aria-label") || label || one.innerText || one.tagName; }"""


def tab_to(dash: Dash, name: str, most: int = 40) -> None:
    """Tab until a thing of this name has the focus, and shows it."""
    for _ in range(most):
        dash.page.keyboard.press("Tab")
        if str(dash.page.evaluate(FOCUSED)).startswith(name):
            outline = dash.page.evaluate("() => getComputedStyle(document.activeElement).outlineStyle")
            assert outline != "none", f"{name} does not show that it has the focus"
            return
    raise AssertionError(f"{name} is not reached")


def focused(dash: Dash, name: str) -> None:
    """The thing of this name gets the focus."""
    until(lambda: dash.page.evaluate(FOCUSED) == name, f"the focus on {name}")


def keys(dash: Dash, *pressed: str) -> None:
    for key in pressed:
        dash.page.keyboard.press(key)


def test_the_content_is_one_tab_away(dash: Dash) -> None:
    dash.page.reload()
    dash.is_live()
    keys(dash, "Tab")
    focused(dash, "To the content")
    keys(dash, "Enter")
    expect(dash.page.locator("#main")).to_be_focused()


def test_a_value_is_set(dash: Dash, pair: tuple[Node, Node]) -> None:
    tab_to(dash, "Context")
    keys(dash, "Enter")
    expect(dash.page.get_by_role("heading", level=1, name="Context")).to_be_visible()
    tab_to(dash, "Set a value")
    keys(dash, "Enter")
    expect(dash.page.get_by_role("textbox", name="Key")).to_be_focused()
    dash.page.keyboard.type("by-keys")
    tab_to(dash, "Value")
    dash.page.keyboard.type("typed")
    tab_to(dash, "Lifetime")
    keys(dash, "Enter")
    dash.says("by-keys is set")
    assert pair[0].ask("GET", "/context/by-keys").body["value"] == "typed"
    focused(dash, "Set a value")  # where one was


def test_a_question_is_answered(dash: Dash, pair: tuple[Node, Node]) -> None:
    here = Client(pair[0])
    task = here.start("ask echo hi\ndone good")
    link = dash.page.get_by_role("region", name="Waits for you").get_by_role("link")
    expect(link).to_be_visible(timeout=PATIENCE_MS)
    link.focus()
    keys(dash, "Enter")
    expect(dash.button("Allow")).to_be_visible()
    tab_to(dash, "Allow")
    keys(dash, "Space")
    assert here.over(task)["status"] == "completed"


def test_dialogs_hold_the_focus_and_escape_closes_them(dash: Dash) -> None:
    dash.go("tasks", "AI tasks")
    tab_to(dash, "New AI task")
    keys(dash, "Enter")
    dialog = dash.page.get_by_role("dialog")
    expect(dialog.get_by_label("What shall it do?")).to_be_focused()
    keys(dash, "Escape")
    expect(dialog).to_be_hidden()
    focused(dash, "New AI task")


def test_a_shell_is_opened_and_left(dash: Dash) -> None:
    dash.go("terminal", "Terminal")
    tab_to(dash, "Open a shell")
    keys(dash, "Enter")
    is_live(dash)
    dash.page.keyboard.type("echo by-$((1+1))-keys\n")
    shows(dash, "by-2-keys")
    keys(dash, "Control+F6")
    expect(dash.page.get_by_role("link", name="All terminals")).to_be_focused()
