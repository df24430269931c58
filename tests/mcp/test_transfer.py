"""The tools for files, over a daemon that is a table of answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from loopsy.mcp.results import MOST
from tests.mcp.fake import (
    FakeAnswer,
    FakeDaemon,
    bad,
    call,
    good,
    text_of,
)


def transfers(daemon: FakeDaemon, **ended: Any) -> None:
    info = {"transferId": "t1", "state": "completed", "startedAt": 1000, "finishedAt": 3500, "bytesTotal": 10,
            "bytesSent": 8, "filesDone": 1, "filesSkipped": 2, "filesTotal": 3, **ended}  # fmt: skip
    event = f"data: {json.dumps(info)}\n\n".encode()
    daemon.answers |= {
        "POST /api/v1/transfers": {"transferId": "t1"},
        "GET /api/v1/transfers/t1/events": lambda _: FakeAnswer(daemon, [event], "text/event-stream", False),
    }


def test_a_push_and_a_pull(tmp_path: Path) -> None:
    daemon = FakeDaemon(tmp_path)
    transfers(daemon)
    places = {"localPath": "site/", "remotePath": "www/", "peer": "kai"}
    pushed = good(daemon, "loopsy_transfer_file", direction="push", recursive=True, exclude=["*.log"], **places)
    pulled = good(daemon, "loopsy_transfer_file", direction="pull", **places)
    local = f"{Path.cwd()}/site/"
    bodies = [body for method, _, body in daemon.asked if method == "POST"]
    assert bodies[0] == {
        "direction": "send", "peer": "kai", "sources": [local], "destination": "www/", "recursive": True,
        "dryRun": False, "exclude": ["*.log"],
    }  # fmt: skip
    assert (bodies[1]["direction"], bodies[1]["sources"], bodies[1]["destination"]) == ("pull", ["www/"], local)
    assert (pushed["files"], pushed["filesUnchanged"], pushed["bytesSent"], pushed["seconds"]) == (1, 2, 8, 2.5)
    assert (pushed["trust"], pulled["trust"]) == ("from this machine", "from peer kai, not from your user")


@pytest.mark.parametrize(
    ("ended", "said"),
    [
        ({"state": "failed", "error": "no such file", "errorCode": 4002}, "loopsy_list_remote_files"),
        ({"state": "failed", "error": "denied", "errorCode": 4001, "unreadable": True}, "loopsy send"),
        ({"state": "failed", "error": "kai (10.0.0.1:19532) broke", "errorCode": 2003}, "kai broke"),
        ({"state": "cancelled"}, "goes on where it stopped"),
        ({"state": "running"}, "goes on where it stopped"),
    ],
)
def test_a_transfer_that_fails_says_why(tmp_path: Path, ended: dict[str, Any], said: str) -> None:
    daemon = FakeDaemon(tmp_path)
    transfers(daemon, **ended)
    text = bad(daemon, "loopsy_transfer_file", direction="push", localPath="a", remotePath="b")
    assert said in text
    assert "10.0.0.1" not in text


def test_a_large_directory_comes_in_pages_that_are_all_of_it(tmp_path: Path) -> None:
    files = [
        {"name": f"{n:05d}-{'x' * 200}", "path": "p", "type": "file", "size": n, "modified": 1} for n in range(2000)
    ]
    daemon = FakeDaemon(tmp_path, {"POST /api/v1/peers/kai/transfer/list": {"files": files}})
    seen: list[str] = []
    offset: int | None = 0
    while offset is not None:
        result = call(daemon, "loopsy_list_remote_files", peer="kai", offset=offset, limit=1000)
        assert len(text_of(result).encode()) <= MOST
        shown = dict(result.structured_content or {})
        seen += [file["name"] for file in shown["files"]]
        offset = shown.get("nextOffset")
    assert seen == [file["name"] for file in files]
