"""What goes without a person."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from loopsy.agents.adapter import Asked
from loopsy.agents.modes import harmless, settled

COMMAND = Asked(request_id="1", tool_name="Bash", tool_input={}, kind="command", command="ls")


def edit(*paths: str) -> Asked:
    """An edit of files."""
    return Asked(request_id="1", tool_name="Edit", tool_input={}, kind="edit", paths=paths)


def answer(mode: str, asked: Asked, cwd: Any) -> bool | None:
    """Yes, no, or a person."""
    done = settled(mode, asked, str(cwd))
    return None if done is None else done.approved


@pytest.mark.parametrize(
    ("mode", "command", "change"),
    [
        ("default", None, None),
        ("acceptEdits", None, True),
        ("dontAsk", False, False),
        ("bypassPermissions", True, True),
    ],
)
def test_modes(mode: str, command: bool | None, change: bool | None, tmp_path: Path) -> None:
    assert answer(mode, COMMAND, tmp_path) is command
    assert answer(mode, edit(str(tmp_path / "a"), "sub/b"), tmp_path) is change


def test_an_edit_of_we_know_not_what_is_asked(tmp_path: Path) -> None:
    assert answer("acceptEdits", edit(), tmp_path) is None
    assert answer("acceptEdits", edit(str(tmp_path / "a"), "/etc/passwd"), tmp_path) is None


@pytest.mark.parametrize(
    "path",
    ["/etc/passwd", "../a", "sub/../../a", "link/a", ".git/hooks/pre-commit", "sub/.vscode/tasks.json", ".", "", "a\0b",
     "here/../.claude/settings.json"],
)  # fmt: skip
def test_files_that_are_asked_about_all_the_same(path: str, tmp_path: Path) -> None:
    work = tmp_path / "work"
    (work / "sub").mkdir(parents=True)
    (work / "link").symlink_to("/etc")
    assert not harmless(path, str(work))
    assert harmless("sub/a", str(work))


def test_the_directory_itself_may_be_hidden(tmp_path: Path) -> None:
    (tmp_path / ".work").mkdir()
    assert harmless("a", str(tmp_path / ".work"))
