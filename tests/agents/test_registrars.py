"""What the agents say, word for word, and what we make of it; and the command that they get."""

import shlex
import sys
from pathlib import Path

import pytest

from loopsy.agents.calling import Called, CallFailed
from loopsy.agents.registrars import REGISTRARS, Registered, read_claude, read_codex, read_gemini, server_command

CLAUDE = """loopsy:
  Scope: User config (available in all your projects)
  Status: ✔ Connected
  Type: stdio
  Command: /v/bin/loopsy
  Args: mcp serve --data-dir /x y/z
  Environment:

To remove this server, run: claude mcp remove loopsy -s user
"""
CODEX = """{
  "name": "loopsy",
  "enabled": true,
  "disabled_reason": null,
  "transport": {
    "type": "stdio",
    "command": "/v/bin/loopsy",
    "args": ["mcp", "serve", "--data-dir", "/x y/z"],
    "env": null
  }
}
"""
GEMINI = """Warning: MCP servers are configured but disabled because this folder is untrusted.
User-level servers are also suppressed in untrusted folders to prevent accidental side-effects.

Configured MCP servers:

○ other: /usr/bin/loopsy: x (stdio) - Disabled
○ loopsy: /v/bin/loopsy mcp serve --data-dir /x y/z (stdio) - Disabled
"""
COMMAND = ("/v/bin/loopsy", "mcp", "serve", "--data-dir", "/x y/z")
READERS = {"claude": read_claude, "codex": read_codex, "gemini": read_gemini}
SAID = {"claude": (CLAUDE, ""), "codex": (CODEX, ""), "gemini": ("", GEMINI)}


def said(stdout: str = "", stderr: str = "", status: int = 0) -> Called:
    return Called(status=status, stdout=stdout, stderr=stderr)


@pytest.mark.parametrize("agent", READERS)
def test_what_is_registered(agent: str) -> None:
    found = READERS[agent](said(*SAID[agent]))
    assert found is not None
    assert found.starts(COMMAND)
    assert not found.starts((*COMMAND, "more"))
    assert not found.starts(COMMAND[:-1])
    assert found.enabled


def test_claude_says_whether_it_connects() -> None:
    assert read_claude(said(CLAUDE)) == Registered(words=tuple(" ".join(COMMAND).split()), says="✔ Connected")


def test_codex_says_whether_it_is_switched_off() -> None:
    found = read_codex(said(CODEX.replace('"enabled": true', '"enabled": false')))
    assert found is not None
    assert not found.enabled


@pytest.mark.parametrize(
    ("agent", "called"),
    [
        ("claude", said(stderr='No MCP server named "loopsy". Run `claude mcp add` to add one.', status=1)),
        ("claude", said(CLAUDE.replace("User config (available in all your projects)", "Project config"))),
        ("codex", said(stderr="Error: No MCP server named 'loopsy' found.", status=1)),
        ("gemini", said(stderr="No MCP servers configured.")),
        ("gemini", said(stderr=GEMINI.replace("○ loopsy:", "○ loopsy-two:"))),
    ],
)
def test_what_is_not(agent: str, called: Called) -> None:
    assert READERS[agent](called) is None


def test_gemini_may_colour_what_it_says() -> None:
    text = GEMINI.replace("○", "\x1b[31m✗\x1b[0m").replace("Disabled", "\x1b[31mDisconnected\x1b[0m")
    found = read_gemini(said(text))
    assert found is not None
    assert found.starts(COMMAND)


@pytest.mark.parametrize("agent", READERS)
@pytest.mark.parametrize(
    "called",
    [
        said(),
        said("{["),
        said('{"transport": []}'),
        said("5"),
        said(stderr="the disk is full", status=1),
        said(status=1),
    ],
)
def test_what_says_nothing_to_us_is_no_answer(agent: str, called: Called) -> None:
    with pytest.raises(CallFailed, match=agent):
        READERS[agent](called)


@pytest.mark.parametrize("agent", READERS)
def test_the_line_for_a_person_can_be_pasted(agent: str) -> None:
    registrar = REGISTRARS[agent]
    assert shlex.split(registrar.manual(COMMAND)) == [agent, *registrar.add, *COMMAND]


# -- the server's command ---------------------------------------------------------------------------------------------
def test_the_command_is_the_installed_one_by_its_absolute_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, venv = tmp_path / "usr", tmp_path / "venv"
    for folder in (real, venv):
        folder.mkdir()
        (folder / "loopsy").touch()
    (real / "python").touch()
    (venv / "python").symlink_to(real / "python")
    monkeypatch.setattr(sys, "executable", str(venv / "python"))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert server_command(str(tmp_path / ".loopsy")) == (str(venv / "loopsy"), "mcp", "serve")


def test_another_data_directory_is_named_in_full(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert server_command("two")[-2:] == ("--data-dir", str(tmp_path / "two"))


def test_without_the_script_the_module_is_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python3"))
    assert server_command("x")[:6] == (str(tmp_path / "python3"), "-P", "-m", "loopsy.cli.main", "mcp", "serve")
