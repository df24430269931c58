"""``loopsy doctor`` by the real command: a healthy machine, and every kind of fault, each named with its remedy."""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from loopsy.cli.checks import files, finding
from loopsy.store import certificate, configfile
from loopsy.store.layout import Layout
from loopsy.testing.nodes import free_port
from tests.integration.conftest import until
from tests.integration.machine import Machine

KEY = "a1" * 32
FOUND = dict[str, dict[str, Any]]


def examined(machine: Machine) -> FOUND:
    """The checks by name; their exit status fits them."""
    done = machine.run("doctor", "--json")
    checks = json.loads(done.stdout)["checks"]
    assert done.returncode == any(check["level"] == "fail" for check in checks)
    assert all(check["remedy"] for check in checks if check["level"] != "pass"), checks
    return {check["name"]: check for check in checks}


def says(found: FOUND, name: str, level: str, text: str, remedy: str) -> None:
    """One of them."""
    assert name in found, f"nothing is said of {name}: {sorted(found)}"
    check = found[name]
    assert (check["level"], text in check["text"], remedy in check["remedy"]) == (level, True, True), check


# -- health -----------------------------------------------------------------------------------------------------------
def test_a_healthy_machine_is_well_in_every_respect(machine: Machine, request: pytest.FixtureRequest) -> None:
    request.addfinalizer(lambda: machine.run("session", "stop-all"))
    machine.set_up().ok("start")
    machine.ok("session", "start", "a", "--port", str(machine.port + 1))
    machine.ok("enable")
    until(lambda: machine.json("peers")["peers"][0]["status"] == "online")
    done = machine.run("doctor")
    said = done.stdout.decode()
    assert done.returncode == 0, said
    assert said.endswith("\nall is well\n"), said
    names = {"config", "permissions", "daemon", "port", "database", "audit log", "tls", "keys", "peer alfa-a", "clock"}
    assert names | {"mdns", "service", "sessions", "disk"} <= set(examined(machine))


# -- many faults at once ----------------------------------------------------------------------------------------------
class AnHourAhead(BaseHTTPRequestHandler):
    """An existing node (plain HTTP) whose clock is wrong."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = json.dumps({"status": "ok", "nodeId": "late", "uptime": 1, "version": "1.0.0"}).encode()
        self.send_response_only(200)
        self.send_header("Date", formatdate(time.time() + 3690, usegmt=True))
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = True

    def do_POST(self) -> None:
        self.send_error(404)

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def late() -> Iterator[int]:
    """The port of such a node."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), AnHourAhead)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    thread.join()
    server.server_close()


def peer(name: str, port: int) -> dict[str, Any]:
    return {"address": "127.0.0.1", "port": port, "hostname": name}


