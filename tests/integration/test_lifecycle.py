"""The daemon's life by the real command: start, stop, reload, what it takes over, and what keeps it from starting."""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from loopsy.store import configfile
from tests.integration.conftest import PATIENCE_S, until
from tests.integration.machine import Machine, too_open
from tests.integration.streams import Stream
from tests.integration.test_execution import STUBBORN, alive, both_started
from tests.integration.test_rest import refused

PEER_KEY, OTHER_KEY = "a1" * 32, "b2" * 32


# -- start and stop ---------------------------------------------------------------------------------------------------
def test_init_start_status_restart_stop(machine: Machine) -> None:
    assert machine.fails("start") == f"loopsy: there is no {machine.layout.config}\n  make one with: loopsy init\n"
    machine.set_up()
    first = machine.reported_pid(machine.ok("start"))
    status = machine.json("status")
    assert (status["pid"], status["hostname"], status["nodeId"]) == (
        first,
        "alfa",
        machine.layout.node_id.read_text().strip(),
    )
    assert "alfa" in machine.ok("status")
    second = machine.reported_pid(machine.ok("restart").splitlines()[-1])
    assert second != first
    assert machine.json("status")["nodeId"] == status["nodeId"]
    assert f"it was pid {second}" in machine.ok("stop")
    assert machine.pid is None
    assert machine.ok("stop") == "loopsy is not running\n"
    assert "loopsy start" in machine.fails("status", status=3)
    assert sorted(p.name for p in machine.root.parent.iterdir()) == [".loopsy"]
    assert "Traceback" not in machine.log


@pytest.mark.parametrize(("options", "name"), [([], "loopsy.reactor.Reactor"), (["--reactor=poll"], "PollReactor")])
def test_the_daemon_has_a_reactor_of_its_own_unless_another_is_asked_for(
    machine: Machine, options: list[str], name: str
) -> None:
    machine.set_up()
    program = "from twisted.scripts.twistd import run; run()"
    words = [sys.executable, "-c", program, "--pidfile=", *options, "-n", "loopsy", "-d", str(machine.root)]
    with subprocess.Popen(words, cwd=machine.root, stdout=subprocess.PIPE, text=True) as daemon:
        try:
            until(lambda: machine.run("status").returncode == 0)
        finally:
            daemon.terminate()
        said = daemon.communicate()[0]
    assert f"{name}." in next(line for line in said.splitlines() if "reactor class" in line)
    assert daemon.returncode == 0


def test_a_second_start_leaves_the_first_alone(machine: Machine) -> None:
    machine.set_up().ok("start")
    pid = machine.pid
    assert machine.ok("start") == f"loopsy is running already (pid {pid})\n"
    assert machine.pid == pid


def test_a_taken_port_names_the_process(machine: Machine) -> None:
    machine.set_up()
    with socket.create_server(("127.0.0.1", machine.port)):
        said = machine.fails("start")
    assert f"port {machine.port} is taken by " in said
    assert f"(pid {os.getpid()})" in said
    assert "server.port" in said.splitlines()[1]
    assert machine.pid is None


@pytest.mark.parametrize("command", ["start", "restart"])
def test_a_broken_config_is_placed_and_left_alone(machine: Machine, command: str) -> None:
    machine.set_up()
    if command == "restart":
        machine.ok("start")
    pid = machine.pid
    broken = machine.layout.config.read_bytes().replace(f"port: {machine.port}".encode(), b"port: eighty  # mine")
    machine.layout.config.write_bytes(broken)
    line = next(n for n, text in enumerate(broken.splitlines(), 1) if b"eighty" in text)
    said = machine.fails(command)
    assert f"{machine.layout.config}:{line}: server.port must be a whole number from 1 to 65535, not 'eighty'" in said
    assert machine.layout.config.read_bytes() == broken
    assert machine.pid == pid


def test_the_id_of_a_living_stranger_in_the_pid_file_is_no_daemon(machine: Machine) -> None:
    machine.set_up()
    machine.layout.pid.write_text(f"{os.getpid()}\n")
    assert "not running" in machine.fails("status", status=3)
    assert machine.ok("stop") == "loopsy is not running\n"
    assert machine.reported_pid(machine.ok("start")) == machine.pid != os.getpid()


def test_a_killed_daemon_is_not_running_and_the_next_starts(machine: Machine) -> None:
    pid = machine.reported_pid(machine.set_up().ok("start"))
    os.kill(pid, signal.SIGKILL)
    until(lambda: machine.pid is None)
    assert machine.layout.pid.read_text() == f"{pid}\n"
    assert "not running" in machine.fails("status", status=3)
    assert machine.reported_pid(machine.ok("start")) != pid


