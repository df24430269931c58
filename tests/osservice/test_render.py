"""The texts, read by those that the systems' own formats have for readers; and the samples in etc/."""

from __future__ import annotations

import plistlib
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from attrs import evolve

from loopsy.osservice import command, launchd, systemd, table, task_scheduler
from loopsy.osservice.unit import Unit, name_of
from loopsy.store.layout import Layout
from tests.waiting import PATIENCE_S

ETC = Path(__file__).parent.parent.parent / "etc"
HOME = "/home/leo"
LEO = Unit(
    name="loopsy",
    argv=tuple(command.argv(f"{HOME}/.loopsy", python=f"{HOME}/.local/share/loopsy/bin/python")),
    home=HOME,
    path=f"{HOME}/.local/bin:/usr/local/bin:/usr/bin:/bin",
    output=f"{HOME}/.loopsy/logs/start.log",
)
MAC = evolve(
    LEO,
    argv=tuple(command.argv("/Users/leo/.loopsy", python="/Users/leo/.local/share/loopsy/bin/python")),
    home="/Users/leo",
    path="/opt/homebrew/bin:/usr/local/bin:/usr/bin:/bin",
    output="/Users/leo/.loopsy/logs/start.log",
)
WINDOWS = evolve(
    LEO,
    argv=tuple(command.argv(r"C:\Users\leo\.loopsy", python=r"C:\Users\leo\loopsy\Scripts\pythonw.exe")),
    home=r"C:\Users\leo",
    user=r"KAI\leo",
)
ODD = evolve(
    LEO, argv=('/opt/my apps/50% "off"\\$HOME/python', "-c", "a; b", "", "--data-dir=ä&<ö>"), path='/a b:/100%:/"q"'
)
"""Whatever means something to one of the three."""


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("loopsy.service", systemd.render(LEO)),
        ("loopsy.plist", launchd.render(MAC)),
        ("loopsy-task.xml", task_scheduler.render(WINDOWS)),
    ],
)
def test_the_samples_are_what_is_rendered(file: str, text: str) -> None:
    assert (ETC / file).read_text("utf-8") == text


def test_every_kind_starts_twistd_and_nothing_else() -> None:
    plist = plistlib.loads(launchd.render(LEO).encode())
    line = next(line for line in systemd.render(LEO).splitlines() if line.startswith("ExecStart="))
    assert tuple(plist["ProgramArguments"]) == tuple(shlex.split(line.removeprefix("ExecStart="))) == LEO.argv
    assert LEO.argv[1:4] == ("-P", "-c", "from twisted.scripts.twistd import run; run()")
    assert LEO.argv[-2:] == ("--data-dir", f"{HOME}/.loopsy")


# -- systemd ----------------------------------------------------------------------------------------------------------
def verified(folder: Path, unit: Unit) -> subprocess.CompletedProcess[bytes]:
    """By systemd itself."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not here (make test-tools, as root on Debian)")
    path = folder / f"{unit.name}.service"
    path.write_text(systemd.render(unit))
    return subprocess.run(
        ["systemd-analyze", "verify", "--user", "--man=no", "--recursive-errors=no", str(path)],
        capture_output=True,
        env={"HOME": str(folder), "PATH": "/usr/bin:/bin", "XDG_RUNTIME_DIR": str(folder)},
        timeout=PATIENCE_S,
        check=False,
    )


@pytest.fixture
def here(tmp_path: Path) -> Unit:
    """A unit whose program exists."""
    return evolve(LEO, argv=tuple(command.argv(tmp_path)), home=str(tmp_path))


def test_systemd_finds_no_fault_in_the_unit(tmp_path: Path, here: Unit) -> None:
    done = verified(tmp_path, here)
    assert (done.returncode, done.stdout + done.stderr) == (0, b"")


def test_systemd_finds_the_fault_in_one_that_has_one(tmp_path: Path, here: Unit) -> None:
    done = verified(tmp_path, evolve(here, argv=("/no/such/program",)))
    assert done.returncode != 0
    assert b"/no/such/program" in done.stderr


def test_odd_words_reach_the_program_as_they_are(tmp_path: Path) -> None:
    """systemd's own reading of the line; what it shows has its quoting undone."""
    assert systemd._word('50% "off"\\$HOME') == '"50%% \\"off\\"\\\\$$HOME"'
    assert systemd._word("") == '""'
    program = tmp_path / "my apps 100%"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    done = verified(tmp_path, evolve(ODD, argv=(str(program), *ODD.argv[1:]), home=str(tmp_path)))
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_set_uid_program_still_works_under_the_unit() -> None:
    """The settings that would take that from the user's commands are named in comments, and only there."""
    settings = {line.partition("=")[0] for line in systemd.render(LEO).splitlines() if not line.startswith(("#", "["))}
    assert not settings & {"NoNewPrivileges", "SystemCallFilter", "RestrictSUIDSGID", "PrivateUsers", "ProtectSystem"}
    assert {"KillMode", "Restart", "TimeoutStopSec", "LimitCORE", "OOMPolicy"} <= settings


# -- launchd and the Task Scheduler -----------------------------------------------------------------------------------
@pytest.mark.parametrize("unit", [MAC, ODD])
def test_the_property_list_starts_at_login_and_after_a_failure(unit: Unit) -> None:
    found = plistlib.loads(launchd.render(unit).encode())
    assert (found["Label"], tuple(found["ProgramArguments"])) == (unit.name, unit.argv)
    assert (found["RunAtLoad"], found["KeepAlive"]) == (True, {"SuccessfulExit": False})
    assert found["EnvironmentVariables"] == {"PATH": unit.path}
    assert found["StandardErrorPath"].endswith("logs/start.log")


@pytest.mark.parametrize("unit", [WINDOWS, ODD])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_the_task_starts_at_logon_of_its_user_and_never_times_out(unit: Unit, encoding: str) -> None:
    root = ET.fromstring(task_scheduler.render(unit).encode(encoding))

    def text(path: str) -> Any:
        return root.findtext("/".join(f"{{{task_scheduler.NAMESPACE}}}{name}" for name in path.split("/")))

    assert root.tag == "{http://schemas.microsoft.com/windows/2004/02/mit/task}Task"
    assert text("Triggers/LogonTrigger/UserId") == text("Principals/Principal/UserId") == unit.user
    assert text("Principals/Principal/RunLevel") == "LeastPrivilege"
    assert text("Settings/ExecutionTimeLimit") == "PT0S"
    assert text("Settings/StopIfGoingOnBatteries") == "false"
    assert (text("Actions/Exec/Command"), text("Actions/Exec/Arguments")) == (
        unit.argv[0],
        subprocess.list2cmdline(unit.argv[1:]),
    )


def test_each_data_directory_has_a_service_of_its_own() -> None:
    names = [name_of(Layout(f"{HOME}/{path}"), HOME) for path in (".loopsy", ".loopsy/sessions/worker-1", "x", "y")]
    assert names[:2] == ["loopsy", "loopsy-worker-1"]
    assert len(set(names)) == 4


def test_each_platform_has_its_kind() -> None:
    systems = [table.chosen(platform).SYSTEM for platform in ("linux", "freebsd14", "darwin", "win32")]
    assert systems == ["systemd", "systemd", "launchd", "Task Scheduler"]
