"""Terminals of any machine, and single commands with their output as it comes."""

from __future__ import annotations

import shutil
from typing import Any

import pytest
from playwright.sync_api import expect

from loopsy.testing.nodes import Node
from tests.browser.conftest import MakeTab
from tests.browser.page import PATIENCE_MS, Dash
from tests.integration.conftest import until

LINES = """() => {
  const buffer = document.querySelector(".screen").loopsyTerminal?.buffer.active;
  const line = (at) => buffer.getLine(at).translateToString(true);
  return buffer ? [...Array(buffer.length).keys()].map(line).join("\\n") : "";
}"""


def shows(dash: Dash, text: str) -> None:
    """The terminal's screen (it is drawn, so it is asked) holds a text."""
    dash.page.wait_for_function(f"(text) => ({LINES})().includes(text)", arg=text, timeout=PATIENCE_MS)


def is_live(dash: Dash) -> None:
    expect(dash.page.locator(".screen[data-state=live]")).to_be_visible(timeout=PATIENCE_MS)


def write(dash: Dash, text: str) -> None:
    dash.page.keyboard.type(text)


def opened(dash: Dash, node: Node, on: str | None = None, **asked: Any) -> str:
    """A program on a terminal, shown; its id."""
    base = f"/peers/{on}" if on else ""
    terminal = str(node.ask("POST", f"{base}/terminals", asked).body["terminalId"])
    dash.go(f"terminal/{terminal}" + (f"?on={on}" if on else ""))
    is_live(dash)
    return terminal


@pytest.mark.parametrize("on", [None, "bravo"])
def test_a_shell_is_opened_and_obeys(dash: Dash, on: str | None) -> None:
    dash.go("terminal", "Terminal")
    if on is not None:
        dash.page.get_by_label("Machine").select_option(on)
    dash.press("Open a shell")
    is_live(dash)
    write(dash, "echo $((6 * 7))-answer\n")
    shows(dash, "42-answer")
    size = dash.page.evaluate(
        "() => { const {rows, cols} = document.querySelector('.screen').loopsyTerminal; return `${rows} ${cols}`; }"
    )
    write(dash, f'until [ "$(stty size)" = "{size}" ]; do sleep 0.1; done; echo $((7 * 7))-fits\n')
    shows(dash, "49-fits")
    write(dash, "exit 3\n")
    shows(dash, "[ended with 3]")


@pytest.mark.skipif(shutil.which("vi") is None, reason="vi is not here")
@pytest.mark.parametrize("on", [None, "bravo"])
def test_vi_is_painted_anew_after_a_reload(dash: Dash, pair: tuple[Node, Node], files: Any, on: str | None) -> None:
    text = files / "text.txt"
    text.write_text("first line\nsecond line\n")
    # by its name alone: vi waits for a key where a long path does not fit its last line
    opened(dash, pair[0], on, command="vi", args=["-u", "NONE", text.name], cwd=str(files))
    shows(dash, "second line")
    write(dash, "Gofrom the browser: žluťoučký 🐍")
    shows(dash, "from the browser: žluťoučký")
    dash.page.reload()
    is_live(dash)
    shows(dash, "from the browser: žluťoučký")
    shows(dash, "first line")
    dash.picture(f"vi-{on or 'here'}")
    dash.page.keyboard.press("Escape")
    write(dash, ":wq\n")
    shows(dash, "[ended with 0]")
    assert text.read_text() == "first line\nsecond line\nfrom the browser: žluťoučký 🐍\n"


def test_two_viewers_and_one_that_only_watches(dash: Dash, tab: MakeTab, pair: tuple[Node, Node]) -> None:
    terminal = opened(dash, pair[0], command="cat")
    other, watcher = tab(pair[0]), tab(pair[0])
    other.go(f"terminal/{terminal}")
    watcher.go(f"terminal/{terminal}?watch=1")
    for one in (other, watcher):
        is_live(one)
    write(dash, "from one\n")
    shows(other, "from one")
    write(other, "from the other\n")
    for one in (dash, watcher):
        shows(one, "from the other")
    watcher.page.locator(".screen").click()
    write(watcher, "from the watcher\n")
    write(dash, "the end\n")
    shows(watcher, "the end")
    assert "from the watcher" not in dash.page.evaluate(LINES)
    dash.go("overview", "Overview")
    until(lambda: viewers(pair[0], terminal) == 2, "one viewer's leave")  # which is no event: no page would show it
    dash.go("terminal", "Terminal")
    row = dash.page.get_by_role("row").filter(has_text=terminal[:8])
    expect(row.get_by_role("cell").nth(2)).to_have_text("2", timeout=PATIENCE_MS)
    row.get_by_role("button", name="End cat").click()
    dash.press("Yes")
    shows(other, "[ended with")
    expect(row.get_by_role("button", name="Remove cat")).to_be_visible(timeout=PATIENCE_MS)
    row.get_by_role("button", name="Remove cat").click()
    expect(row).to_be_hidden(timeout=PATIENCE_MS)


def viewers(node: Node, terminal: str) -> int:
    (found,) = (one for one in node.ask("GET", "/terminals").body["terminals"] if one["terminalId"] == terminal)
    return int(found["viewers"])


def test_much_output_comes_whole(dash: Dash, pair: tuple[Node, Node]) -> None:
    opened(dash, pair[0], command="sh", args=["-c", "seq 200000; echo done-and-over; cat"])
    dash.page.wait_for_function(f"() => ({LINES})().includes('done-and-over')", timeout=3 * PATIENCE_MS)


@pytest.mark.parametrize("on", [None, "bravo"])
def test_a_command_streams_and_ends(dash: Dash, on: str | None) -> None:
    dash.go(f"terminal{f'?on={on}' if on else ''}", "Terminal")
    line = dash.page.get_by_label("A line for the shell there")
    line.fill("echo out; echo err >&2; echo '<b>no tag</b>'; exit 4")
    line.press("Enter")
    output = dash.page.get_by_label("Output")
    expect(output).to_contain_text("<b>no tag</b>", timeout=PATIENCE_MS)
    expect(output).to_contain_text("err")
    dash.sees("ended with 4")


def test_a_command_is_stopped(dash: Dash, pair: tuple[Node, Node]) -> None:
    dash.go("terminal", "Terminal")
    dash.page.get_by_label("A line for the shell there").fill("echo begun; sleep 600")
    dash.press("Run")
    expect(dash.page.get_by_label("Output")).to_contain_text("begun", timeout=PATIENCE_MS)
    dash.press("Stop")
    dash.sees("ended with cancelled")
    dash.go("overview", "Overview")
    expect(dash.page.get_by_text("sleep 600")).to_be_hidden(timeout=PATIENCE_MS)


def test_a_command_that_may_not_run_says_why(dash: Dash, pair: tuple[Node, Node]) -> None:
    scopes = pair[1].ask("GET", "/peers").body["peers"][0]["scopes"]
    pair[1].ask("PUT", "/trust/alfa/scopes", {"scopes": ["context"]})
    try:
        dash.go("terminal?on=bravo", "Terminal")
        dash.page.get_by_label("A line for the shell there").fill("true")
        dash.press("Run")
        expect(dash.page.get_by_role("alert").filter(has_text="may not use execute")).to_be_visible()
    finally:
        pair[1].ask("PUT", "/trust/alfa/scopes", {"scopes": scopes})
