"""What a peer may do with AI tasks, and what it may not."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from loopsy.testing import fake_agent
from loopsy.testing.nodes import Node
from tests.integration.conftest import until
from tests.integration.tasking import Client, texts

pytestmark = pytest.mark.integration
KEYS = {name: secrets.token_hex(32) for name in ("kai", "mia", "ann", "bob")}
SCOPES = {
    "mia": ["execute", "ai-tasks", "approve"],
    "ann": ["context"],
    "bob": ["ai-tasks"],
}


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    root = tmp_path_factory.mktemp("peers")
    node = Node(root / "leo", "leo")
    allowed = ["~", str(root / "open")]
    (root / "open").mkdir()
    limits = {"execute": 10**6}
    node.write_config(
        auth={"apiKey": node.key, "allowedKeys": KEYS, "scopes": SCOPES},
        transfer={"allowedPaths": allowed},
        rateLimits=limits,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{fake_agent.install(root / 'agents')}{os.pathsep}{os.environ['PATH']}")
        node.start()
    yield Client(node)
    node.stop()
    assert "Traceback" not in node.log


@pytest.fixture
def leo(one: Client) -> Iterator[Client]:
    yield one
    one.end_all()


@pytest.fixture
def kai(leo: Client) -> Client:
    return Client(leo.node, KEYS["kai"])


@pytest.fixture
def mia(leo: Client) -> Client:
    return Client(leo.node, KEYS["mia"])


@pytest.fixture
def place(leo: Client) -> Path:
    return leo.node.root.parent / "open"


def test_a_peer_can_not_approve_what_its_own_task_asks(leo: Client, kai: Client, place: Path) -> None:
    task_id = kai.start(f"ask touch {place}/by-kai", "done")
    request_id = kai.asked(task_id)["requestId"]
    refused = kai.approve(task_id, request_id)
    assert (refused.status, refused.body["error"]["code"]) == (403, 1002)
    assert kai.show(task_id)["status"] == "waiting_approval"
    leo.approve(task_id, request_id, approved=False)
    assert leo.over(task_id)["from"] == "kai"
    assert not (place / "by-kai").exists()


def test_one_that_the_user_lets_approve_can(leo: Client, mia: Client, place: Path) -> None:
    task_id = mia.start(f"ask touch {place}/by-mia", "done")
    request_id = mia.asked(task_id)["requestId"]
    always = mia.approve(task_id, request_id, remember="always")
    assert (always.status, always.body["error"]["code"]) == (403, 1002)
    assert mia.approve(task_id, request_id).status == 200
    mia.over(task_id)
    assert (place / "by-mia").exists()
    assert texts(mia.events(task_id), "permission_answer", "by") == ["mia"]


@pytest.mark.parametrize(
    "more",
    [
        {"permissionMode": "bypassPermissions"},
        {"permissionMode": "acceptEdits"},
        {"allowedTools": ["Bash"]},
        {"additionalArgs": ["--max-turns", "3"]},
    ],
)
def test_a_peer_can_not_have_its_task_ask_less(kai: Client, mia: Client, more: dict[str, object]) -> None:
    refused = kai.ask("POST", "", {"prompt": "done", **more})
    assert (refused.status, refused.body["error"]["code"]) == (403, 1002)
    expected = 403 if "additionalArgs" in more else 201
    answer = mia.ask("POST", "", {"prompt": "done", **more})
    assert answer.status == expected
    if expected == 201:
        mia.over(answer.body["taskId"])


def test_a_peer_goes_on_with_sessions_of_its_own_tasks_only(leo: Client, kai: Client, mia: Client) -> None:
    """Not with one of the user's: what was said there would be told."""
    own, mine = (client.over(client.start("say hi"))["sessionId"] for client in (leo, kai))
    for client, session in ((kai, own), (mia, own), (mia, mine), (kai, "latest")):
        answer = client.ask("POST", "", {"prompt": "say x", "resumeSessionId": session})
        assert (answer.status, answer.body["error"]["code"]) == (403, 1002)
    other = kai.ask("POST", "", {"prompt": "say x", "agent": "codex", "resumeSessionId": mine})
    assert other.status == 403
    again = kai.start("say again", resumeSessionId=mine)
    assert kai.over(again)["sessionId"] == mine
    assert leo.over(leo.start("say again", resumeSessionId=own))["status"] == "completed"


