"""The same files to several machines: real daemons, one that is away, one that allows no path, one unknown."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from ptyprocess import PtyProcess

from tests.integration.conftest import until
from tests.integration.fleet import Fleet
from tests.integration.gate import Gate

LARGE = 64 << 20
SLOW_BPS = 200_000
"""Over so slow a link a large file is under way for minutes: nobody is done with it before the test is."""
NAMES = ("able", "bear", "shut", "gone")


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Two that take files, one that takes none, one that doesn't run."""
    root = tmp_path_factory.mktemp("fleet")
    sections = {"shut": {"transfer": {"allowedPaths": [str(root / "nowhere")]}}}
    made = Fleet(root, NAMES, sections).start(but=("gone",))
    for name in ("able", "bear"):
        made.chief.run("peers", "label", name, "files", check=True)
    yield made
    made.stop()
    assert "Traceback" not in made.log


def home(fleet: Fleet, name: str) -> Path:
    """A peer's home directory."""
    return Path(fleet.peers[name].environment["HOME"])


@pytest.fixture(scope="module")
def far(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Two that are behind slow links."""
    with ExitStack() as links:

        def through(port: int) -> int:
            return links.enter_context(Gate(port, SLOW_BPS)).port

        made = Fleet(tmp_path_factory.mktemp("far"), ("able", "bear"), through=through).start()
        yield made
        made.stop()
    assert "Traceback" not in made.log


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """A large file, that costs no room here."""
    made = tmp_path / "large"
    with made.open("wb") as file:
        file.truncate(LARGE)
    return made


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A small tree."""
    made = tmp_path / "site"
    made.mkdir()
    (made / "one").write_text("first\n")
    (made / "two").write_text("second\n")
    return made


def test_a_tree_goes_to_all_that_have_a_label(fleet: Fleet, site: Path) -> None:
    done = fleet.chief.run("send", "--label", "files", "-r", f"{site}/.", "www/labelled", check=True)
    for name in ("able", "bear"):
        assert (home(fleet, name) / "www/labelled/two").read_text() == "second\n"
    lines = done.stdout.decode().splitlines()
    assert sorted(re.sub(",.*", "", line) for line in lines) == ["able  sent 2 files", "bear  sent 2 files"]
    assert done.stderr == b""


def test_each_fate_is_told(fleet: Fleet, site: Path) -> None:
    """The others get theirs."""
    hosts = "able,shut,gone,nobody,bear"
    done = fleet.chief.run("send", "--on", hosts, "--json", str(site / "one"), str(site / "two"), "fates/")
    told = json.loads(done.stdout)
    found = {one["peer"]: one for one in told["results"]}
    assert done.returncode == told["status"] == 1
    for name in ("able", "bear"):
        assert (found[name]["state"], found[name]["status"], found[name]["files"]) == ("ended", 0, 2)
        assert (home(fleet, name) / "fates/one").read_text() == "first\n"
    codes = {name: found[name]["error"]["code"] for name in ("shut", "gone", "nobody")}
    assert codes["shut"] == 4001
    assert codes["gone"] in (2002, 2003)
    assert codes["nobody"] == 2001
    assert {found[name]["state"] for name in codes} == {"failed"}
    plain = fleet.chief.run("send", "--on", hosts, str(site / "one"), str(site / "two"), "fates/")
    assert plain.returncode == 1
    assert {line.split()[0] for line in plain.stdout.splitlines()} == {b"able", b"bear"}
    assert re.search(rb"^nobody +failed .*no peer is called", plain.stderr, re.MULTILINE)
    assert re.search(rb"^able +0 ", plain.stderr, re.MULTILINE)


def test_after_a_failure_no_more_begin(fleet: Fleet, site: Path) -> None:
    words = ("send", "--on", "shut,able,bear", "--forks", "1", "--stop-on-error", "--json", str(site / "one"), "late")
    done = fleet.chief.run(*words)
    assert done.returncode == 1
    assert [one["state"] for one in json.loads(done.stdout)["results"]] == ["failed", "skipped", "skipped"]
    assert not (home(fleet, "able") / "late").exists()


def test_what_is_for_one_machine_is_refused(fleet: Fleet, site: Path) -> None:
    done = fleet.chief.run("send", "--on", "able,bear", "-", "x", stdin=b"x")
    assert (done.returncode, b"to one machine only" in done.stderr) == (2, True)
    done = fleet.chief.run("send", "--all", str(site / "one"))
    assert done.returncode == 2


def test_detached_ones_are_told_by_machine_and_id(fleet: Fleet, site: Path) -> None:
    done = fleet.chief.run("send", "--on", "able,bear", "--detach", str(site / "one"), "later", check=True)
    ids = dict(line.split() for line in done.stdout.decode().splitlines())
    assert set(ids) == {"able", "bear"}
    for name, transfer in ids.items():
        fleet.chief.run("transfers", "watch", transfer, check=True)
        assert (home(fleet, name) / "later").read_text() == "first\n"


def test_a_terminal_shows_a_bar_for_each_and_ctrl_c_cancels_them_all(far: Fleet, large: Path) -> None:
    terminal = PtyProcess.spawn(
        [sys.executable, "-m", "loopsy.cli.main", "send", "--on", "able,bear", str(large), "large"],
        env={**far.chief.environment, "TERM": "xterm"},
        dimensions=(40, 120),
    )
    shown = b""
    while not (b"able" in shown and b"bear" in shown and b"/s" in shown):
        shown += terminal.read(65536)
    terminal.sendintr()
    try:
        while True:
            shown += terminal.read(65536)
    except EOFError:
        terminal.wait()
    assert terminal.exitstatus == 130
    assert re.search(rb"able +130 .*cancelled", shown)
    assert re.search(rb"bear +130 .*cancelled", shown)
    moved = far.chief.ask("GET", "/transfers").body["transfers"]
    assert not [one for one in moved if one["state"] == "running"]
    for name in ("able", "bear"):
        assert not (home(far, name) / "large").exists()


def test_a_terminal_shows_a_table(fleet: Fleet, site: Path) -> None:
    terminal = PtyProcess.spawn(
        [sys.executable, "-m", "loopsy.cli.main", "send", "--on", "able,bear", str(site / "one"), "small"],
        env={**fleet.chief.environment, "TERM": "xterm"},
        dimensions=(40, 120),
    )
    shown = b""
    try:
        while True:
            shown += terminal.read(65536)
    except EOFError:
        terminal.wait()
    assert terminal.exitstatus == 0
    assert len(re.findall(rb"(?:able|bear) +0 .*sent 1 file", shown)) == 2


def test_a_daemon_that_goes_away_is_told_for_each(far: Fleet, large: Path) -> None:
    """Last: it ends the fleet's chief."""
    running = subprocess.Popen(
        [sys.executable, "-m", "loopsy.cli.main", "send", "--on", "able,bear", "--json", str(large), "huge"],
        env=far.chief.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )

    def under_way() -> bool:
        moved = far.chief.ask("GET", "/transfers").body["transfers"]
        return len([one for one in moved if one["state"] == "running" and one["bytesDone"]]) == 2

    until(under_way, "both are under way")
    far.chief.kill()
    output, _ = running.communicate(timeout=60)
    assert running.returncode == 1
    found = json.loads(output)["results"]
    assert ["went away" in one["error"]["message"] for one in found] == [True, True]
