"""``loopsy session``: further daemons on one machine, by the real command."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from loopsy.store import configfile, pidfile
from loopsy.store.layout import Layout
from loopsy.testing.nodes import free_port
from tests.integration.conftest import until
from tests.integration.machine import COMMAND, Machine


class Host(Machine):
    """A machine with sessions; their ports begin at one that was free."""

    def session(self, *words: str) -> str:
        """``loopsy session …``, which must succeed."""
        starts = words[0] in ("start", "start-fleet")
        return self.ok("session", *words, *(("--port", str(self.port + 1)) if starts else ()))

    def listed(self) -> dict[str, dict[str, Any]]:
        """What ``session list`` says, by name, once all that run have answered it within its 5 s."""

        def found() -> Any:
            sessions = self.json("session", "list")["sessions"]
            return all(one["state"] != "silent" for one in sessions) and (sessions,)

        (sessions,) = until(found, "answers of all that run")
        return {one["name"]: one for one in sessions}

    def layout_of(self, name: str) -> Layout:
        """A session's."""
        return Layout(self.root / "sessions" / name)

    def pid_of(self, name: str) -> int | None:
        """Of a session's daemon that runs."""
        return pidfile.running(self.layout_of(name).pid)

    def online(self, *words: str) -> set[str]:
        """The names of the peers that are online and trusted, as ``loopsy <words> peers`` has them."""
        peers = self.json(*words, "peers")["peers"]
        return {peer["name"] for peer in peers if peer["status"] == "online" and peer["trusted"]}


def free_row(count: int) -> int:
    """The first of so many ports in a row that nobody uses now."""
    while True:
        first = free_port()
        with ExitStack() as taken, suppress(OSError):
            for port in range(first, first + count):
                taken.enter_context(socket.socket()).bind(("127.0.0.1", port))
            return first


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    """Set up, not started; all of it is stopped at the end."""
    made = Host.at(tmp_path / "home")
    made.port = free_row(6)
    made.set_up()
    yield made
    made.run("session", "stop-all")
    for path in (made.root / "sessions").glob("*"):
        pid = made.pid_of(path.name)
        if pid is not None:
            os.kill(pid, signal.SIGKILL)
    made.end()


def test_a_fleet_is_started_and_everyone_reaches_everyone(host: Host) -> None:
    """The main daemon runs already and takes it up; keys are per pair, certificates pinned."""
    host.ok("start")
    said = host.session("start-fleet", "--count", "3")
    assert [line.split()[0] for line in said.splitlines()] == ["worker-1", "worker-2", "worker-3"]
    names = {"alfa-worker-1", "alfa-worker-2", "alfa-worker-3"}
    until(lambda: host.online() == names, "the main daemon to see them")
    for name in ("worker-1", "worker-2", "worker-3"):
        others = names - {f"alfa-{name}"} | {"alfa"}
        until(lambda name=name, others=others: host.online("--session", name) == others, f"{name} to see all")
    assert all(peer["pin"] for peer in host.json("peers")["peers"])
    assert host.ok("exec", "alfa-worker-1", "--", "echo", "hi") == "hi\n"
    assert host.ok("--session", "worker-1", "exec", "alfa-worker-3", "--", "echo", "hi") == "hi\n"
    assert host.ok("--session=worker-3", "exec", "alfa", "--", "echo", "hi") == "hi\n"
    found = host.listed()
    assert [one["state"] for one in found.values()] == ["running"] * 3
    assert [one["status"]["hostname"] for one in found.values()] == sorted(names)
    assert len({one["port"] for one in found.values()} | {host.port}) == 4
    assert "alfa-worker-2" in host.ok("session", "list")
    assert "Traceback" not in host.log


def test_they_are_told_apart_by_where_their_data_lies(host: Host) -> None:
    host.session("start", "a")
    host.ok("--session", "a", "context", "set", "k", "of a")
    host.ok("start")
    assert "k" in host.fails("context", "get", "k")
    named = until(lambda: (said := host.json("session", "status", "a"))["state"] == "running" and said, "its answer")
    assert named["status"]["nodeId"] == host.json("--session", "a", "status")["nodeId"]
    assert host.layout_of("a").database.exists()
    assert "there is no session 'b'" in host.fails("--session", "b", "status")
    assert "can't be called" in host.fails("--session", "../a", "status", status=2)


def test_starting_again_leaves_those_that_run_alone(host: Host) -> None:
    host.session("start-fleet", "-c", "2")
    pids, texts = [host.pid_of("worker-1"), host.pid_of("worker-2")], host.layout_of("worker-1").config.read_bytes()
    said = host.session("start-fleet", "-c", "2")
    assert said == "".join(f"worker-{n} runs already (pid {pid})\n" for n, pid in enumerate(pids, 1))
    assert host.session("start", "worker-1") == said.splitlines(keepends=True)[0]
    assert [host.pid_of("worker-1"), host.pid_of("worker-2")] == pids
    assert host.layout_of("worker-1").config.read_bytes() == texts


