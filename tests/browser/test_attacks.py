"""The browser next door: pages of other origins, with the cookie in the same browser, and names made to point here."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from loopsy.testing.nodes import Node
from tests.browser.conftest import MakeTab
from tests.browser.page import Dash
from tests.integration.conftest import until


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[int]:
    """A web server of somebody else's, on another port of this machine: the same site for cookies, another origin."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = b"<!doctype html><title>elsewhere</title><body>a page of somebody else"
            self.send_response(200)
            self.send_header("content-type", "text/html")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()
    server.server_close()


ORIGINS = ["http://127.0.0.1:{port}/", "http://localhost:{port}/", "http://evil.example:{port}/"]
"""Same site, another site that is this machine as well, and a name that an attacker owns."""


@pytest.fixture(params=ORIGINS, ids=["same site", "localhost", "evil"])
def evil(dash: Dash, elsewhere: int, request: pytest.FixtureRequest) -> Page:
    """A page of another origin in the browser that is let in."""
    page = dash.page.context.new_page()
    page.goto(request.param.format(port=elsewhere))
    return page


@contextmanager
def nothing_happens(node: Node) -> Iterator[list[dict[str, Any]]]:
    """Meanwhile no request that isn't our own page's is let in; those that were refused are in the list at the end."""
    last = node.ask("GET", "/audit?limit=1").body["lines"][0]["seq"]
    node.ask("PUT", "/context/canary", {"value": "alive"})
    refused: list[dict[str, Any]] = []
    yield refused
    assert node.ask("GET", "/context/canary").body["value"] == "alive"
    assert node.ask("GET", "/execute/jobs").body["jobs"] == []
    assert node.ask("GET", "/terminals").body["terminals"] == []
    for line in node.ask("GET", "/audit?limit=1000").body["lines"]:
        if line["seq"] > last and "marked" in line["path"]:
            assert line["status"] >= 400, line
            refused.append(line)


SCRIPT = """async ([own, attempt]) => {
  const api = own + "/api/v1";
  const body = JSON.stringify({command: "touch", args: ["/tmp/owned"]});
  const told = (element, more) => new Promise((resolve) => {
    element.onload = () => resolve("loaded"); element.onerror = () => resolve("failed");
    Object.assign(element, more); document.body.append(element); setTimeout(() => resolve("nothing"), 60000);
  });
  const sent = (path, method, type, text, mode) => fetch(api + path, {method, mode, credentials: "include",
    headers: type ? {"content-type": type} : {}, body: text})
    .then(async (a) => `${a.type} ${a.status} ${await a.text()}`, () => "failed");
  const form = (action, enctype, name, value) => {
    const frame = document.createElement("iframe"); frame.name = "f" + Math.random(); document.body.append(frame);
    const made = document.createElement("form");
    Object.assign(made, {method: "post", action: api + action, enctype, target: frame.name});
    const field = document.createElement("input"); Object.assign(field, {name, value}); made.append(field);
    document.body.append(made);
    return new Promise((resolve) => {
      frame.onload = () => resolve("answered"); made.submit(); setTimeout(() => resolve("nothing"), 60000);
    });
  };
  const attempts = {
    read: () => sent("/context/canary?marked", "GET", null, undefined, "cors"),
    readOpaque: () => sent("/status", "GET", null, undefined, "no-cors"),
    simplePost: () => sent("/execute", "POST", "text/plain", body, "no-cors"),
    json: () => sent("/execute", "POST", "application/json", body, "cors"),
    remove: () => sent("/context/canary", "DELETE", null, undefined, "cors"),
    signOut: () => sent("/dashboard/session", "DELETE", null, undefined, "cors"),
    enter: () => sent("/dashboard/session", "POST", "application/json", '{"token": "x"}', "cors"),
    launch: () => sent("/dashboard/launch", "POST", "text/plain", "", "no-cors"),
    terminal: () => sent("/terminals", "POST", "text/plain", "{}", "no-cors"),
    xhr: () => new Promise((resolve) => {
      const x = new XMLHttpRequest(); x.open("GET", api + "/status"); x.withCredentials = true;
      x.onload = () => resolve(x.responseText); x.onerror = () => resolve("failed"); x.send(); }),
    formText: () => form("/execute", "text/plain", '{"command": "touch", "args": ["/tmp/owned", "', '"]}'),
    formUrl: () => form("/execute", "application/x-www-form-urlencoded", "command", "touch"),
    formFile: () => form("/transfer/push", "multipart/form-data", "destPath", "/tmp/owned"),
    image: () => told(document.createElement("img"), {src: api + "/transfer/file?path=/etc/hostname"}),
    script: () => told(document.createElement("script"), {src: own + "/dashboard/ui.js"}),
    sheet: () => told(document.createElement("link"), {rel: "stylesheet", href: own + "/dashboard/style.css"}),
    events: () => new Promise((resolve) => { const s = new EventSource(api + "/events", {withCredentials: true});
      s.onopen = s.onmessage = () => resolve("open"); s.onerror = () => { s.close(); resolve("failed"); }; }),
    socket: () => new Promise((resolve) => { const s = new WebSocket(api.replace("http", "ws") + "/execute/socket");
      s.onopen = () => resolve("open"); s.onerror = s.onclose = () => resolve("failed"); }),
    attach: () => new Promise((resolve) => {
      const s = new WebSocket(api.replace("http", "ws") + "/terminals/x/attach", "loopsy.terminal.1");
      s.onopen = () => resolve("open"); s.onerror = s.onclose = () => resolve("failed"); }),
    beacon: () => Promise.resolve(String(navigator.sendBeacon(api + "/execute", body))),
  };
  return attempts[attempt]();
}"""
READS = ("read", "xhr", "image", "script", "sheet", "events", "socket", "attach", "json", "remove", "signOut", "enter")
WRITES = ("readOpaque", "simplePost", "launch", "terminal", "formText", "formUrl", "formFile", "beacon")


