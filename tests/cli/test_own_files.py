"""Commands that work on this machine's own files: init, key, logs, doctor; and what they say without a daemon."""

import json
import os
import socket
import sqlite3
from pathlib import Path

import pytest

from loopsy import config
from loopsy.cli import launch
from loopsy.cli.logs import Follower, newest, readable
from loopsy.cli.main import main
from loopsy.core.audit import START, link
from loopsy.store.audit import AuditLog
from loopsy.store.database import Database, set_fact
from loopsy.store.layout import Layout
from loopsy.testing.nodes import free_port
from tests.cli.running import KEY, configured
from tests.cli.scripted import ScriptedDaemon, answer

Capsys = pytest.CaptureFixture[str]


def loopsy(directory: Path, *words: str) -> int:
    return main(["--data-dir", str(directory), *words])


@pytest.fixture
def made(tmp_path: Path, capsys: Capsys, home: Path) -> Path:
    """A data directory as init makes it, for a user who has no agents."""
    directory, where = tmp_path / "d", ("--host", "127.0.0.1", "--port", str(free_port()))
    assert loopsy(directory, "init", "--no-mcp", "--hostname", "leo", *where) == 0
    capsys.readouterr()
    return directory


# -- init and key -----------------------------------------------------------------------------------------------------
def test_init_makes_what_a_daemon_needs(made: Path) -> None:
    parsed = config.parse((made / "config.yaml").read_text())
    assert parsed.warnings == ()
    assert len(parsed.config.auth.api_key) == 64
    assert parsed.config.server.hostname == "leo"
    assert parsed.config.tls.enabled
    assert Layout(made).too_open() == []
    assert (made / "node-id").exists()


def test_init_keeps_what_is_there(made: Path, capsys: Capsys) -> None:
    before = (made / "config.yaml").read_bytes()
    assert loopsy(made, "init") == 1
    assert "loopsy init --force" in capsys.readouterr().err
    assert (made / "config.yaml").read_bytes() == before


def test_force_keeps_a_copy_each_time(made: Path) -> None:
    before, node = (made / "config.yaml").read_bytes(), (made / "node-id").read_text()
    assert [loopsy(made, "init", "--force", "--no-mcp") for _ in range(2)] == [0, 0]
    assert (made / "config.yaml.bak-1").read_bytes() == before
    assert (made / "config.yaml.bak-2").exists()
    assert (made / "config.yaml.bak-1").stat().st_mode & 0o777 == 0o600
    assert (made / "node-id").read_text() == node


def test_a_new_key_is_taken_up_with_the_old_one(tmp_path: Path, capsys: Capsys) -> None:
    with ScriptedDaemon(answer(200, {"applied": [], "needsRestart": [], "warnings": []})) as scripted:
        assert loopsy(configured(tmp_path, scripted.port), "key", "generate") == 0
    captured = capsys.readouterr()
    new = captured.out.strip()
    assert new != KEY
    assert len(new) == 64
    assert f"Bearer {KEY}\r\n".encode() in scripted.requests[0]
    assert "uses it from now on" in captured.err
    assert loopsy(tmp_path, "key", "show") == 0
    assert capsys.readouterr().out.strip() == new


def test_a_new_key_without_a_daemon(made: Path, capsys: Capsys) -> None:
    assert loopsy(made, "key", "generate") == 0
    assert "it will start with the new key" in capsys.readouterr().err


# -- without a daemon -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("words", "status"),
    [(("status",), 3), (("peers",), 1), (("exec", "kai", "ls"), 255), (("reload",), 1), (("stop",), 0)],
)
def test_no_daemon(made: Path, words: tuple[str, ...], status: int, capsys: Capsys) -> None:
    assert loopsy(made, *words) == status
    captured = capsys.readouterr()
    assert "not running" in captured.err + captured.out


def test_a_taken_port_names_its_holder(made: Path, capsys: Capsys) -> None:
    port = config.parse((made / "config.yaml").read_text()).config.server.port
    with socket.create_server(("127.0.0.1", port)):
        assert loopsy(made, "start") == 1
    err = capsys.readouterr().err
    assert f"port {port} is taken by " in err
    assert f"(pid {os.getpid()})" in err


def test_start_with_a_broken_config(made: Path, capsys: Capsys) -> None:
    (made / "config.yaml").write_text(f"auth:\n  apiKey: {KEY}\nserver:\n  port: 0\n")
    assert loopsy(made, "start") == 1
    assert "config.yaml:4: server.port must be" in capsys.readouterr().err


def test_last_words_come_from_the_first_file_that_has_any(made: Path) -> None:
    layout = Layout(made)
    assert "daemon.log" in launch.last_words(layout)
    layout.daemon_log.write_text("from the log\n")
    layout.start_output.write_text("")
    assert launch.last_words(layout) == "from the log"
    layout.start_output.write_text("".join(f"{n}\n" for n in range(99)))
    assert launch.last_words(layout).splitlines()[-1] == "98"


# -- logs -------------------------------------------------------------------------------------------------------------
def record(number: int) -> dict[str, object]:
    return {"time": number, "who": "local", "method": "GET", "path": f"/{number}", "status": 200, "ms": 1.5}


@pytest.fixture
def logged(made: Path) -> Path:
    """Twenty lines over several files, all remembered."""
    layout = Layout(made)
    log = AuditLog(layout.audit, 700, 100)
    for number in range(20):
        log.append([record(number)])
    log.close()
    database = Database(layout.database)
    database.write([lambda db: set_fact(db, "audit-head", log.state.text())])
    database.close()
    return made


