"""Start-up speed: the commands that people run in loops import nothing heavy."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from loopsy.wire import frames
from tests.cli.running import configured, environment
from tests.cli.scripted import ScriptedDaemon, answer, stream
from tests.waiting import PATIENCE_S

FORBIDDEN = (
    "attr", "attrs", "cattrs", "http.client", "email", "ssl", "twisted", "rich", "psutil", "ruamel", "subprocess",
    "uuid", "asyncio", "logging", "shutil", "sqlite3", "importlib.metadata", "argcomplete", "yaml", "loopsy.config",
    "loopsy.core", "loopsy.services", "loopsy.web", "concurrent", "urllib.request", "inspect", "dataclasses",
    "threading", "queue", "loopsy.cli.many",
)  # fmt: skip
SCRIPT = """
import json, sys
from loopsy.cli.main import main
status = main(sys.argv[1:])
print("\\n" + json.dumps([status, sorted(sys.modules)]))
"""
EXIT = frames.encode(frames.EXIT, b'{"exitCode":0,"killed":false}')
PLAIN = {
    "nodeId": "n", "hostname": "leo", "version": "1.0.0", "uptime": 1.0, "peers": {"total": 0, "online": 0},
    "jobs": {"active": 0, "total": 0}, "context": {"entries": 0}, "value": "v", "key": "k",
}  # fmt: skip
TRANSFER = {
    "transferId": "0b5f-1", "direction": "send", "peer": "kai", "sources": ["/tmp/f"], "destination": "f",
    "state": "completed", "startedAt": 1, "finishedAt": 2, "bytesTotal": 5, "bytesDone": 5, "bytesSent": 5,
}  # fmt: skip
EVENTS = b"HTTP/1.0 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: " + json.dumps(TRANSFER).encode() + b"\n\n"
LISTED = {"name": "f", "path": "/f", "type": "file", "size": 1, "modified": 1, "mode": 0o644}


MESSAGE = {
    "id": "1-leo-abc", "direction": "in", "seq": 1, "from": "kai", "fromNodeId": "n", "to": "leo", "type": "chat",
    "body": "hello", "ts": 1, "receivedAt": 1, "state": "unread", "stateAt": 1, "thread": "1-leo-abc",
    "origin": "person", "depth": 0, "trust": "from peer kai, not from your user",
}  # fmt: skip
PAGE = {"messages": [MESSAGE], "unread": 1}
TASK = {
    "taskId": "3f9a01bc-0000-4000-8000-000000000001", "prompt": "p", "title": "p", "agent": "claude", "cwd": "/",
    "status": "running", "permissionMode": "default", "from": "local", "startedAt": 1, "lastSeq": 1,
}  # fmt: skip
HOOKED = b'{"hook_event_name": "Stop", "stop_hook_active": false}'


def modules_of(directory: Path, *words: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *words],
        input=HOOKED,
        capture_output=True,
        env=environment(directory),
        timeout=PATIENCE_S,
        check=True,
    )
    status, modules = json.loads(done.stdout.splitlines()[-1])
    assert status == 0, done.stderr
    return list(modules)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("exec", "kai", "true"), [stream(frames.CONTENT_TYPE, EXIT)]),
        (("context", "get", "k"), [answer(200, PLAIN)]),
        (("status",), [answer(200, PLAIN), answer(200, {"peers": []})]),
        (("send", "kai", __file__, "f"), [answer(202, TRANSFER), EVENTS]),
        (("pull", "kai", "f", "/tmp/f"), [answer(202, TRANSFER), EVENTS]),
        (("ls", "-l", "kai"), [answer(200, {"files": [LISTED]})]),
        (("transfers", "list"), [answer(200, {"transfers": [TRANSFER]})]),
        (("message", "send", "kai", "hello"), [answer(201, PAGE)]),
        (("message", "inbox"), [answer(200, PAGE)]),
        (("message", "read", "1-leo-abc"), [answer(200, MESSAGE)]),
        (("message", "hook", "claude"), [answer(200, PAGE)]),
        (("task", "run", "look"), [answer(201, TASK)]),
        (("task", "list"), [answer(200, {"tasks": [TASK]})]),
        (("task", "show", TASK["taskId"]), [answer(200, TASK)]),
    ],
)
def test_quick_commands_import_little(tmp_path: Path, words: tuple[str, ...], said: list[bytes]) -> None:
    with ScriptedDaemon(answers=said) as scripted:
        loaded = modules_of(configured(tmp_path, scripted.port), *words)
    heavy = [name for name in loaded if any(name == bad or name.startswith(f"{bad}.") for bad in FORBIDDEN)]
    assert not heavy, f"loopsy {words[0]} imports {heavy}: each costs start-up time of every call; import it lazily"


def test_a_command_imports_its_own_family_only(tmp_path: Path) -> None:
    with ScriptedDaemon(stream(frames.CONTENT_TYPE, EXIT)) as scripted:
        loaded = modules_of(configured(tmp_path, scripted.port), "exec", "kai", "true")
    families = {name for name in loaded if name.startswith("loopsy.cli.")}
    assert families == {f"loopsy.cli.{name}" for name in ("main", "arguments", "render", "exec", "interrupts")}
