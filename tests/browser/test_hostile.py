"""What peers, programs and agents say is shown as text, whatever it holds, and breaks no layout; the policy holds."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable
from urllib.parse import quote

import pytest
from playwright.sync_api import expect

from loopsy.testing.nodes import Node
from tests.browser.conftest import MakeTab
from tests.browser.filled import BELL, IMG, hostile
from tests.browser.page import NARROW, WIDE, Dash
from tests.browser.test_terminal import LINES, opened, shows, write
from tests.integration.conftest import until

MakeNode = Callable[..., Node]


@pytest.fixture(scope="module")
def harm(pair: tuple[Node, Node], tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("hostile")
    return {**hostile(*pair, folder), "folder": str(folder)}


def harmless(dash: Dash, view: str) -> None:
    """Nothing became an element, nothing ran, nothing is too wide."""
    page = dash.page
    assert not re.search("[\u202a-\u202e\u2066-\u2069\x1b\x9b]", page.locator("#app").inner_text()), view
    assert page.locator("#app :is(img, script, b, iframe)").count() == 0, view
    assert "owned" not in page.title(), view
    assert dash.too_wide(view) == []


@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["wide", "narrow"])
def test_every_view_shows_text(
    tab: MakeTab, pair: tuple[Node, Node], harm: dict[str, str], size: tuple[int, int]
) -> None:
    dash = tab(pair[0], size=size)
    mark = "wide" if size == WIDE else "narrow"
    for view, place, heading, text in (
        ("overview", "overview", "Overview", "Platform"),
        ("messages", "messages", "Messages", IMG),
        ("context", "context", "Context", IMG),
        ("files", f"files?path={quote(harm['folder'])}", "Files", "onerror"),
        ("tasks", "tasks", "AI tasks", IMG),
        ("task", f"tasks/{harm['task']}", IMG, "wants to use"),
        ("audit", "audit", "Audit", "/api/v1"),
    ):
        dash.go(place, heading)
        expect(dash.page.locator("#main").get_by_text(text).first).to_be_visible()
        dash.settled()
        dash.picture(f"hostile-{view}-{mark}")
        harmless(dash, view)
        dash.go("nowhere")


def test_an_entry_of_theirs_is_opened_and_saved_as_it_was(dash: Dash, harm: dict[str, str]) -> None:
    dash.go("context", "Context")
    dash.page.get_by_label("Filter by key or value").fill("onerror")
    dash.page.get_by_role("list", name="Entries").get_by_role("button").first.click()
    expect(dash.page.get_by_label("Value", exact=True)).to_have_value(IMG)
    dash.press("Delete")
    harmless(dash, "the question")
    dash.press("Cancel")
    dash.press("Save")
    dash.says("is set")
    harmless(dash, "what is said over the page")


def test_output_of_commands_is_text(dash: Dash, pair: tuple[Node, Node]) -> None:
    dash.go("terminal?on=bravo", "Terminal")
    line = f"printf '%s\\n' '{IMG}' '{BELL}'; head -c 10000 /dev/zero | tr '\\0' w"
    dash.page.get_by_label("A line for the shell there").fill(line)
    dash.press("Run")
    expect(dash.page.get_by_label("Output")).to_contain_text("www")
    expect(dash.page.get_by_label("Output")).to_contain_text(IMG)
    harmless(dash, "run")


def test_escapes_in_a_terminal_do_no_harm(dash: Dash, pair: tuple[Node, Node]) -> None:
    """Title, clipboard, links, questions that are answered by typing."""
    script = (
        r"printf '\033]0;owned\007\033]52;c;b3duZWQ=\007"
        r"\033]8;;javascript:document.title=`owned`\007click me\033]8;;\007"
        rf"{IMG}\033[21t\033P$q\"p\033\\'; echo; echo the-end; exec cat -v"
    )
    opened(dash, pair[0], command="sh", args=["-c", script])
    shows(dash, "the-end")
    typed(dash, "mark-one")
    harmless(dash, "terminal")
    text = dash.page.evaluate(LINES)
    assert "click me" in text
    assert "owned\n" not in text.partition("the-end")[2]  # neither the title nor the clipboard came back as typing
    links = dash.page.locator(".screen").get_by_text("click me")
    dialogs: list[str] = []
    dash.page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
    dash.page.mouse.click(*center(dash, "click me"))
    typed(dash, "mark-two")
    harmless(dash, "after a click on their link")
    assert len(dash.page.context.pages) == 1
    assert dialogs == [], links


def typed(dash: Dash, word: str) -> None:
    """A word is typed and comes back, and so has by then whatever came of what was shown or clicked before."""
    write(dash, f"{word}\n")
    shows(dash, word)


def center(dash: Dash, text: str) -> tuple[float, float]:
    """Where a text stands on the terminal's screen."""
    found = dash.page.evaluate(
        """(text) => {
          const terminal = document.querySelector(".screen").loopsyTerminal, buffer = terminal.buffer.active;
          for (let y = 0; y < buffer.length; y++) {
            const x = buffer.getLine(y).translateToString(true).indexOf(text);
            if (x < 0) continue;
            const box = document.querySelector(".xterm-screen").getBoundingClientRect();
            return [box.x + (x + 1.5) * box.width / terminal.cols, box.y + (y + .5) * box.height / terminal.rows];
          }
        }""",
        text,
    )
    return (float(found[0]), float(found[1]))


NAMES = ["a b", "käse/ü", "x?on=alfa#y", IMG[:40], "..", "100%", "\u202eevil", "n" * 120]


def test_peers_with_odd_names_are_reached_and_no_other(make_node: MakeNode, tab: MakeTab) -> None:
    """Links and pickers lead to that machine, never to this one."""
    here, there = make_node("alfa"), make_node("bravo")
    for name in NAMES:
        auth = {"allowedKeys": {name: secrets.token_hex(32)}, "peerKeys": {name: secrets.token_hex(32)}}
        manual = {"address": "127.0.0.1", "port": there.port, "hostname": name}
        here.write_config(auth={"apiKey": here.key, **auth}, discovery={"enabled": False, "manualPeers": [manual]})
        there.write_config(auth={"apiKey": there.key, "allowedKeys": {"alfa": auth["peerKeys"][name]}})
        here.start()
        there.start()
        there.ask("PUT", "/context/where", {"value": "over there"})
        until(lambda: here.ask("GET", "/peers").body["peers"][0]["status"] == "online", f"{name!r}")
        dash = tab(here)
        dash.page.get_by_role("link", name=re.compile("^1 entries$")).click()
        dash.sees("over there")
        chosen = dash.page.get_by_label("Machine").locator("option:checked")
        expect(chosen).to_contain_text(name[:20].replace("\u202e", "\ufffd").strip())
        dash.go("context", "Context").sees("Nothing is shared yet.")
        dash.page.get_by_label("Machine").select_option(index=1)
        dash.sees("over there")
        dash.go("overview", "Overview")
        harmless(dash, name)
        here.stop()
        there.stop()
        dash.page.close()