def test_many_faults_at_once_are_each_named_with_a_remedy(
    machine: Machine, late: int, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    request.addfinalizer(lambda: machine.run("session", "stop-all"))
    machine.set_up()
    layout, port = machine.layout, machine.port
    machine.ok("session", "start", "a", "--port", str(port + 1))
    killed = machine.json("session", "status", "a")["pid"]
    shows_another = Machine.at(tmp_path / "other", "bravo").set_up()
    request.addfinalizer(shows_another.end)
    shows_another.ok("start")
    keys = {"twin": KEY, "twin2": KEY, "old": "b" * 32, "late": "c" * 32, "bravo": "d" * 32, "own": machine.key}
    for name, key in keys.items():
        configfile.change(layout.config, ("auth", "allowedKeys", name), key)
    configfile.change(layout.config, ("tls", "pinnedCerts", "bravo"), "ab" * 32)
    for known in (peer("old", free_port()), peer("late", late), peer("bravo", shows_another.port)):
        configfile.change(layout.config, ("discovery", "manualPeers"), configfile.Entry("hostname", None, known))
    machine.ok("start")
    own = certificate.ensure(layout, "alfa")
    certificate.write(layout, certificate.Certificate(own.key, certificate._sign(own.key, "alfa", days=3)))
    machine.ok("enable")
    with closing(sqlite3.connect(layout.database)) as database, database:
        year = str(round((time.time() - 400 * 86400) * 1000))
        database.execute("INSERT INTO facts VALUES ('keys-made:old', ?)", (year,))
    unit = machine.root.parent / ".config" / "systemd" / "user" / "loopsy.service"
    unit.write_text(unit.read_text().replace("/python", "/python2"))
    os.kill(killed, signal.SIGKILL)
    bin_ = machine.root.parent / ".local" / "bin"
    bin_.mkdir(parents=True)
    (bin_ / "codex").write_text("#!/bin/sh\nexit 1\n")
    (bin_ / "codex").chmod(0o755)
    machine.ok("status")
    until(lambda: len(layout.audit.read_text().splitlines()) > 1)
    layout.audit.write_text(layout.audit.read_text().replace('"GET"', '"PUT"', 1))
    layout.audit.chmod(0o644)
    until(lambda: any(p["status"] == "online" for p in machine.json("peers")["peers"] if p["name"] == "late"))
    found = examined(machine)
    says(found, "permissions", "fail", str(layout.audit), "loopsy doctor --fix")
    says(found, "audit log", "fail", "which was changed", "keep a copy")
    says(found, "tls", "warn", "good for 2 more", "loopsy restart")
    said = machine.run("doctor").stdout.decode()
    assert "own has this machine's own key" in said
    assert "loopsy key generate" in said
    assert "twin2 and twin have the same key" in said
    assert "the keys with old are 400 days old" in said
    assert "loopsy peers rotate old" in said
    says(found, "peer old", "warn", "127.0.0.1", "firewall")
    says(found, "peer bravo", "fail", "shows another certificate", "loopsy peers revoke bravo")
    says(found, "clock", "warn", "that of late is 1 h 1 min ahead of ours", "timedatectl set-ntp true")
    says(found, "service", "warn", str(unit), "loopsy enable")
    assert "it was killed, or crashed\n" in said
    assert "start it again: loopsy session start a\n" in said
    says(found, "session a", "warn", "don't know each other", "loopsy session start a")
    says(found, "agent codex", "warn", "does not tell its version", "codex --version")
    assert "Traceback" not in said


# -- one by one -------------------------------------------------------------------------------------------------------
def test_without_a_data_directory_nothing_else_is_looked_at(machine: Machine) -> None:
    found = examined(machine)
    says(found, "data directory", "fail", str(machine.root), "loopsy init")
    assert len(found) == 1


def test_a_config_that_cannot_be_used(machine: Machine) -> None:
    machine.set_up().ok("start")
    machine.layout.config.write_text("server:\n  port: many\n")
    found = examined(machine)
    says(found, "config", "fail", "config.yaml:2: server.port", "mend that line")
    says(found, "daemon", "warn", "with an older config", "loopsy reload")


def test_a_daemon_that_does_not_run_and_a_port_that_another_has(machine: Machine) -> None:
    machine.set_up()
    with socket.create_server(("127.0.0.1", machine.port)):
        found = examined(machine)
    says(found, "daemon", "fail", "not running", "loopsy start")
    says(found, "port", "fail", f"port {machine.port} is taken by ", "server.port")
    assert f"(pid {os.getpid()})" in found["port"]["text"]


def test_a_daemon_that_does_not_serve(machine: Machine) -> None:
    machine.set_up().ok("start")
    configfile.change(machine.layout.config, ("auth", "apiKey"), KEY)
    says(examined(machine), "daemon", "fail", "does not serve us", "loopsy restart")


def test_a_damaged_database(machine: Machine) -> None:
    machine.set_up().ok("start")
    machine.ok("context", "set", "k", "v")
    machine.ok("stop")
    data = bytearray(machine.layout.database.read_bytes())
    data[4096 : 4096 * 6] = b"\xff" * (4096 * 5)
    machine.layout.database.write_bytes(bytes(data))
    says(examined(machine), "database", "fail", "is damaged", "backup")


def test_tls_that_is_off_or_has_lost_its_key(machine: Machine) -> None:
    machine.set_up().ok("start")
    machine.ok("stop")
    machine.layout.tls_key.unlink()
    before = machine.layout.tls_certificate.read_bytes()
    says(examined(machine), "tls", "fail", "key.pem", "pair again")
    assert machine.layout.tls_certificate.read_bytes() == before, "a doctor only looks"
    configfile.change(machine.layout.config, ("tls", "enabled"), False)
    says(examined(machine), "tls", "warn", "in clear", "tls.enabled: true")


def test_a_session_that_cannot_be_used_or_is_not_known(machine: Machine, request: pytest.FixtureRequest) -> None:
    request.addfinalizer(lambda: machine.run("session", "stop-all"))
    machine.set_up()
    machine.ok("session", "start-fleet", "-c", "2", "--port", str(machine.port + 1))
    machine.ok("session", "stop-all")
    broken = Layout(machine.root / "sessions" / "worker-1").config
    broken.write_text("auth: 1\n")
    configfile.change(machine.layout.config, ("auth", "allowedKeys", "alfa-worker-2"), None)
    found = examined(machine)
    says(found, "session worker-1", "fail", "config.yaml:1: auth", "loopsy session start worker-1")
    says(found, "session worker-2", "warn", "don't know each other", "loopsy session start worker-2")
    assert found["sessions"]["text"] == "0 of 2 running"


@contextmanager
def patient(machine: Machine) -> Iterator[finding.Patient]:
    yield finding.Patient(machine.set_up().layout, None, None, fix=False)


def test_a_disk_that_is_nearly_full(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    class Usage:
        free = 5 * 1024 * 1024

    monkeypatch.setattr(files.shutil, "disk_usage", lambda _: Usage)
    with patient(machine) as sick:
        (check,) = files.disk(sick)
    assert (check.level, check.text) == ("fail", "only 5.0 MiB are left")
    assert check.remedy