def posts(node: Node, path: str) -> list[int]:
    """How those to a path were answered."""
    lines = node.ask("GET", "/audit?limit=1000").body["lines"]
    return [line["status"] for line in lines if line["method"] == "POST" and line["path"] == f"/api/v1{path}"]


def test_nothing_is_read_or_done(evil: Page, dash: Dash, pair: tuple[Node, Node]) -> None:
    own = f"http://127.0.0.1:{pair[0].port}"
    with nothing_happens(pair[0]):
        answers = {attempt: evil.evaluate(SCRIPT, [own, attempt]) for attempt in (*READS, *WRITES)}
        for attempt in READS:
            assert answers[attempt] == "failed", answers
        for attempt in ("readOpaque", "simplePost", "launch", "terminal"):
            assert answers[attempt] in ("opaque 0 ", "failed"), answers
    for path in ("/execute", "/terminals", "/dashboard/launch", "/transfer/push"):
        # one that does not arrive shows nothing
        until(lambda path=path: 403 in posts(pair[0], path), f"an attack on {path}")
        assert path == "/dashboard/launch" or set(posts(pair[0], path)) == {403}  # the test itself launches
    dash.page.reload()
    dash.is_live()  # its session is what it was


def test_it_is_not_framed(evil: Page, pair: tuple[Node, Node]) -> None:
    own = f"http://127.0.0.1:{pair[0].port}"
    for path in ("/dashboard/", "/dashboard/enter", "/api/v1/status"):
        evil.evaluate(
            """(src) => new Promise((resolve, reject) => { const f = document.createElement("iframe");
            f.onload = resolve; setTimeout(() => reject("it comes to no end"), 60000);
            f.src = src; document.body.append(f); })""",
            own + path,
        )
        frame = evil.frames[-1]
        assert "loopsy" not in frame.content()
        assert frame.get_by_role("navigation").count() == 0


def test_a_window_that_it_opens_is_out_of_its_reach(evil: Page, pair: tuple[Node, Node]) -> None:
    own = f"http://127.0.0.1:{pair[0].port}"
    with evil.context.expect_page() as opened:
        evil.evaluate("(url) => { window.theirs = window.open(url); }", f"{own}/dashboard/")
    opened.value.wait_for_load_state()
    expect(opened.value.get_by_role("navigation", name="Views")).to_be_visible()  # it opens, as from a bookmark
    reached = "() => { try { return window.theirs.document.title; } catch (error) { return error.name; } }"
    assert evil.evaluate(reached) in ("SecurityError", "TypeError")


