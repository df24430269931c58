"""AI tasks: asked for here and on a peer, watched, decided, cancelled, resumed; what they changed and cost."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from playwright.sync_api import Locator, expect

from loopsy.testing.model_api import say, scenario, shell
from loopsy.testing.nodes import Node
from tests.browser.conftest import MakeTab
from tests.browser.page import PATIENCE_MS, Dash
from tests.integration.conftest import MakeAgent
from tests.integration.tasking import Client
from tests.integration.test_tasks_real import AgentNode

AGENT_MS = 3 * PATIENCE_MS
"""A real agent takes seconds to start where nothing else does."""


def start(dash: Dash, prompt: str, cwd: Path, on: str | None = None, agent: str = "claude", **ticked: bool) -> str:
    """By the dialog; the task's id."""
    dash.go("tasks", "AI tasks").press("New AI task")
    dialog = dash.page.get_by_role("dialog", name="New AI task")
    if on is not None:
        dialog.get_by_label("Machine").select_option(on)
    dialog.get_by_label("What shall it do?").fill(prompt)
    dialog.get_by_label("Directory").fill(str(cwd))
    dialog.get_by_label("Agent").select_option(agent)
    for label, on_ in ticked.items():
        dialog.get_by_label(label.replace("_", " ")).set_checked(on_)
    dialog.get_by_role("button", name="Start").click()
    dash.page.wait_for_url("**/tasks/*")
    return str(dash.page.url.partition("#/tasks/")[2].partition("?")[0])


def log(dash: Dash) -> Locator:
    return dash.page.get_by_role("log", name="Events")


def ended(dash: Dash, status: str) -> None:
    expect(dash.page.locator("#main .spread .badge").first).to_have_text(status, timeout=PATIENCE_MS)


@pytest.mark.parametrize("on", [None, "bravo"])
def test_asked_decided_and_told(dash: Dash, pair: tuple[Node, Node], files: Path, on: str | None) -> None:
    prompt = "think hm\nsay I look.\nask echo $PWD > out\nedit note.txt some text\ndone All is well."
    task = start(dash, prompt.replace("note.txt", f"{files}/note.txt"), files, on)
    waits = dash.page.get_by_role("region", name="Waits for your decision")
    expect(waits).to_contain_text("echo $PWD > out", timeout=PATIENCE_MS)
    expect(waits).to_contain_text("without an answer")
    waits.get_by_role("button", name="Allow", exact=True).click()
    expect(waits).to_contain_text("wants to use Write", timeout=PATIENCE_MS)
    expect(waits.locator(".diff .add")).to_have_text("+some text\n")
    waits.get_by_label("Word to the agent, if denied").fill("not that file")
    waits.get_by_role("button", name="Deny").click()
    expect(log(dash)).to_contain_text("All is well.", timeout=PATIENCE_MS)
    ended(dash, "completed")
    expect(log(dash)).to_contain_text("not that file")
    assert (files / "out").read_text().strip() == str(files)
    assert not (files / "note.txt").exists()
    dash.page.get_by_text("Prompt and figures").click()
    expect(dash.page.get_by_role("definition").filter(has_text="$0.01")).to_be_visible()
    dash.page.get_by_label("Go on in this session").fill("say and on")
    dash.press("Resume")
    dash.page.wait_for_url(lambda url: task not in url)
    expect(log(dash)).to_contain_text("I remember", timeout=PATIENCE_MS)
    expect(log(dash)).to_contain_text("and on")


def test_allowed_for_the_task_and_for_ever(dash: Dash, pair: tuple[Node, Node], files: Path) -> None:
    start(dash, "ask echo once\nask echo once\nask echo twice\ndone good", files)
    waits = dash.page.get_by_role("region", name="Waits for your decision")
    waits.get_by_role("button", name="Allow for this task").click()
    expect(waits).to_contain_text("echo twice", timeout=PATIENCE_MS)  # the second "once" did not ask
    waits.get_by_text("Always allow").first.click()
    expect(waits.get_by_label("Rule")).to_have_value("allow Bash(echo twice)")
    waits.get_by_role("button", name="Always allow").click()
    ended(dash, "completed")
    assert pair[0].ask("GET", "/ai-tasks/rules").body["rules"] == ["allow Bash(echo twice)"]
    pair[0].ask("DELETE", "/ai-tasks/rules", {"rule": "allow Bash(echo twice)"})


