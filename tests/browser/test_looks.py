"""How every view looks, wide and narrow, light and dark: kept as pictures, checked by axe, nothing too wide."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from playwright.sync_api import expect

from loopsy.testing.nodes import Node
from tests.browser.conftest import MakeTab
from tests.browser.filled import fill
from tests.browser.page import NARROW, WIDE, Dash


@pytest.fixture(scope="module")
def filled(pair: tuple[Node, Node], tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Both machines have something to show."""
    return fill(*pair, tmp_path_factory.mktemp("filled"))


def views(found: dict[str, str]) -> dict[str, tuple[str, str]]:
    """By name: the place, and a text that shows that it is all there."""
    return {
        "overview": ("overview", "Build it anew"),
        "peers": ("peers", "bravo"),
        "peer": (f"peers/{found['bravo']}", "Node id"),
        "tasks": ("tasks", "Quote handling"),
        "task": (f"tasks/{found['done']}", "ended with 0"),
        "approval": (f"tasks/{found['edit']}", "claude wants to use"),
        "approval there": (f"tasks/{found['there']}?on=bravo", "rm -rf build"),
        "new task": ("tasks?new=1", "What shall it do?"),
        "messages": ("messages", "All but one."),
        "outbox": ("messages/outbox", "Are the tests green"),
        "terminals": ("terminal", "cat"),
        "terminal": (f"terminal/{found['terminal']}", "It goes on"),
        "files": (f"files?path={quote(found['folder'])}", "report.pdf"),
        "context": ("context", "plan"),
        "context there": ("context?on=bravo", "plan"),
        "audit": ("audit", "GET"),
    }


def look(dash: Dash, found: dict[str, str], mark: str) -> list[str]:
    """What is wrong, over all views: one run shows all of it."""
    faults = []
    for name, (place, text) in views(found).items():
        dash.go(place)
        expect(dash.page.get_by_text(text).first).to_be_visible()
        dash.settled()
        dash.picture(f"{name.replace(' ', '-')}-{mark}")
        faults += [*dash.too_wide(name), *dash.inaccessible(name)]
        dash.go("nowhere")  # so that dialogs close
    return faults


@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["wide", "narrow"])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_view(
    tab: MakeTab,
    pair: tuple[Node, Node],
    filled: dict[str, str],
    accessibility: None,
    size: tuple[int, int],
    theme: str,
) -> None:
    dash = tab(pair[0], size=size, theme=theme)
    (peer,) = pair[0].ask("GET", "/peers").body["peers"]
    found = {**filled, "bravo": peer["nodeId"]}
    faults = look(dash, found, f"{'wide' if size == WIDE else 'narrow'}-{theme}")
    assert not faults, "\n".join(faults)
