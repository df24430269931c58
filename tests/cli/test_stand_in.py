"""What the operating system keeps from the daemon goes through the command; what the policy denies doesn't."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.running import configured, loopsy
from tests.cli.scripted import ScriptedDaemon, answer, body_of

CONTENT = b"only the command may read this"


def ended(state: str, **more: Any) -> list[bytes]:
    """The answers to a POST and to the watching of a transfer that ends so."""
    info = {
        "transferId": "t-1", "direction": "send", "peer": "kai", "sources": ["/f"], "destination": "f",
        "state": state, "startedAt": 1, "finishedAt": 2, **more,
    }  # fmt: skip
    head = b"HTTP/1.0 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
    return [answer(202, info), head + b"data: " + json.dumps(info).encode() + b"\n\n"]


DENIED = {"error": "/f: permission denied", "errorCode": 4001}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "my fïle"
    path.write_bytes(CONTENT)
    return path


def test_an_unreadable_file_goes_through_the_command(tmp_path: Path, file: Path) -> None:
    said = [
        *ended("failed", unreadable=True, **DENIED),
        answer(200, {"path": "/there/f", "size": 0, "checksum": "0", "duration": 1}),
    ]
    with ScriptedDaemon(answers=said, read_body=False) as scripted:
        loopsy(configured(tmp_path, scripted.port), "send", "kai", str(file), "in/")
    assert scripted.requests[-1].startswith(b"POST /api/v1/peers/kai/transfer/push ")


def test_what_the_policy_denies_is_not_sent(tmp_path: Path, file: Path) -> None:
    with ScriptedDaemon(answers=ended("failed", **DENIED)) as scripted:
        done = loopsy(configured(tmp_path, scripted.port), "send", "kai", str(file), "f")
    assert done.returncode == 1
    assert b"permission denied" in done.stderr
    assert len(scripted.requests) == 2


def test_a_symlink_that_the_daemon_could_not_see_through_is_asked_about_by_its_end(tmp_path: Path, file: Path) -> None:
    (tmp_path / "link").symlink_to(file)
    said = [*ended("failed", unreadable=True, **DENIED), *ended("failed", error="denied", errorCode=4001)]
    with ScriptedDaemon(answers=said) as scripted:
        done = loopsy(configured(tmp_path, scripted.port), "send", "kai", str(tmp_path / "link"), "f")
    assert done.returncode == 1
    assert len(scripted.requests) == 4
    asked = body_of(scripted.requests[2])
    assert asked["dryRun"] is True
    assert asked["sources"] == [str(file)]


@pytest.mark.parametrize("words", [("-n", "kai", "{}", "f"), ("kai", "{}", "{}", "d/"), ("-r", "kai", "{}/..", "f")])
def test_only_one_plain_file_that_is_really_sent(tmp_path: Path, file: Path, words: tuple[str, ...]) -> None:
    where = str(file.parent if "-r" in words else file)
    with ScriptedDaemon(answers=ended("failed", unreadable=True, **DENIED)) as scripted:
        done = loopsy(configured(tmp_path, scripted.port), "send", *(word.format(where) for word in words))
    assert done.returncode == 1
    assert len(scripted.requests) == 2
