"""What is done with the texts: files, and what the systems' commands are told, by a stand-in for those."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from attrs import define, evolve, field

from loopsy.osservice import launchd, systemd, task_scheduler
from loopsy.osservice.calls import NOT_FOUND, ServiceFailed, call
from loopsy.osservice.unit import Unit

UNIT = Unit(name="loopsy", argv=("/bin/true",), home="/home/leo", path="/bin", output="/tmp/x", user="leo")


@define
class System:
    """Remembers what it is told, and answers by the first words that fit."""

    answers: Mapping[str, tuple[int, str]] = field(factory=dict)
    told: list[str] = field(factory=list)

    def __call__(self, argv: Sequence[str]) -> tuple[int, str]:
        """One command."""
        line = " ".join(argv)
        self.told.append(line)
        return next((answer for words, answer in self.answers.items() if line.startswith(words)), (0, ""))


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """A user with a systemd that runs."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "run" / "systemd").mkdir(parents=True)
    (tmp_path / "run" / "systemd" / "private").touch()
    return {"XDG_RUNTIME_DIR": str(tmp_path / "run"), "XDG_CONFIG_HOME": str(tmp_path / "cfg")}


# -- systemd ----------------------------------------------------------------------------------------------------------
def test_systemd_is_told_to_take_it_up_and_start_it(environment: Any, tmp_path: Path) -> None:
    system = System()
    done = systemd.install(UNIT, environment, system, start=True)
    path, link = done.files
    assert path == tmp_path / "cfg" / "systemd" / "user" / "loopsy.service"
    assert (path.read_text(), link.resolve()) == (systemd.render(UNIT), path)
    assert system.told == ["systemctl --user daemon-reload", "systemctl --user start loopsy.service"]
    assert (done.changed, done.started) == (True, True)
    again = systemd.install(UNIT, environment, System(), start=False)
    assert (again.files, again.changed, again.started) == (done.files, False, False)
    assert systemd.install(evolve(UNIT, path="/usr/bin"), environment, System(), start=False).changed


def test_where_no_systemd_runs_the_files_are_written_and_nothing_is_told(environment: Any, tmp_path: Path) -> None:
    del environment["XDG_RUNTIME_DIR"]
    system = System()
    done = systemd.install(UNIT, environment, system, start=True)
    assert all(path.exists() for path in done.files)
    assert system.told == []
    assert not done.started
    assert "systemctl --user start loopsy" in (done.next or "")


def test_it_tells_how_it_stands_and_of_linger(
    environment: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(systemd, "LINGER", tmp_path / "linger")
    monkeypatch.setenv("LOGNAME", "leo")
    system = System({"systemctl --user show": (0, "42\n")})
    assert not systemd.standing(UNIT, environment, system).enabled
    systemd.install(UNIT, environment, system, start=False)
    found = systemd.standing(UNIT, environment, system)
    assert (found.enabled, found.current, found.pid) == (True, True, 42)
    assert "loginctl enable-linger" in (found.advice or "")
    assert not systemd.standing(evolve(UNIT, path="/other"), environment, system).current
    (tmp_path / "linger").mkdir()
    (tmp_path / "linger" / "leo").touch()
    assert systemd.standing(UNIT, environment, system).advice is None


def test_taking_it_away_leaves_no_file_and_the_daemon_running(environment: Any) -> None:
    systemd.install(UNIT, environment, System(), start=True)
    system = System()
    assert len(systemd.uninstall(UNIT, environment, system).files) == 2
    assert system.told == ["systemctl --user daemon-reload"]
    assert not systemd.standing(UNIT, environment, system).enabled
    assert not systemd.uninstall(UNIT, environment, System()).changed


def test_what_systemd_refuses_is_told_in_its_words(environment: Any) -> None:
    system = System({"systemctl --user start": (1, "Job failed\n")})
    with pytest.raises(ServiceFailed, match=r"start loopsy\.service failed") as caught:
        systemd.install(UNIT, environment, system, start=True)
    assert caught.value.hint == "Job failed"


# -- launchd ----------------------------------------------------------------------------------------------------------
def test_launchd_loads_it_in_place_of_the_older_one(environment: Any, tmp_path: Path) -> None:
    system = System()
    done = launchd.install(UNIT, environment, system, start=True)
    assert done.files == (tmp_path / "Library" / "LaunchAgents" / "loopsy.plist",)
    assert [line.split()[1] for line in system.told] == ["print", "bootout", "bootstrap"]
    assert system.told[-1].endswith(str(done.files[0]))
    fresh = System({"launchctl print": (113, "")})
    assert not launchd.install(UNIT, environment, fresh, start=True).changed
    assert [line.split()[1] for line in fresh.told] == ["print", "bootstrap"]
    quiet = System()
    launchd.install(UNIT, environment, quiet, start=False)
    assert quiet.told == [], "a daemon that was started by hand runs on"


def test_launchd_tells_how_it_stands(environment: Any) -> None:
    system = System({"launchctl print": (0, "loopsy = {\n\tstate = running\n\tpid = 77\n}")})
    launchd.install(UNIT, environment, system, start=False)
    found = launchd.standing(UNIT, environment, system)
    assert (found.enabled, found.current, found.pid) == (True, True, 77)
    assert launchd.uninstall(UNIT, environment, system).changed
    assert not launchd.standing(UNIT, environment, System({"launchctl": (113, "")})).enabled
    assert not launchd.uninstall(UNIT, environment, system).changed


# -- the Task Scheduler -----------------------------------------------------------------------------------------------
def test_the_task_scheduler_is_given_the_text(environment: Any) -> None:
    seen: list[bytes] = []

    def schtasks(argv: Sequence[str]) -> tuple[int, str]:
        if "/Create" in argv:
            seen.append(Path(argv[argv.index("/XML") + 1]).read_bytes())
        return (1, "ERROR: not found") if "/Query" in argv else (0, "")

    done = task_scheduler.install(UNIT, environment, schtasks, start=True)
    assert (done.changed, done.started) == (True, True)
    assert seen == [task_scheduler.render(UNIT).encode("utf-16")]
    assert not task_scheduler.uninstall(UNIT, environment, schtasks).changed
    standing = task_scheduler.standing(UNIT, environment, System({"schtasks": (0, task_scheduler.render(UNIT))}))
    assert (standing.enabled, standing.current) == (True, True)


def test_a_command_that_is_not_there_says_so() -> None:
    assert call(["no-such-command-here"]) == (NOT_FOUND, "no-such-command-here is not installed")
    assert call(["sh", "-c", "echo out; echo err >&2; exit 3"]) == (3, "out\nerr\n")