def test_cancelled_and_removed(dash: Dash, pair: tuple[Node, Node], files: Path) -> None:
    task = start(dash, "say wait\nsleep 600", files)
    expect(log(dash)).to_contain_text("wait", timeout=PATIENCE_MS)
    dash.press("Cancel")
    dash.press("Yes")
    ended(dash, "cancelled")
    dash.press("Remove")
    dash.press("Yes")
    dash.says("removed")
    assert pair[0].ask("GET", f"/ai-tasks/{task}").status == 404


def test_what_changed_is_shown_as_a_patch(dash: Dash, pair: tuple[Node, Node], files: Path) -> None:
    (files / "a.txt").write_text("one\n<b>two</b>\n")
    for command in ("init -q", "add .", "-c user.name=x -c user.email=x@y commit -qm x"):
        subprocess.run(["git", "-C", str(files), *command.split()], check=True)
    start(dash, "run printf 'one\\n<i>three</i>\\n' > a.txt\ndone changed", files, In_a_fresh_git_worktree=True)
    ended(dash, "completed")
    dash.press("Show the patch")
    expect(dash.page.locator(".diff .add", has_text="<i>three</i>")).to_be_visible()
    expect(dash.page.locator(".diff .del", has_text="<b>two</b>")).to_be_visible()
    assert (files / "a.txt").read_text() == "one\n<b>two</b>\n"  # the work was done in the tree of its own


def test_a_peer_that_lets_us_answer_nothing_is_said_to_do_so(dash: Dash, pair: tuple[Node, Node], files: Path) -> None:
    there = pair[1]
    scopes = there.ask("GET", "/peers").body["peers"][0]["scopes"]
    there.ask("PUT", "/trust/alfa/scopes", {"scopes": [scope for scope in scopes if scope != "approve"]})
    try:
        task = start(dash, "ask echo hi\ndone good", files, "bravo")
        dash.press("Allow")
        dash.sees("bravo does not let this machine answer for it")
        there.ask("DELETE", f"/ai-tasks/{task}")
        ended(dash, "cancelled")
    finally:
        there.ask("PUT", "/trust/alfa/scopes", {"scopes": scopes})


def test_a_reload_and_another_tab_see_the_same(dash: Dash, tab: MakeTab, pair: tuple[Node, Node], files: Path) -> None:
    """Both see the question; the answer of one takes it from the other."""
    start(dash, "say before\nask echo hi\nsay after", files)
    dash.page.reload()
    expect(log(dash)).to_contain_text("before", timeout=PATIENCE_MS)
    other = tab(pair[0], beside=dash).go(dash.page.url.partition("#/")[2])
    expect(other.button("Allow")).to_be_visible()
    dash.press("Allow")
    expect(other.button("Allow")).to_be_hidden(timeout=PATIENCE_MS)
    expect(log(other)).to_contain_text("after", timeout=PATIENCE_MS)


def test_thousands_of_events_page_by_page(dash: Dash, pair: tuple[Node, Node], files: Path) -> None:
    here = Client(pair[0])
    task = here.start("flood 3000", cwd=str(files))
    here.over(task)
    dash.go(f"tasks/{task}")
    expect(log(dash)).to_contain_text("002999", timeout=PATIENCE_MS)
    assert log(dash).locator(".event").count() <= 400
    for _ in range(4):
        dash.press("Earlier")
    expect(log(dash)).not_to_contain_text("002999")
    dash.press("Newest")
    expect(log(dash)).to_contain_text("002999")


@pytest.mark.parametrize("name", ["claude", "codex"])
def test_a_real_agent_asks_and_is_answered(name: str, make_agent: MakeAgent, tab: MakeTab, tmp_path: Path) -> None:
    """The real CLI, with a scripted model."""
    agent, api = make_agent(name, scenario(shell("echo forty-two > out.txt"), say("All done.")))
    node = AgentNode(tmp_path / "alfa", "alfa", agent=agent)
    dash = tab(node.start())
    try:
        start(dash, "please write it down", agent.work, agent=name)
        waits = dash.page.get_by_role("region", name="Waits for your decision")
        expect(waits).to_contain_text("echo forty-two > out.txt", timeout=AGENT_MS)
        waits.get_by_role("button", name="Allow", exact=True).click()
        expect(log(dash)).to_contain_text("All done.", timeout=AGENT_MS)
        ended(dash, "completed")
        assert (agent.work / "out.txt").read_text() == "forty-two\n"
        assert api.faults == []
    finally:
        dash.page.goto("about:blank")
        node.stop()
