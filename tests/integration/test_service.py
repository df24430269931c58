"""``loopsy enable`` and ``disable`` in a home of their own, in which no systemd runs."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.conftest import PATIENCE_S
from tests.integration.machine import Machine


def units(machine: Machine) -> Path:
    return machine.root.parent / ".config" / "systemd" / "user"


def test_enable_writes_a_unit_that_systemd_takes_twice_the_same_and_disable_takes_it_away(machine: Machine) -> None:
    machine.set_up()
    home = machine.root.parent
    assert machine.run("service-status").returncode == 3
    said = machine.ok("enable")
    unit, link = units(machine) / "loopsy.service", units(machine) / "default.target.wants" / "loopsy.service"
    assert "systemctl --user daemon-reload && systemctl --user start loopsy" in said
    assert "linger" in said
    assert link.resolve() == unit
    text = unit.read_text()
    assert f"--data-dir {machine.root}\n" in text
    assert "as before" in machine.ok("enable")
    assert unit.read_text() == text
    found = machine.json("service-status")
    assert (found["enabled"], found["current"], found["file"]) == (True, True, str(unit))
    if shutil.which("systemd-analyze"):
        command = ["systemd-analyze", "verify", "--user", "--man=no", "--recursive-errors=no", str(unit)]
        env = {"HOME": str(home), "PATH": "/usr/bin:/bin", "XDG_RUNTIME_DIR": str(home)}
        done = subprocess.run(command, env=env, capture_output=True, timeout=2 * PATIENCE_S, check=False)
        assert (done.returncode, done.stderr) == (0, b"")
    assert "no longer" in machine.ok("disable")
    assert [path for path in units(machine).rglob("*") if not path.is_dir()] == []
    assert machine.ok("disable") == "loopsy does not start at login\n"
    assert machine.run("service-status").returncode == 3


CONTAINER = """
mount -t tmpfs none "$HOME"
set -e
"$LOOPSY" init --no-mcp >/dev/null
"$LOOPSY" enable
unit="$HOME/.config/systemd/user/loopsy.service"
cat "$unit"
XDG_RUNTIME_DIR="$HOME" systemd-analyze verify --user --man=no --recursive-errors=no "$unit"
echo "processes: $(ls -d /proc/[0-9]* | wc -l)"
"$LOOPSY" disable
find "$HOME/.config/systemd" -type f | wc -l
"""


def test_enable_in_a_container_of_its_own(tmp_path: Path) -> None:
    """Namespaces of its own for mounts, processes, the host's name and the network, and a HOME that is nowhere else."""
    unshare = ["unshare", "--mount", "--pid", "--fork", "--mount-proc", "--uts", "--net"]
    if subprocess.run([*unshare, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("namespaces can't be made here")
    if not shutil.which("systemd-analyze"):
        pytest.skip("there is no systemd-analyze here (Debian: apt install systemd)")
    home = tmp_path / "home"
    home.mkdir()
    loopsy = Path(sys.executable).with_name("loopsy")
    env = {"HOME": str(home), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LOOPSY": str(loopsy)}
    done = subprocess.run(
        [*unshare, "sh", "-c", CONTAINER], env=env, capture_output=True, text=True, timeout=5 * PATIENCE_S, check=False
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert "[Service]" in done.stdout
    assert "ExecStart=" in done.stdout
    assert done.stdout.splitlines()[-1].strip() == "0"
    assert list(home.iterdir()) == []


def test_a_daemon_that_runs_by_hand_is_left_alone(machine: Machine) -> None:
    machine.set_up().ok("start")
    pid = machine.pid
    said = machine.ok("enable")
    assert f"it runs already (pid {pid}), started by hand" in said
    assert "started by hand" in machine.ok("service-status")
    assert f"it still runs (pid {pid}); to stop it: loopsy stop" in machine.ok("disable")
    assert machine.pid == pid


def test_what_the_unit_starts_is_the_daemon(machine: Machine) -> None:
    """Its very line, by a shell: systemd's quoting of it is a shell's too."""
    machine.set_up().ok("enable")
    line = next(
        line for line in (units(machine) / "loopsy.service").read_text().splitlines() if line.startswith("ExecStart=")
    )
    process = subprocess.Popen(
        ["sh", "-c", f"exec {line.removeprefix('ExecStart=')}"],
        env={"HOME": str(machine.root.parent), "PATH": "/usr/bin:/bin"},
        cwd=machine.root.parent,
    )
    try:
        machine.process = process
        machine.wait_until_up()
        assert machine.pid == process.pid
    finally:
        machine.process = None
        process.terminate()
        assert process.wait(PATIENCE_S) == 0


def test_a_broken_config_is_not_enabled(machine: Machine) -> None:
    machine.set_up()
    machine.layout.config.write_text("server: [")
    assert "not YAML" in machine.fails("enable")
    assert not units(machine).exists()


def test_a_session_can_be_a_service_of_its_own(machine: Machine, request: pytest.FixtureRequest) -> None:
    machine.set_up()
    request.addfinalizer(lambda: machine.run("session", "stop-all"))
    machine.ok("session", "start", "a", "--port", str(machine.port + 1))
    machine.ok("--session", "a", "enable")
    assert f"--data-dir {machine.root}/sessions/a\n" in (units(machine) / "loopsy-a.service").read_text()