def test_a_name_that_points_here_is_refused(dash: Dash, pair: tuple[Node, Node]) -> None:
    """DNS rebinding: the attacker's name leads to our port, so its pages are of the same origin as our answers."""
    page = dash.page.context.new_page()
    for path in ("/dashboard/", "/api/v1/status", "/api/v1/health", "/dashboard/enter"):
        answer = page.goto(f"http://evil.example:{pair[0].port}{path}")
        assert answer is not None
        assert answer.status == 421
    before = {"content_type": "text/html", "body": "<p>served by the attacker, before the name moved"}
    page.route("**/before", lambda route: route.fulfill(**before))
    page.goto(f"http://evil.example:{pair[0].port}/before")
    asked = page.evaluate("() => fetch('/api/v1/context').then((answer) => answer.status, () => 'failed')")
    assert asked in (421, "failed")  # the browser itself may hold it back
    socket = """() => new Promise((resolve) => { const s = new WebSocket(`ws://${location.host}/api/v1/execute/socket`);
      s.onopen = () => resolve("open"); s.onerror = () => resolve("failed"); })"""
    assert page.evaluate(socket) == "failed"


def test_the_cookie_is_for_our_pages_only_and_no_script_reads_it(dash: Dash, pair: tuple[Node, Node]) -> None:
    (cookie,) = dash.page.context.cookies()
    assert cookie["name"] == f"loopsy-{pair[0].port}"
    assert (cookie["httpOnly"], cookie["sameSite"], cookie["path"]) == (True, "Strict", "/")
    assert dash.page.evaluate("() => document.cookie") == ""
    stored = dash.page.evaluate("() => JSON.stringify([{...localStorage}, {...sessionStorage}])")
    assert cookie["value"] not in stored
    assert cookie["value"] not in dash.page.content()
    assert cookie["value"] not in pair[0].log + pair[0].layout.audit.read_text()


def test_no_token_stays_in_history_or_logs(dash: Dash, pair: tuple[Node, Node]) -> None:
    url = pair[0].ask("POST", "/dashboard/launch").body["url"]
    token = url.partition("#")[2]
    assert len(token) >= 40
    page = dash.page.context.new_page()
    page.goto(url)
    expect(page.get_by_role("navigation", name="Views")).to_be_visible()
    session = page.context.new_cdp_session(page)
    history = json.dumps(session.send("Page.getNavigationHistory"))
    assert token not in history
    assert token not in pair[0].log + pair[0].layout.audit.read_text()


def test_a_script_that_got_into_the_page_would_not_run(dash: Dash, tab: MakeTab) -> None:
    """The policy, seen to hold: neither inline nor from elsewhere, no form, no plug-in, no other host."""
    wanted = ["script-src-elem", "script-src-attr", "connect-src", "frame-src", "object-src"]
    found = dash.page.evaluate(
        """async (wanted) => {
        const seen = [];
        document.addEventListener("securitypolicyviolation", (event) => seen.push(event.effectiveDirective));
        const add = (tag, more) => document.body.append(Object.assign(document.createElement(tag), more));
        add("script", {textContent: "window.owned = 1"});
        add("script", {src: "http://127.0.0.1:1/x.js"});
        add("div", {innerHTML: '<img src=x onerror="window.owned = 2">'});
        add("iframe", {src: "data:text/html,x"});
        add("object", {data: "data:text/html,x"});
        await fetch("http://127.0.0.1:1/").catch(() => 0);
        for (let wait = 0; wait < 600 && !wanted.every((one) => seen.includes(one)); wait++)
          await new Promise((resolve) => setTimeout(resolve, 100));
        return [window.owned ?? null, [...new Set(seen)].sort()];
        }""",
        wanted,
    )
    assert found[0] is None
    assert set(wanted) <= set(found[1])
    dash.page.close()
    dash.complaints.clear()  # those were ours