def test_the_newest_lines_of_several_files(logged: Path) -> None:
    lines = newest(Layout(logged).audit, 5)
    assert [json.loads(line)["path"] for line in lines] == ["/15", "/16", "/17", "/18", "/19"]
    assert len(newest(Layout(logged).audit, 99)) == 20


def test_an_unbroken_chain(logged: Path, capsys: Capsys) -> None:
    assert loopsy(logged, "logs", "--verify") == 0
    assert capsys.readouterr().out == "20 lines, unbroken\n"


def test_a_changed_line_is_placed_in_its_file(logged: Path, capsys: Capsys) -> None:
    from loopsy.store.audit import files

    oldest = files(Layout(logged).audit)[0]
    oldest.write_text(oldest.read_text().replace('"path":"/1"', '"path":"/X"'))
    assert loopsy(logged, "logs", "--verify") == 1
    assert f"{oldest}:3: does not follow" in capsys.readouterr().out


def test_a_cut_end(logged: Path, capsys: Capsys) -> None:
    Layout(logged).audit.write_bytes(b"")
    assert loopsy(logged, "logs", "--verify", "--json") == 1
    assert "the end was cut off" in json.loads(capsys.readouterr().out)["fault"]["text"]


def test_a_damaged_database_is_told(logged: Path, capsys: Capsys) -> None:
    Layout(logged).database.write_bytes(b"no database at all, but long enough to be looked at" * 99)
    assert loopsy(logged, "logs", "--verify") == 1
    assert "loopsy.db can't be read" in capsys.readouterr().err


def test_following_through_a_rotation(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    log = AuditLog(path, 300, 10)
    log.append([record(0)])
    follower = Follower(path)
    seen = []
    for number in range(1, 9):
        log.append([record(number)])
        seen += [json.loads(line)["path"] for line in follower.new()]
    log.close()
    assert seen == [f"/{number}" for number in range(1, 9)]


def test_following_what_is_not_there_yet(tmp_path: Path) -> None:
    follower = Follower(tmp_path / "audit.jsonl")
    assert list(follower.new()) == []
    (tmp_path / "audit.jsonl").write_bytes(b"one\ntw")
    assert list(follower.new()) == [b"one"]
    (tmp_path / "audit.jsonl").open("ab").write(b"o\n")
    assert list(follower.new()) == [b"two"]


def test_a_record_for_a_person() -> None:
    line, _ = link(START, {
        "time": 0, "who": "kai\x1b", "status": 403, "code": 3001, "ms": 12.3, "method": "POST",
        "path": "/api/v1/peers/kai/execute",
        "what": {"peer": "kai", "path": "/execute", "command": "rm \x1b]0;x\x07", "exit": 1},
    })  # fmt: skip
    text = readable(line.decode())
    assert text.isprintable()
    assert "403/3001" in text
    assert text.endswith("POST /execute on kai $ rm \\x1b]0;x\\x07 → 1")


@pytest.mark.parametrize("text", ["", "5", "[]", '{"time":"x"}', '{"time":1e300,"status":1}', "\x1b[2J", '{"what":5}'])
def test_a_line_that_is_no_record(text: str) -> None:
    assert readable(text).isprintable()


# -- doctor -----------------------------------------------------------------------------------------------------------
def levels(directory: Path, capsys: Capsys, *words: str) -> dict[str, str]:
    status = loopsy(directory, "doctor", "--json", *words)
    found = {check["name"]: check["level"] for check in json.loads(capsys.readouterr().out)["checks"]}
    assert status == (1 if "fail" in found.values() else 0)
    return found


def test_doctor_without_a_data_dir(tmp_path: Path, capsys: Capsys) -> None:
    assert levels(tmp_path / "none", capsys) == {"data directory": "fail"}


def test_doctor_without_a_daemon(logged: Path, capsys: Capsys) -> None:
    found = levels(logged, capsys)
    of_this_machine = {name: found.pop(name) for name in ("agents", "service")}
    assert "fail" not in of_this_machine.values()
    assert found == {
        "config": "pass", "permissions": "pass", "daemon": "fail", "port": "pass", "tls": "pass", "keys": "pass",
        "database": "pass", "audit log": "pass", "disk": "pass",
    }  # fmt: skip


def test_doctor_mends_permissions(made: Path, capsys: Capsys) -> None:
    (made / "config.yaml").chmod(0o644)
    assert levels(made, capsys)["permissions"] == "fail"
    assert levels(made, capsys, "--fix")["permissions"] == "pass"
    assert (made / "config.yaml").stat().st_mode & 0o777 == 0o600


def test_doctor_goes_on_past_what_is_broken(logged: Path, capsys: Capsys) -> None:
    (logged / "config.yaml").write_text("server: 5\n")
    Layout(logged).database.write_bytes(b"x" * 9999)
    found = levels(logged, capsys)
    assert (found["config"], found["database"], found["audit log"], found["disk"]) == ("fail", "fail", "fail", "pass")


def test_reading_changes_nothing(logged: Path) -> None:
    before = {path: path.read_bytes() for path in logged.rglob("*") if path.is_file()}
    loopsy(logged, "logs", "--verify")
    loopsy(logged, "doctor")
    assert {path: path.read_bytes() for path in before} == before
    assert sqlite3.connect(Layout(logged).database).execute("PRAGMA quick_check").fetchone() == ("ok",)
