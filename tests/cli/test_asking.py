"""Commands that ask the daemon one thing and show the answer: what goes out, what is shown."""

import io
import json
import re
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from loopsy.cli.main import main
from loopsy.cli.peers import split_address
from loopsy.errors import UsageError
from tests.cli.running import configured
from tests.cli.scripted import ScriptedDaemon, answer, body_of

PEER = {"nodeId": "11111111-2222", "name": "kai", "hostname": "kai-host", "address": "10.0.0.7", "port": 19532,
        "status": "online", "lastSeen": 0, "trusted": True}  # fmt: skip
EVIL = {**PEER, "name": None, "hostname": "x\x1b[2J", "nodeId": "manual-a:1", "trusted": False, "address": "fd00::1"}
Capsys = pytest.CaptureFixture[str]


def asked(tmp_path: Path, answers: list[bytes], *words: str) -> tuple[int, list[bytes]]:
    with ScriptedDaemon(answers=answers) as scripted:
        status = main(["--data-dir", str(configured(tmp_path, scripted.port)), *words])
    return status, scripted.requests


def line_of(request: bytes) -> str:
    return request.split(b" HTTP", 1)[0].decode()


# -- peers ------------------------------------------------------------------------------------------------------------
def test_peers(tmp_path: Path, capsys: Capsys) -> None:
    assert asked(tmp_path, [answer(200, {"peers": [PEER, EVIL]})], "peers")[0] == 0
    rows = capsys.readouterr().out.splitlines()
    assert rows[0].split() == ["PEER", "ADDRESS", "STATUS", "LAST", "SEEN", "TRUST", "MAY", "USED", "NODE"]
    plain = ["key,", "plain", "http", "nothing", "never", "11111111"]
    assert rows[1].split() == ["kai", "10.0.0.7:19532", "online", "never", *plain]
    assert rows[2].split()[:2] == ["x\\x1b[2J", "[fd00::1]:19532"]
    assert rows[2].split()[-6:] == ["key", "nothing", "never", "not", "known", "yet"]


@pytest.mark.parametrize("words", [("peers", "--json"), ("peers", "list", "--json"), ("peers", "--json", "list")])
def test_peers_as_json(tmp_path: Path, words: tuple[str, ...], capsys: Capsys) -> None:
    asked(tmp_path, [answer(200, {"peers": [EVIL]})], *words)
    assert json.loads(capsys.readouterr().out) == {"peers": [EVIL]}


def test_adding_a_peer(tmp_path: Path, capsys: Capsys) -> None:
    _, requests = asked(
        tmp_path, [answer(200, {**PEER, "trusted": False})], "peers", "add", "10.0.0.7", "5", "--name", "kai"
    )
    assert line_of(requests[0]) == "POST /api/v1/peers"
    assert body_of(requests[0]) == {"address": "10.0.0.7", "port": 5, "hostname": "kai"}
    assert "loopsy pair" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("word", "gone"), [("kai", "11111111-2222"), ("11111111-2222", "11111111-2222"), ("other", "other")]
)
def test_removing_a_peer(tmp_path: Path, word: str, gone: str, capsys: Capsys) -> None:
    answers = [answer(200, {"peers": [PEER, EVIL]}), answer(200, {"success": True, "nodeId": gone})]
    _, requests = asked(tmp_path, answers, "peers", "remove", word)
    assert line_of(requests[1]) == f"DELETE /api/v1/peers/{gone}"


@pytest.mark.parametrize(
    ("word", "port", "expected"),
    [
        ("kai.local", None, ("kai.local", 19532)),
        ("10.0.0.7", 5, ("10.0.0.7", 5)),
        ("10.0.0.7:6", None, ("10.0.0.7", 6)),
        ("fd00::1", None, ("fd00::1", 19532)),
        ("fd00::1", 5, ("fd00::1", 5)),
        ("[fd00::1]", 5, ("fd00::1", 5)),
        ("[fd00::1]:6", None, ("fd00::1", 6)),
    ],
)
def test_addresses(word: str, port: int | None, expected: tuple[str, int]) -> None:
    assert split_address(word, port) == expected


@pytest.mark.parametrize(("word", "port"), [("a:5", 6), ("a:x", None), ("a:0", None), ("[fd00::1", None), ("a:", None)])
def test_what_is_no_address(word: str, port: int | None) -> None:
    with pytest.raises(UsageError):
        split_address(word, port)


# -- context ----------------------------------------------------------------------------------------------------------
def entry(key: str, **more: Any) -> dict[str, Any]:
    return {"key": key, "value": "v", "fromNodeId": "11111111-2222", "createdAt": 1, "updatedAt": 1, **more}


def test_setting_a_value(tmp_path: Path) -> None:
    words = ("context", "set", "a/b ü", "välue", "--ttl", "90s", "--peer", "kai")
    _, requests = asked(tmp_path, [answer(200, entry("x"))], *words)
    assert line_of(requests[0]) == "PUT /api/v1/peers/kai/context/a%2Fb%20%C3%BC"
    assert body_of(requests[0]) == {"value": "välue", "ttl": 90.0}


def stdin_of(data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(data)))


def test_a_value_from_stdin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capsys) -> None:
    stdin_of(b"a\0\r\n", monkeypatch)
    _, requests = asked(tmp_path, [answer(200, entry("x"))], "context", "set", "k", "-")
    assert body_of(requests[0]) == {"value": "a\0\r\n"}
    stdin_of(b"\xff", monkeypatch)
    assert asked(tmp_path, [b""], "context", "set", "k", "-") == (2, [])
    assert "the value is not UTF-8 (byte 0)" in capsys.readouterr().err


