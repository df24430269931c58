"""A page of the dashboard as a test drives it: what it logged, what its policy refused, what axe finds, a picture."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from attrs import define, field
from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect

from loopsy.testing import axe
from loopsy.testing.nodes import Node
from tests.waiting import wait_until

ROOT = Path(__file__).parent.parent.parent
PICTURES = Path(os.environ.get("LOOPSY_TEST_ARTEFACTS", ROOT / "test-artefacts")) / "dashboard"
WIDE, NARROW = (1280, 800), (390, 844)
PATIENCE_MS = 60_000
"""No condition takes a tenth of this, unless the machine has much else to do."""
expect.set_options(timeout=PATIENCE_MS)
SERIOUS = ("serious", "critical")
UNREACHED = re.compile(r"Failed to load resource: (net::ERR_|the server responded with a status of)")
"""Chromium's own line about each request that failed: what the page made of that is what a test looks at."""
WATCH = """
document.addEventListener("securitypolicyviolation",
  (event) => console.error(`policy: ${event.violatedDirective} ${event.blockedURI}`));
window.toldOverThePage = [];
new MutationObserver((changes) => changes.flatMap((change) => [...change.addedNodes])
  .flatMap((node) => node.querySelectorAll ? [node, ...node.querySelectorAll(".toast")] : [])
  .filter((node) => node.matches(".toast"))
  .forEach((node) => window.toldOverThePage.push(node.textContent))
).observe(document, {childList: true, subtree: true});
"""
"""Also what is said over the page: it goes again after some seconds, which a busy machine may need to look there."""
TOLD = """(text) => {
  const at = window.toldOverThePage.findIndex((told) => told.includes(text));
  return at >= 0 && window.toldOverThePage.splice(0, at + 1);
}"""
SETTLED = """() => Promise.all([document.fonts.ready,
  ...document.getAnimations().filter((one) => Number.isFinite(one.effect.getComputedTiming().endTime))
    .map((one) => one.finished.catch(() => null))]).then(() => null)"""


@define
class Dash:
    """One tab, let in."""

    node: Node
    page: Page
    complaints: list[str] = field(factory=list)
    """Errors of its console, exceptions, and violations of its policy."""

    @classmethod
    def on(cls, context: BrowserContext, node: Node) -> Dash:
        """A new tab that watches itself."""
        page = context.new_page()
        dash = cls(node, page)
        page.on("console", lambda message: dash._heard(message.type, message.text))
        page.on("pageerror", lambda error: dash.complaints.append(f"exception: {error}"))
        page.add_init_script(WATCH)
        return dash

    def _heard(self, kind: str, text: str) -> None:
        if kind in ("error", "warning") and not UNREACHED.match(text):
            self.complaints.append(f"{kind}: {text}")

    def enter(self) -> Dash:
        """By a launch token, as ``loopsy dashboard`` does."""
        self.page.goto(self.node.ask("POST", "/dashboard/launch").body["url"])
        expect(self.page.get_by_role("navigation", name="Views")).to_be_visible()
        self.is_live()
        return self

    def is_live(self) -> None:
        """It says that what it shows is fresh."""
        expect(self.page.locator(".bar .live")).to_have_text("live", timeout=PATIENCE_MS)

    def go(self, place: str, heading: str | None = None) -> Dash:
        """To ``#/place``; returns when its heading is there."""
        self.page.evaluate("(place) => { location.hash = `#/${place}`; }", place)
        if heading is not None:
            expect(self.page.get_by_role("heading", level=1, name=heading)).to_be_visible()
        return self

    def button(self, name: str, **more: Any) -> Locator:
        """A button by its name, whole."""
        return self.page.get_by_role("button", name=name, exact=True, **more)

    def press(self, name: str) -> None:
        """Press it."""
        self.button(name).click()

    def says(self, text: str) -> None:
        """It says so for a while, over the page; what it said until then is forgotten."""
        wait_until(lambda: self.page.evaluate(TOLD, text), f"{text!r} over the page")

    def sees(self, text: str) -> None:
        """A text stands somewhere in the view."""
        expect(self.page.locator("#main").get_by_text(text).first).to_be_visible()

    def settled(self) -> None:
        """Fonts are there, and nothing moves any more."""
        self.page.evaluate(SETTLED)

    def picture(self, name: str) -> None:
        """A screenshot, kept."""
        PICTURES.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=PICTURES / f"{name}.png", full_page=False)

    def inaccessible(self, view: str) -> list[str]:
        """What axe-core finds that is serious."""
        self.page.evaluate(axe.source())  # by the debugger's door: no script of ours is let in by the page's policy
        found = self.page.evaluate("() => axe.run(document, {resultTypes: ['violations']})")
        return [
            f"{view}: {fault['id']}: {fault['help']}: {node['html'][:200]} {node['failureSummary'][:300]}"
            for fault in found["violations"]
            if fault["impact"] in SERIOUS
            for node in fault["nodes"][:3]
        ]

    def too_wide(self, view: str) -> list[str]:
        """What makes the page itself scroll sideways."""
        width, room = self.page.evaluate("() => [document.documentElement.scrollWidth, innerWidth]")
        return [f"{view}: {width} px wide in {room} px: {self._wide()}"] if width > room else []

    def _wide(self) -> Any:
        return self.page.evaluate(
            """() => [...document.querySelectorAll("body *")]
            .filter((one) => one.getBoundingClientRect().right > innerWidth + 1)
            .map((one) => one.outerHTML.slice(0, 120)).slice(0, 5)"""
        )


def context_of(browser: Browser, size: tuple[int, int] = WIDE, theme: str = "light", **more: Any) -> BrowserContext:
    """A fresh profile of a browser."""
    options: dict[str, Any] = {"viewport": {"width": size[0], "height": size[1]}, "color_scheme": theme, **more}
    context = browser.new_context(**options)
    context.set_default_timeout(PATIENCE_MS)
    return context
