"""``loopsy mcp``: what a person and a program see; and what init does for the agents."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from loopsy.agents.registrars import REGISTRARS, server_command
from loopsy.cli import mcp
from loopsy.cli.main import main
from tests.agents.fakes import server_script

Capsys = pytest.CaptureFixture[str]
Fake = Callable[..., Path]


def says(capsys: Capsys, home: Path, *words: str) -> tuple[int, str]:
    status = main(["--data-dir", str(home / "d"), *words])
    captured = capsys.readouterr()
    return status, captured.out + captured.err


def test_the_agents_are_those_of_the_registrars() -> None:
    assert tuple(REGISTRARS) == mcp.AGENTS


def test_add_twice_then_remove_twice(home: Path, fake: Fake, capsys: Capsys) -> None:
    fake("codex")
    told = [says(capsys, home, "mcp", verb) for verb in ("add", "add", "remove", "remove")]
    assert [status for status, _ in told] == [0, 0, 0, 0]
    found = [next(line for line in text.splitlines() if "codex" in line).split(None, 1)[1] for _, text in told]
    assert found == ["registered", "registered already", "no longer registered", "was not registered"]


def test_without_agents_add_tells_how_to_do_it_by_hand(home: Path, capsys: Capsys) -> None:
    status, text = says(capsys, home, "mcp", "add")
    assert status == 0
    command = server_command(str(home / "d"))
    assert all(f"  {registrar.manual(command)}\n" in text for registrar in REGISTRARS.values())
    entry = json.loads(text.strip().splitlines()[-1])
    assert entry == {"mcpServers": {"loopsy": {"command": command[0], "args": list(command[1:])}}}


def test_where_one_fails_its_own_line_is_told(home: Path, fake: Fake, capsys: Capsys) -> None:
    fake("codex", fails=("add",))
    fake("claude")
    status, text = says(capsys, home, "mcp", "add")
    assert status == 1
    assert "the disk is full" in text
    assert "  codex mcp add loopsy -- " in text
    assert "  claude mcp add" not in text


@pytest.mark.parametrize("verb", ["add", "remove"])
def test_an_agent_that_was_asked_for_must_be_there(verb: str, home: Path, capsys: Capsys) -> None:
    assert says(capsys, home, "mcp", verb, "--agent", "gemini")[0] == 1


def test_only_the_agents_named_are_told(home: Path, fake: Fake, capsys: Capsys) -> None:
    for name in REGISTRARS:
        fake(name)
    status, text = says(capsys, home, "mcp", "add", "--agent", "codex", "--json")
    answer = json.loads(text)
    assert (status, answer["agents"]) == (0, [{"agent": "codex", "done": "added"}])
    assert answer["command"] == list(server_command(str(home / "d")))
    assert not (home / "claude.calls").exists()


@pytest.fixture
def _our_server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The tiny server instead of ours."""
    command = server_script(tmp_path / "server")
    monkeypatch.setattr("loopsy.agents.registrars.server_command", lambda directory: command)


@pytest.mark.usefixtures("_our_server")
def test_status_of_one_that_connects(home: Path, fake: Fake, capsys: Capsys) -> None:
    fake("claude")
    says(capsys, home, "mcp", "add")
    status, text = says(capsys, home, "mcp", "status")
    assert status == 0
    assert "claude  registered, connects (2 tools)\n        starts: " in text
    assert "it says itself: ✔ Connected" in text
    assert "codex   not installed" in text


def test_status_of_one_that_does_not(home: Path, fake: Fake, capsys: Capsys) -> None:
    fake("codex")
    (home / "codex.registered").write_text("/old/loopsy\nmcp\n\x1b[31mserve")
    status, text = says(capsys, home, "mcp", "status")
    assert status == 1
    assert "codex   registered, does not connect" in text
    assert "loopsy mcp add" in text
    assert "\x1b" not in text
    answer = json.loads(says(capsys, home, "mcp", "status", "--json", "--agent", "codex")[1])["agents"][0]
    assert (answer["state"], answer["current"], answer["connects"]) == ("registered", False, False)


