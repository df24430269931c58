"""Finding a CLI: on PATH, in the usual places, never in the directory one happens to be in."""

from __future__ import annotations

from pathlib import Path

import pytest

from loopsy.agents import finding


def put(folder: Path, said: str = "2.1.330 (Claude Code)") -> str:
    """A command that says its version."""
    folder.mkdir(parents=True, exist_ok=True)
    command = folder / "claude"
    command.write_text(f"#!/bin/sh\necho '{said}'\n")
    command.chmod(0o755)
    return str(command)


def test_path_goes_first(tmp_path: Path) -> None:
    put(tmp_path / ".local/bin")
    on_path = put(tmp_path / "bin")
    assert finding.find("claude", {"HOME": str(tmp_path), "PATH": str(tmp_path / "bin")}) == on_path


@pytest.mark.parametrize("place", [".local/bin", ".claude/local", ".nvm/versions/node/v20.1.0/bin", ".volta/bin"])
def test_the_usual_places_are_searched(place: str, tmp_path: Path) -> None:
    command = put(tmp_path / place)
    assert finding.find("claude", {"HOME": str(tmp_path), "PATH": "/nowhere"}) == command


def test_the_newest_node_wins(tmp_path: Path) -> None:
    put(tmp_path / ".nvm/versions/node/v9.11.2/bin")
    newest = put(tmp_path / ".nvm/versions/node/v22.3.0/bin")
    assert finding.find("claude", {"HOME": str(tmp_path), "PATH": ""}) == newest


@pytest.mark.parametrize("path", ["", ".", "bin", ":"])
def test_where_one_happens_to_be_is_no_place(path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path), put(tmp_path / "bin")
    monkeypatch.chdir(tmp_path)
    assert finding.find("claude", {"HOME": "/nowhere", "PATH": path}) is None


def test_what_cannot_be_run_is_not_found(tmp_path: Path) -> None:
    Path(put(tmp_path)).chmod(0o644)
    assert finding.find("claude", {"HOME": "/nowhere", "PATH": str(tmp_path)}) is None


@pytest.mark.parametrize(
    ("said", "version"),
    [("2.1.330 (Claude Code)", "2.1.330"), ("codex-cli 0.169.0", "0.169.0"), ("0.61.0-rc.1", "0.61.0-rc.1"),
     ("hm", None)],
)  # fmt: skip
def test_the_version(said: str, version: str | None, tmp_path: Path) -> None:
    assert finding.version(put(tmp_path, said), {"PATH": "/usr/bin:/bin"}) == version


def test_its_neighbours_are_found(tmp_path: Path) -> None:
    found = finding.with_neighbours({"PATH": "/usr/bin"}, str(tmp_path / "claude"))
    assert found == {"PATH": f"/usr/bin:{tmp_path}"}
    assert finding.with_neighbours(found, str(tmp_path / "claude")) == found