def test_two_daemons_cannot_share_a_data_dir(machine: Machine) -> None:
    machine.set_up().ok("start")
    other = subprocess.run(
        [sys.executable, "-c", "from twisted.scripts.twistd import run; run()", "-n", "--pidfile=", "loopsy"],
        env=machine.environment,
        cwd=machine.root.parent,
        capture_output=True,
        timeout=2 * PATIENCE_S,
        check=False,
    )
    assert other.returncode != 0
    assert f"a daemon runs in {machine.root} already (pid {machine.pid})" in other.stderr.decode()
    assert b"Traceback" not in other.stdout + other.stderr
    assert machine.ask("GET", "/health").status == 200


def test_a_stop_takes_a_job_along_that_ignores_term(machine: Machine, tmp_path: Path) -> None:
    machine.set_up().ok("start")
    pids = tmp_path / "pids"
    stream = Stream(machine, "/execute/stream", {"command": "sh", "args": ["-c", STUBBORN, str(pids)]})
    until(lambda: both_started(pids))
    machine.ok("stop")
    assert not alive(pids)
    stream.close()


# -- files ------------------------------------------------------------------------------------------------------------
def test_nobody_else_may_read_anything_in_the_data_dir(machine: Machine) -> None:
    """Not when it was made, not after files were opened by hand: doctor tells, and a start mends."""
    machine.set_up()
    old_install(machine)
    machine.ok("start")
    machine.ask("PUT", "/context/k", {"value": "v"})
    until(lambda: machine.layout.audit.stat().st_size)
    machine.ok("stop")
    machine.ok("init", "--no-mcp", "--force", "--host", "127.0.0.1", "--port", str(machine.port))
    assert too_open(machine.root) == []
    assert machine.layout.daemon_log.stat().st_mode & 0o777 == 0o600
    opened = [path for path in machine.root.rglob("*") if path.is_file()]
    names = {path.name for path in opened}
    assert {"config.yaml", "loopsy.db", "audit.jsonl", "daemon.log", "context.json.imported"} <= names
    for path in [machine.root, machine.layout.logs, *opened]:
        path.chmod(0o777 if path.is_dir() else 0o666)
    check = next(c for c in machine.json("doctor")["checks"] if c["name"] == "permissions")
    assert (check["level"], check["remedy"]) == ("fail", "mend them with: loopsy doctor --fix")
    assert [path for path in opened if str(path) not in check["text"]] == []
    machine.ok("start")
    assert too_open(machine.root) == []
    assert "permissions" in machine.ok("stop") + machine.run("doctor").stdout.decode()


# -- reload -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("way", ["loopsy reload", "SIGHUP"])
def test_a_reload_takes_up_keys_peers_limits_and_policies_at_once(machine: Machine, way: str) -> None:
    machine.set_up().ok("start")
    refused(machine.ask("GET", "/status", key=PEER_KEY), 403, 1002)
    for path, value in (
        (("auth", "allowedKeys"), {"kai": PEER_KEY}),
        (("auth", "scopes"), {"kai": ["context"]}),
        (("rateLimits", "context"), 2),
        (("execution", "denylist"), ["uname"]),
        (("discovery", "manualPeers"), [{"address": "127.0.0.1", "port": 1, "hostname": "mia"}]),
        (("server", "hostname"), "bravo"),
        (("audit", "keepFiles"), 3),
    ):
        configfile.change(machine.layout.config, path, value)
    if way == "SIGHUP":
        assert machine.pid is not None
        os.kill(machine.pid, signal.SIGHUP)
        until(lambda: machine.ask("GET", "/status", key=PEER_KEY).status == 200)
    else:
        answer = machine.json("reload")
        applied = {"auth.allowedKeys", "auth.scopes", "rateLimits.context", "execution.denylist"}
        assert set(answer["applied"]) == {*applied, "discovery.manualPeers"}
        assert set(answer["needsRestart"]) == {"server.hostname", "audit.keepFiles"}
        said = machine.ok("reload")
        assert "nothing to take up" in said
        assert "waits for a restart: server.hostname, audit.keepFiles" in said
    assert [machine.ask("GET", "/context/none", key=PEER_KEY).status for _ in range(3)] == [404, 404, 429]
    refused(machine.ask("POST", "/execute", {"command": "true"}, key=PEER_KEY), 403, 1002, "execute")
    refused(machine.ask("POST", "/execute", {"command": "uname"}), 403, 3001)
    assert machine.ask("POST", "/execute", {"command": "rmdir"}).status == 200
    assert [peer["name"] for peer in machine.json("peers")["peers"]] == ["mia"]
    assert machine.json("status")["hostname"] == "alfa"