def test_status_of_nothing_is_no_failure(home: Path, fake: Fake, capsys: Capsys) -> None:
    fake("gemini")
    status, text = says(capsys, home, "mcp", "status")
    assert status == 0
    assert "gemini  not registered" in text


def test_serve_serves_the_data_directory(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    served = []
    module = type(sys)("loopsy.mcp.server")
    module.serve = lambda directory: served.append(directory) or 7  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "loopsy.mcp.server", module)
    assert main(["mcp", "serve", "--data-dir", str(home / "d")]) == 7
    assert served == [str(home / "d")]


# -- init -------------------------------------------------------------------------------------------------------------
def test_init_tells_the_agents_that_are_there(home: Path, fake: Fake, capsys: Capsys) -> None:
    fake("claude")
    status, text = says(capsys, home, "init", "--hostname", "leo")
    assert status == 0
    assert "claude  registered" in text
    assert "codex" not in text.partition("next:")[0].partition("agents:")[2]
    assert (home / "claude.registered").read_text().splitlines() == list(server_command(str(home / "d")))


def test_init_does_not_fail_because_an_agent_did(home: Path, fake: Fake, capsys: Capsys) -> None:
    fake("claude", fails=("get",))
    status, text = says(capsys, home, "init", "--hostname", "leo")
    assert status == 0
    assert "the disk is full" in text
    assert "try again with: loopsy mcp add" in text


def test_init_leaves_them_alone_if_told_so(home: Path, fake: Fake, capsys: Capsys) -> None:
    fake("claude")
    assert says(capsys, home, "init", "--hostname", "leo", "--no-mcp")[0] == 0
    assert not (home / "claude.calls").exists()


def test_init_without_agents_says_so(home: Path, capsys: Capsys) -> None:
    assert "loopsy mcp add" in says(capsys, home, "init", "--hostname", "leo")[1]


# -- doctor -----------------------------------------------------------------------------------------------------------
def checks(capsys: Capsys, home: Path) -> dict[str, tuple[str, str]]:
    _, text = says(capsys, home, "doctor", "--json")
    return {c["name"]: (c["level"], c["text"]) for c in json.loads(text)["checks"] if c["name"].startswith("mcp")}


@pytest.mark.usefixtures("_our_server")
def test_doctor_tells_of_each_agent_that_is_there(home: Path, fake: Fake, capsys: Capsys) -> None:
    says(capsys, home, "init", "--no-mcp")
    assert checks(capsys, home) == {}
    for name in REGISTRARS:
        fake(name)
    says(capsys, home, "mcp", "add", "--agent", "claude")
    (home / "gemini.registered").write_text("/old/loopsy\nmcp\nserve")
    found = checks(capsys, home)
    assert found["mcp claude"] == ("pass", "connects, 2 tools")
    assert found["mcp codex"] == ("warn", "it is here, but does not know of loopsy")
    assert found["mcp gemini"][0] == "fail"
    assert "/old/loopsy can't be started" in found["mcp gemini"][1]


@pytest.mark.usefixtures("_our_server")
def test_doctor_warns_of_another_server(home: Path, fake: Fake, capsys: Capsys, tmp_path: Path) -> None:
    says(capsys, home, "init", "--no-mcp")
    fake("codex")
    (home / "codex.registered").write_text(server_script(tmp_path / "other")[0])
    level, text = checks(capsys, home)["mcp codex"]
    assert (level, str(tmp_path / "other") in text) == ("warn", True)


def test_doctor_warns_of_an_agent_that_cannot_say(home: Path, fake: Fake, capsys: Capsys) -> None:
    says(capsys, home, "init", "--no-mcp")
    fake("codex", fails=("get",))
    level, text = checks(capsys, home)["mcp codex"]
    assert (level, "the disk is full" in text) == ("warn", True)
