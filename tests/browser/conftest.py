"""A browser, daemons to look at, and the tabs of a test."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Error, sync_playwright

from loopsy.core.principals import Scope
from loopsy.testing import axe, fake_agent
from loopsy.testing.nodes import Node, keyed_pair
from tests.browser.page import PATIENCE_MS, Dash, context_of
from tests.integration.conftest import make_agent, make_node

__all__ = ["make_agent", "make_node"]
CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
MakeTab = Callable[..., Dash]


@pytest.fixture(autouse=True)
def _leaves_nothing_behind() -> None:
    """Browser and daemons live for longer than a test, and are ended by their fixtures."""


def chromium() -> str:
    """The browser's command; without one these tests are skipped."""
    found = next(filter(None, map(shutil.which, (os.environ.get("LOOPSY_TEST_CHROMIUM", ""), *CHROMIUM))), None)
    if found is None:
        pytest.skip("there is no Chromium here (Debian: apt-get install chromium)")
    return found


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """One Chromium for all tests; each has profiles of its own."""
    executable = chromium()
    arguments = ["--host-resolver-rules=MAP *.example 127.0.0.1"]  # names that an attacker has made point here
    if os.geteuid() == 0:
        arguments.append("--no-sandbox")  # Chromium's own sandbox can't be made by root
    with sync_playwright() as playwright:
        try:
            started = playwright.chromium.launch(executable_path=executable, args=arguments, timeout=3 * PATIENCE_MS)
        except Error as why:
            pytest.skip(f"Chromium does not start: {why.message[:300]}")
        yield started
        started.close()


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """``claude`` is the stand-in of loopsy/testing/fake_agent, for daemons that are started meanwhile."""
    with pytest.MonkeyPatch.context() as patch:
        place = fake_agent.install(tmp_path_factory.mktemp("agents"))
        patch.setenv("PATH", f"{place}{os.pathsep}{os.environ['PATH']}")
        yield


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory, stand_in: None) -> Iterator[tuple[Node, Node]]:
    """Two daemons that know each other."""
    root = tmp_path_factory.mktemp("two")
    a, b = Node(root / "alfa", "alfa"), Node(root / "bravo", "bravo")
    allowed = [str(tmp_path_factory.getbasetemp())]
    keyed_pair(a, b, aiTasks={"maxConcurrent": 3}, transfer={"allowedPaths": allowed})
    try:
        a.start()
        b.start()
        b.ask("PUT", "/trust/alfa/scopes", {"scopes": [scope.value for scope in Scope]})  # "approve" too
        yield a, b
    finally:
        a.stop()
        b.stop()
    assert "Traceback" not in a.log + b.log


@pytest.fixture
def tab(browser: Browser) -> Iterator[MakeTab]:
    """Makes tabs that are let in by a node: ``tab(node)``, each in a profile of its own unless ``beside`` gives one. At
    the end none of them has complained."""
    contexts: list[BrowserContext] = []
    tabs: list[Dash] = []

    def make(node: Node, *, beside: Dash | None = None, **more: Any) -> Dash:
        context = context_of(browser, **more) if beside is None else beside.page.context
        contexts.append(context)
        dash = Dash.on(context, node)
        tabs.append(dash)
        return dash.enter()

    yield make
    complaints = [complaint for dash in tabs for complaint in dash.complaints]
    for context in {id(context): context for context in contexts}.values():
        context.close()
    assert complaints == []


@pytest.fixture
def dash(tab: MakeTab, pair: tuple[Node, Node]) -> Dash:
    """A tab of the first daemon."""
    return tab(pair[0])


@pytest.fixture(scope="session")
def accessibility() -> None:
    """Skips where axe-core is not to be had."""
    try:
        axe.source()
    except axe.Unavailable as why:
        pytest.skip(str(why))


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A directory for a test's files."""
    made = tmp_path / "files"
    made.mkdir()
    return made