def test_a_value_alone(tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    asked(tmp_path, [answer(200, entry("k", value="ä\x1b\n"))], "context", "get", "k")
    assert capfdbinary.readouterr().out == "ä\x1b\n".encode()


def test_the_list(tmp_path: Path, capsys: Capsys) -> None:
    soon = time.time() * 1000 + 9_000_000
    entries = {"entries": [entry("a\x1b"), entry("b", fromNodeId="99999999-0", expiresAt=soon)]}
    _, requests = asked(
        tmp_path, [answer(200, entries), answer(200, {"peers": [PEER]})], "context", "list", "--prefix", "a b"
    )
    (tmp_path / "node-id").write_text("99999999-0")
    asked(tmp_path, [answer(200, entries), answer(200, {"peers": [PEER]})], "context", "list")
    assert line_of(requests[0]) == "GET /api/v1/context?prefix=a%20b"
    rows = capsys.readouterr().out.splitlines()[-2:]
    assert rows[0].startswith("a\\x1b  1 B")
    assert rows[0].split()[-2:] == ["never", "kai"]
    assert re.search(r"in 2 h (2\d|30) min  this machine", rows[1])


@pytest.mark.parametrize(
    "shape",
    [
        lambda es: {e["key"]: e for e in es},
        lambda es: es,
        lambda es: {"entries": es},
        lambda es: [[e["key"], e] for e in es],
    ],
)
def test_import_takes_every_shape_and_the_ttl_that_is_left(tmp_path: Path, shape: Any, capsys: Capsys) -> None:
    now = time.time() * 1000
    entries = [
        entry("a"),
        entry("b", expiresAt=round(now + 50_000_000), ttl=999),
        entry("c", expiresAt=5),
        entry("d", ttl=7),
    ]
    file = tmp_path / "in.json"
    file.write_text(json.dumps(shape(entries)))
    status, requests = asked(tmp_path, [answer(200, entry("x"))], "context", "import", str(file))
    assert status == 0
    bodies = {line_of(request): body_of(request) for request in requests}
    assert bodies["PUT /api/v1/context/a"] == {"value": "v"}
    assert 40_000 < bodies["PUT /api/v1/context/b"]["ttl"] <= 50_000
    assert bodies["PUT /api/v1/context/d"]["ttl"] == 7
    assert capsys.readouterr().out == "set 3 entries; 1 had expired\n"


@pytest.mark.parametrize("text", ["5", "{", '{"a":[1]}', "\udcff"])
def test_import_refuses_what_it_can_t_read(tmp_path: Path, text: str, capsys: Capsys) -> None:
    file = tmp_path / "in.json"
    file.write_bytes(text.encode("utf-8", "surrogateescape"))
    assert asked(tmp_path, [b""], "context", "import", str(file)) == (2, [])
    assert capsys.readouterr().err.startswith(f"loopsy: {file}: ")


def test_export_and_import_are_inverse(tmp_path: Path) -> None:
    file = tmp_path / "out.json"
    entries = [entry("a/b", value="1"), entry("c", value="ü")]
    asked(tmp_path, [answer(200, {"entries": entries})], "context", "export", str(file))
    assert file.stat().st_mode & 0o777 == 0o600
    _, requests = asked(tmp_path, [answer(200, entries[0])], "context", "import", str(file))
    assert [body_of(request) for request in requests] == [{"value": "1"}, {"value": "ü"}]


# -- jobs -------------------------------------------------------------------------------------------------------------
JOB = {
    "jobId": "j",
    "command": "sh",
    "args": ["-c", "a b"],
    "startedAt": 1,
    "fromNodeId": "n",
    "pid": 5,
    "detached": True,
}


def test_jobs(tmp_path: Path, capsys: Capsys) -> None:
    _, requests = asked(tmp_path, [answer(200, {"jobs": [JOB]})], "jobs", "kai")
    assert line_of(requests[0]) == "GET /api/v1/peers/kai/execute/jobs"
    assert capsys.readouterr().out.splitlines()[1].endswith("sh -c 'a b' (detached)")


def test_cancelling(tmp_path: Path, capsys: Capsys) -> None:
    _, requests = asked(tmp_path, [answer(200, {})], "jobs", "cancel", "j/1", "--peer", "kai")
    assert line_of(requests[0]) == "DELETE /api/v1/peers/kai/execute/j%2F1"
    assert asked(tmp_path, [b""], "jobs", "cancel") == (2, [])


# -- status and reload ------------------------------------------------------------------------------------------------
STATUS = {"nodeId": "n", "hostname": "leo\x1b", "version": "1.0.0", "packageVersion": "0.1.0", "uptime": 61.0, "pid": 7,
          "peers": {"total": 1, "online": 1}, "jobs": {"active": 2, "total": 3}, "context": {"entries": 1},
          "tls": {"enabled": False}}  # fmt: skip


def test_status(tmp_path: Path, capsys: Capsys) -> None:
    assert asked(tmp_path, [answer(200, STATUS), answer(200, {"peers": [PEER]})], "status")[0] == 0
    out = capsys.readouterr().out
    assert out.startswith("loopsy 0.1.0 runs on leo\\x1b\n")
    assert "1 of 1 online: kai online" in out
    assert "1 min 1 s (pid 7" in out


def test_reload(tmp_path: Path, capsys: Capsys) -> None:
    said = {"applied": ["auth.apiKey"], "needsRestart": ["server.port"], "warnings": ["odd \x1b"]}
    _, requests = asked(tmp_path, [answer(200, said)], "reload")
    captured = capsys.readouterr()
    assert line_of(requests[0]) == "POST /api/v1/reload"
    assert captured.out == "taken up: auth.apiKey\nwaits for a restart: server.port\n  loopsy restart\n"
    assert captured.err == "warning: odd \\x1b\n"