@pytest.mark.parametrize("way", ["loopsy reload", "SIGHUP"])
def test_a_bad_file_at_a_reload_changes_nothing(machine: Machine, way: str) -> None:
    machine.set_up(auth={"allowedKeys": {"kai": PEER_KEY}}).ok("start")
    text = machine.layout.config.read_text().replace(PEER_KEY, OTHER_KEY) + "execution:\n  maxConcurrent: none\n"
    machine.layout.config.write_text(text)
    place = f"{machine.layout.config}:{text.count(chr(10))}: execution.maxConcurrent must be a whole number"
    if way == "SIGHUP":
        assert machine.pid is not None
        os.kill(machine.pid, signal.SIGHUP)
        until(lambda: place in machine.log, "word of it in daemon.log")
    else:
        assert place in machine.fails("reload")
    assert machine.ask("GET", "/status", key=PEER_KEY).status == 200
    refused(machine.ask("GET", "/status", key=OTHER_KEY), 403, 1002)
    assert machine.layout.config.read_text() == text
    assert "Traceback" not in machine.log


def test_a_new_key_works_at_once_and_the_old_one_no_more(machine: Machine) -> None:
    machine.set_up().ok("start")
    old, new = machine.key, machine.ok("key", "generate").strip()
    assert old != new == machine.ok("key", "show").strip()
    assert machine.ask("GET", "/status", key=new).status == 200
    refused(machine.ask("GET", "/status", key=old), 403, 1002)
    assert machine.json("status")["pid"] == machine.pid


# -- an existing install ----------------------------------------------------------------------------------------------
USERS_CONFIG = """\
server:
  port: {port}
  host: 127.0.0.1
  hostname: leo                # optional custom hostname

auth:
  apiKey: {key}
  allowedKeys:
    kai: {peer_key}            # added automatically by loopsy pair

tls:
  enabled: false               # set to true for HTTPS
  pinnedCerts:                 # populated by loopsy pair
    kai: {pin}

execution:
  denylist: [rm, rmdir, format, mkfs, dd, shutdown, reboot]
  maxConcurrent: 10
  defaultTimeout: 300000       # 5 minutes

transfer:
  allowedPaths: [/Users/you]
  deniedPaths: [/Users/you/.ssh, /Users/you/.gnupg]
  maxFileSize: 1073741824      # 1 GB

rateLimits:
  execute: 30                  # requests per minute
  transfer: 10
  context: 60

discovery:
  enabled: true
  manualPeers:
    - address: 127.0.0.1
      port: 9

logging:
  level: info
"""
HOUR_MS = 3_600_000


def old_entries() -> dict[str, dict[str, Any]]:
    """What a running 1.x node had in memory when it wrote its file."""
    now = time.time_ns() // 1_000_000
    base = {"fromNodeId": "0f" * 16, "createdAt": now - 2 * HOUR_MS, "updatedAt": now - HOUR_MS}
    return {
        "kept": {"key": "kept", "value": "für immer\n", **base},
        "a/b c": {"key": "a/b c", "value": "", "ttl": 7200, "expiresAt": now + HOUR_MS, **base},
        "gone": {"key": "gone", "value": "x", "ttl": 60, "expiresAt": now - HOUR_MS, **base},
    }


def old_peer(node_id: str, name: str, port: int) -> dict[str, Any]:
    """As 1.x kept it, with a field that nobody knows."""
    return {
        "nodeId": node_id, "hostname": name, "address": "127.0.0.1", "port": port, "platform": "darwin",
        "version": "1.0.0", "capabilities": ["execute"], "status": "online", "lastSeen": 1700000000000,
        "failureCount": 2, "trusted": True, "manuallyAdded": False, "txt": {"x": 1},
    }  # fmt: skip


def old_install(machine: Machine, entries: Any = None, peers: Any = None) -> None:
    """The two files of a 1.x data directory, readable by all as node wrote them."""
    for path, value in ((machine.layout.old_context, entries), (machine.layout.old_peers, peers)):
        path.write_text(json.dumps(value if value is not None else {}))
        path.chmod(0o644)


