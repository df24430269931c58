"""What goes on without its caller ends when that caller may no longer: nothing of a revoked peer's runs on, and nobody
who comes after it under its name inherits anything."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator

import psutil
import pytest

from loopsy.store import configfile
from loopsy.testing.nodes import Node
from tests.integration.conftest import until
from tests.integration.streams import Stream
from tests.integration.test_rest import refused

FOREVER = {"command": "sh", "args": ["-c", "echo $$; trap '' HUP; exec sleep 1000"]}


@pytest.fixture
def kai(make_node: Callable[..., Node]) -> Iterator[tuple[Node, str]]:
    """A node, and the key of its peer kai."""
    key = secrets.token_hex(32)
    node = make_node(auth={"allowedKeys": {"kai": key}}).start()
    yield node, key
    assert "Traceback" not in node.log


def detached(node: Node, key: str) -> tuple[str, int]:
    """A detached job of a peer's, whose reader has left: its id and its process."""
    stream = Stream(node, "/execute/stream", {**FOREVER, "detach": True}, key=key)
    pid = int(next(stream.frames())[1])
    stream.close()
    return stream.job, pid


def terminal(node: Node, key: str) -> int:
    answer = node.ask("POST", "/terminals", FOREVER, key=key)
    assert answer.status == 201
    return int(answer.body["pid"])


def gone(pid: int) -> Callable[[], bool]:
    def look() -> bool:
        try:
            return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True

    return look


def test_at_a_revocation_all_of_a_peers_ends_and_no_heir_sees_it(kai: tuple[Node, str]) -> None:
    node, key = kai
    job, pid = detached(node, key)
    shell = terminal(node, key)
    assert node.ask("GET", f"/execute/jobs/{job}", key=key).body["status"] == "running"
    assert node.ask("POST", "/trust/kai/revoke").body["success"]
    until(gone(pid), "the detached job ended")
    until(gone(shell), "the terminal's program ended")
    until(lambda: node.ask("GET", f"/execute/jobs/{job}").body["status"] == "ended", "its end was told")
    heir = secrets.token_hex(32)
    configfile.change_all(node.layout.config, [(("auth", "allowedKeys", "kai"), heir)])
    assert node.ask("POST", "/reload").status == 200
    assert node.ask("GET", "/execute/jobs?all=1", key=heir).body == {"jobs": [], "detached": []}
    refused(node.ask("GET", f"/execute/jobs/{job}/output", key=heir), 404, 3006)
    assert node.ask("GET", "/terminals", key=heir).body == {"terminals": []}


def test_what_ran_when_a_scope_was_taken_ends_and_its_story_stays(kai: tuple[Node, str]) -> None:
    node, key = kai
    job, pid = detached(node, key)
    shell = terminal(node, key)
    local, own = detached(node, node.key)
    assert node.ask("PUT", "/trust/kai/scopes", {"scopes": ["context", "terminal"]}).status == 200
    until(gone(pid), "the detached job ended")
    assert not gone(shell)()
    assert not gone(own)()
    assert node.ask("PUT", "/trust/kai/scopes", {"scopes": ["context", "execute"]}).status == 200
    until(gone(shell), "the terminal's program ended")
    until(lambda: node.ask("GET", f"/execute/jobs/{job}", key=key).body["status"] == "ended", "its end was told")
    assert node.ask("DELETE", f"/execute/{local}").status == 200


def test_a_key_that_was_struck_while_the_daemon_was_down_leaves_no_heritage(kai: tuple[Node, str]) -> None:
    node, key = kai
    job, _ = detached(node, key)
    node.stop()
    configfile.change_all(node.layout.config, [(("auth", "allowedKeys", "kai"), None)])
    node.start()
    configfile.change_all(node.layout.config, [(("auth", "allowedKeys", "kai"), key)])
    assert node.ask("POST", "/reload").status == 200
    refused(node.ask("GET", f"/execute/jobs/{job}", key=key), 404, 3006)
    assert node.ask("GET", f"/execute/jobs/{job}").body["status"] == "ended"


def test_a_peer_that_opens_all_terminals_leaves_this_machines_user_its_own(make_node: Callable[..., Node]) -> None:
    key = secrets.token_hex(32)
    node = make_node(auth={"allowedKeys": {"kai": key}}, terminals={"max": 2}).start()
    for asked_by, statuses in ((key, (201, 201, 429)), (node.key, (201, 201, 429))):
        for status in statuses:
            assert node.ask("POST", "/terminals", {"command": "cat"}, key=asked_by).status == status
