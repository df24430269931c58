"""Files: looking around, uploads with a bar, by the chooser and by dropping, downloads."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from playwright.sync_api import expect

from loopsy.testing.nodes import Node
from tests.browser.page import Dash
from tests.integration.conftest import until
from tests.waiting import wait_until

MEGABYTE = bytes(range(256)) * 4096
LARGE_S = 300.0
"""For 200 of them, on a machine that has much else to do."""
DROP = """([name, text]) => {
  const data = new DataTransfer();
  data.items.add(new File([text], name));
  const options = {dataTransfer: data, bubbles: true, cancelable: true};
  document.querySelector(".drop").dispatchEvent(new DragEvent("drop", options));
}"""


def at(dash: Dash, folder: Path, on: str | None = None) -> Dash:
    return dash.go(f"files?{f'on={on}&' if on else ''}path={quote(str(folder), safe='')}", "Files")


def choose(dash: Dash, *chosen: Path) -> None:
    """By the system's dialog."""
    with dash.page.expect_file_chooser() as chooser:
        dash.press("Upload")
    chooser.value.set_files(list(chosen))


def sum_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """200 MB."""
    path = tmp_path_factory.mktemp("large") / "large.bin"
    with path.open("wb") as file:
        for number in range(200):
            file.write(number.to_bytes(4, "big") + MEGABYTE[4:])
    yield path
    path.unlink()


@pytest.mark.parametrize("on", [None, "bravo"])
def test_200_mb_go_up_and_come_down(dash: Dash, large: Path, files: Path, on: str | None) -> None:
    """Nothing of it stays on the disk for longer than it must: pytest keeps the directories of tests."""
    at(dash, files, on)
    choose(dash, large)
    bar = dash.page.get_by_role("progressbar", name="Upload of large.bin")
    expect(bar).to_be_visible()
    seen: list[int] = []

    def done() -> bool:
        seen.append(int(bar.get_attribute("aria-valuenow") or 0))
        return dash.page.get_by_text(f"is at {files}/large.bin").is_visible()

    wait_until(done, "the upload", LARGE_S)
    done()  # once more: it may have ended between the two looks
    assert seen == sorted(seen)
    assert seen[-1] == 100
    assert sum_of(files / "large.bin") == sum_of(large)
    link = dash.page.get_by_role("list", name="Files").get_by_role("link", name="large.bin")
    with dash.page.expect_download() as download:
        link.click()
    assert download.value.suggested_filename == "large.bin"
    assert sum_of(Path(download.value.path())) == sum_of(large)
    download.value.delete()
    (files / "large.bin").unlink()


def test_an_upload_is_cancelled_and_leaves_nothing(dash: Dash, large: Path, files: Path) -> None:
    """Slowed down, so that it is surely under way; it goes on while one looks at something else."""
    slow = dash.page.context.new_cdp_session(dash.page)
    slow.send("Network.enable")
    slow.send(
        "Network.emulateNetworkConditions",
        {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": 2**20},
    )
    at(dash, files, "bravo")
    choose(dash, large)
    expect(dash.page.get_by_text(re.compile(r"MiB of 20\d MiB"))).to_be_visible()
    dash.go("overview", "Overview")
    at(dash, files, "bravo")
    dash.press("Cancel")
    dash.sees("cancelled: nothing of this file was kept")
    until(lambda: list(files.iterdir()) == [], "its removal")
    dash.press("Clear what is over")
    expect(dash.page.get_by_role("list", name="Uploads")).to_be_hidden()


def test_files_are_dropped_many_at_once(dash: Dash, files: Path) -> None:
    at(dash, files)
    for number in range(8):
        dash.page.evaluate(DROP, [f"n{number}.txt", f"text {number}"])
    rows = dash.page.get_by_role("list", name="Files").get_by_role("listitem")
    for number in range(8):
        expect(rows.get_by_role("link", name=f"n{number}.txt", exact=True)).to_be_visible()
    expect(rows).to_have_count(8)
    assert (files / "n7.txt").read_text() == "text 7"


def test_one_that_may_not_be_there_says_why(dash: Dash, pair: tuple[Node, Node], tmp_path: Path) -> None:
    outside = Path(pair[1].environment["HOME"]).anchor
    at(dash, Path(outside), "bravo")
    expect(dash.page.get_by_role("alert")).to_contain_text("may not be touched")
    dash.page.evaluate(DROP, ["x.txt", "x"])
    expect(dash.page.get_by_role("list", name="Uploads")).to_contain_text("may not be touched")


def test_folders_are_walked_by_links_and_by_typing(dash: Dash, files: Path) -> None:
    (files / "a b").mkdir()
    (files / "a b" / "c%20d?#.txt").write_text("deep")
    at(dash, files)
    dash.page.get_by_role("button", name="a b/").click()
    link = dash.page.get_by_role("link", name="c%20d?#.txt")
    with dash.page.expect_download() as download:
        link.click()
    assert Path(download.value.path()).read_text() == "deep"
    dash.page.get_by_role("link", name=f"↑ {files}").click()
    expect(dash.page.get_by_role("button", name="a b/")).to_be_visible()
    typed = dash.page.get_by_label("Directory")
    typed.fill(str(files / "a b"))
    typed.press("Enter")
    expect(link).to_be_visible()
    dash.page.go_back()
    expect(dash.page.get_by_role("button", name="a b/")).to_be_visible()


def test_another_machine_is_chosen(dash: Dash, pair: tuple[Node, Node]) -> None:
    (Path(pair[0].environment["HOME"]) / "only here").write_text("")
    dash.go("files", "Files").sees("only here")
    dash.page.get_by_label("Machine").select_option("bravo")
    expect(dash.page.get_by_text("only here")).to_be_hidden()