SHAPES: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    "objects": (dict, dict),
    "lists": (lambda made: [*made.values()], lambda made: [*made.values()]),
    "pairs": (lambda made: [*made.items()], lambda made: [*made.items()]),
    "wrapped": (lambda made: {"version": 1, "entries": made}, lambda made: {"peers": list(made.values())}),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_an_existing_data_dir_starts_unchanged(machine: Machine, shape: str) -> None:
    machine.root.mkdir()
    config = USERS_CONFIG.format(port=machine.port, key=machine.key, peer_key=PEER_KEY, pin="ab" * 32)
    machine.layout.config.write_text(config)
    entries, peers = old_entries(), {"n-1": old_peer("n-1", "kai", 7), "n-2": old_peer("n-2", "mia", 8)}
    old_install(machine, *(make(made) for make, made in zip(SHAPES[shape], (entries, peers), strict=True)))
    machine.ok("start")
    assert machine.layout.config.read_text() == config
    assert machine.ok("context", "get", "kept") == "für immer\n"
    listed = {entry["key"]: entry for entry in machine.json("context", "list")["entries"]}
    assert listed == {key: entries[key] for key in ("kept", "a/b c")}
    assert {peer["nodeId"] for peer in machine.json("peers")["peers"]} == {"n-1", "n-2", "manual-127.0.0.1:9"}
    assert machine.ask("GET", "/status", key=PEER_KEY).status == 200
    names = {path.name for path in machine.root.iterdir()}
    assert {"context.json.imported", "peers.json.imported"} <= names
    assert not {"context.json", "peers.json"} & names
    machine.ok("context", "set", "kept", "newer")
    machine.ok("restart")
    assert machine.ok("context", "get", "kept") == "newer"


def test_a_corrupt_older_file_stops_the_start_and_stays(machine: Machine) -> None:
    machine.set_up()
    corrupt = b'{"kept": {"key": "kept", "value": "v'
    machine.layout.old_context.write_bytes(corrupt)
    said = machine.fails("start")
    assert f"{machine.layout.old_context}: " in said
    assert "mend it, or move it away to start without it" in said
    assert machine.layout.old_context.read_bytes() == corrupt
    machine.layout.old_context.rename(machine.root / "away")
    machine.ok("start")


def test_a_database_from_the_future_is_refused_with_words(machine: Machine) -> None:
    machine.set_up()
    with sqlite3.connect(machine.layout.database) as future:
        future.execute("PRAGMA user_version=99")
    future.close()
    said = machine.fails("start")
    assert f"{machine.layout.database} was written by a newer loopsy (schema 99" in said
    assert "Traceback" not in said


# -- a full disk ------------------------------------------------------------------------------------------------------
@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """4 MiB."""
    if os.name != "posix" or os.geteuid() != 0:
        pytest.skip("only root can mount a small disk")
    path = tmp_path / "home"
    path.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", path], capture_output=True, check=False)
    if mounted.returncode != 0:
        pytest.skip(f"no disk can be mounted here: {mounted.stderr.decode().strip()}")
    yield path
    subprocess.run(["umount", "--lazy", path], check=True)


def test_a_full_disk_refuses_writes_and_nothing_else(small_disk: Path) -> None:
    machine = Machine(small_disk / ".loopsy", "alfa")
    try:
        machine.set_up().ok("start")
        assert machine.ask("PUT", "/context/before", {"value": "v"}).status == 200
        filler = small_disk / "filler"
        with pytest.raises(OSError, match="No space left"):
            filler.write_bytes(b"x" * 8 * 1024 * 1024)
        answers = [machine.ask("PUT", f"/context/{n}", {"value": "x" * 50_000}) for n in range(40)]
        refused(answers[-1], 507, 9001, "nothing was changed")
        assert {answer.status for answer in answers} <= {200, 507}
        assert machine.ask("GET", "/context/before").body["value"] == "v"
        assert machine.ask("POST", "/execute", {"command": "echo", "args": ["hi"]}).body["stdout"] == "hi\n"
        filler.unlink()
        until(lambda: machine.ask("PUT", "/context/after", {"value": "v"}).status == 200, "a write that is taken again")
        kept = {entry["key"] for entry in machine.json("context", "list")["entries"]}
        assert kept == {"before", "after", *(str(n) for n, answer in enumerate(answers) if answer.status == 200)}
        until(lambda: any(r["path"].endswith("/context/after") for r in machine.audited), "the audit log to catch up")
        assert sum(record["method"] == "PUT" for record in machine.audited) >= len(answers) + 2
        machine.ok("logs", "--verify")
        machine.ok("restart")
        assert machine.ask("GET", "/context/after").body["value"] == "v"
    finally:
        machine.end()