def test_a_peer_sees_and_steers_only_what_it_started(leo: Client, kai: Client, mia: Client) -> None:
    own, foreign = leo.start("ask true", "done"), mia.start("ask true", "done")
    mine = kai.start("ask true", "sleep 300")
    for client, task_id in ((leo, own), (mia, foreign), (kai, mine)):
        client.asked(task_id)
    for task_id in (own, foreign):
        for method, path in (
            *(("GET", ""), ("GET", "/events"), ("GET", "/stream"), ("DELETE", ""), ("GET", "/patch")),
            ("POST", "/resume"),
        ):
            body = {"prompt": "x"} if method == "POST" else None
            answer = kai.ask(method, f"/{task_id}{path}", body)
            assert (answer.status, answer.body["error"]["code"]) == (404, 6001), path
        assert mia.approve(own, "r1").status == 404
    assert {task["taskId"] for task in kai.ask("GET").body["tasks"]} >= {mine}
    assert not {own, foreign} & {task["taskId"] for task in kai.ask("GET", "?limit=1000").body["tasks"]}
    assert [one["taskId"] for one in kai.ask("GET", "/approvals").body["approvals"]] == [mine]
    assert kai.ask("GET", f"?before={own}").status == 404
    assert {own, foreign, mine} <= {task["taskId"] for task in leo.ask("GET").body["tasks"]}
    for task_id in (own, foreign, mine):
        leo.ask("DELETE", f"/{task_id}")
        leo.over(task_id)


def test_rules_are_for_the_machine_s_user_only(mia: Client) -> None:
    for method in ("GET", "POST", "DELETE"):
        body = None if method == "GET" else {"rule": "allow Bash(*)"}
        assert mia.ask(method, "/rules", body).status == 403


def test_without_the_scope_there_is_nothing(leo: Client) -> None:
    ann = Client(leo.node, KEYS["ann"])
    assert ann.ask("POST", "", {"prompt": "done"}).status == 403
    assert ann.ask("GET").status == 403


def test_a_peer_s_task_works_where_its_files_may_be(leo: Client, kai: Client, place: Path, tmp_path: Path) -> None:
    assert kai.over(kai.start("done", cwd=str(place)))["cwd"] == str(place)
    for cwd in (str(tmp_path), "~/.ssh", "/etc", str(leo.node.root), f"{place}/../leo"):
        answer = kai.ask("POST", "", {"prompt": "done", "cwd": cwd})
        assert answer.status in (403, 404), cwd
        assert answer.body["error"]["code"] in (4001, 4002), cwd
    assert leo.over(leo.start("done", cwd=str(tmp_path)))["status"] == "completed"


def test_one_that_may_run_nothing_gets_no_directory_with_secrets_in_it(leo: Client, place: Path) -> None:
    bob = Client(leo.node, KEYS["bob"])
    assert bob.over(bob.start("done", cwd=str(place)))["status"] == "completed"
    home = Path(leo.node.environment["HOME"])
    (home / ".ssh").mkdir(exist_ok=True)
    assert bob.ask("POST", "", {"prompt": "done"}).body["error"]["code"] == 4001


def test_who_is_revoked_loses_its_tasks(leo: Client, kai: Client) -> None:
    task_id = kai.start("run sleep 300", "done")
    until(lambda: leo.show(task_id).get("pid"))
    scopes = leo.node.ask("PUT", "/trust/kai/scopes", {"scopes": ["context"]})
    assert scopes.status == 200, scopes
    task = leo.over(task_id)
    assert (task["status"], task["error"]) == ("cancelled", "the machine that asked for it may no longer")