def test_a_stopped_session_comes_back_as_the_same_peer(host: Host) -> None:
    host.ok("start")
    host.session("start", "a")
    before = host.listed()["a"]
    assert host.ok("session", "stop", "a") == f"a is stopped (it was pid {before['pid']})\n"
    assert host.run("session", "status", "a").returncode == 3
    assert host.listed()["a"]["state"] == "stopped"
    host.session("start", "a")
    after = host.listed()["a"]
    assert (after["port"], after["status"]["nodeId"]) == (before["port"], before["status"]["nodeId"])
    until(lambda: host.online() == {"alfa-a"}, "the main daemon to see it again")


def test_one_that_was_killed_is_told_and_starts_again(host: Host) -> None:
    host.session("start", "a")
    pid = host.pid_of("a")
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    until(lambda: host.pid_of("a") is None)
    assert host.listed()["a"]["state"] == "died"
    assert host.ok("session", "restart", "a").splitlines()[0] == "a is not running"
    assert host.pid_of("a") not in (None, pid)
    assert host.listed()["a"]["state"] == "running"


def test_what_keeps_one_from_starting_is_named_and_the_others_run(host: Host) -> None:
    host.session("start-fleet", "-c", "3")
    host.session("stop-all")
    broken = host.layout_of("worker-1").config
    broken.write_text(broken.read_text().replace("enabled: false", "enabled: perhaps"))
    taken = configfile.load(host.layout_of("worker-2").config).config.server.port
    with socket.create_server(("127.0.0.1", taken)):
        done = host.run("session", "start-fleet", "-c", "3")
    said = done.stderr.decode()
    assert done.returncode == 1
    assert "worker-1: " in said
    assert "discovery.enabled must be true or false" in said
    assert f"worker-2: port {taken} is taken by " in said
    assert f"(pid {os.getpid()})" in said
    assert done.stdout.decode().startswith("worker-3 runs (pid ")
    assert {name: one["state"] for name, one in host.listed().items()} == {
        "worker-1": "broken", "worker-2": "stopped", "worker-3": "running",
    }  # fmt: skip


def test_a_port_that_somebody_has_is_passed_over_by_a_new_session(host: Host) -> None:
    host.session("start", "a")
    first = host.listed()["a"]["port"]
    host.session("stop", "a")
    with socket.create_server(("127.0.0.1", first + 1)):
        host.session("start", "b")
    assert host.listed()["b"]["port"] == first + 2, "a's stays a's though it is stopped, the next is taken"


def test_stop_all_needs_no_main_daemon(host: Host) -> None:
    host.ok("start")
    host.session("start-fleet", "-c", "3")
    assert host.pid is not None
    os.kill(host.pid, signal.SIGKILL)
    assert len(host.session("stop-all").splitlines()) == 3
    assert [host.pid_of(f"worker-{n}") for n in (1, 2, 3)] == [None] * 3
    assert host.session("stop-all") == "no session is running\n"


def test_one_that_is_removed_is_gone_from_all(host: Host) -> None:
    host.ok("start")
    host.session("start-fleet", "-c", "2")
    until(lambda: host.online() == {"alfa-worker-1", "alfa-worker-2"})
    key = configfile.load(host.layout_of("worker-1").config).config.auth.peer_keys["alfa"]
    assert host.ask("GET", "/identity", key=key).status == 200
    assert "no terminal to ask on" in host.fails("session", "remove", "worker-1", status=2)
    host.session("remove", "worker-1", "--yes")
    assert host.ask("GET", "/identity", key=key).status == 403
    assert [peer["name"] for peer in host.json("peers")["peers"]] == ["alfa-worker-2"]
    assert not host.layout_of("worker-1").root.exists()
    assert b"worker-1" not in host.layout.config.read_bytes() + host.layout_of("worker-2").config.read_bytes()


def test_without_a_main_config_there_is_nothing_to_start_from(tmp_path: Path) -> None:
    bare = Host.at(tmp_path / "home")
    assert "loopsy init" in bare.fails("session", "start", "a")
    assert bare.ok("session", "list").startswith("no sessions")
    assert bare.ok("session", "stop-all") == "no session is running\n"


def test_the_shell_completes_their_names(host: Host) -> None:
    host.session("start", "builds")
    for line in ("loopsy session stop b", "loopsy --session b"):
        asked = {"_ARGCOMPLETE": "1", "COMP_LINE": line, "COMP_POINT": str(len(line))}
        out = host.root / "completions"
        asked["_ARGCOMPLETE_STDOUT_FILENAME"] = str(out)
        subprocess.run(COMMAND, env={**host.environment, **asked}, check=False)
        assert out.read_text().split("\013") == ["builds "], line
