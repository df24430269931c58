"""AI tasks by a real daemon, with a stand-in for the agent that does what the prompt says."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from loopsy.services.leftovers import of
from loopsy.testing import fake_agent
from loopsy.testing.nodes import Node
from tests.integration.conftest import until
from tests.integration.tasking import Client, kinds, texts, whole

pytestmark = pytest.mark.integration
MakeNode = Callable[..., Node]


@pytest.fixture(scope="module", autouse=True)
def _agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        place = fake_agent.install(tmp_path_factory.mktemp("agents"))
        patch.setenv("PATH", f"{place}{os.pathsep}{os.environ['PATH']}")
        yield


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory, _agent: None) -> Iterator[Client]:
    node = Node(tmp_path_factory.mktemp("tasks") / "leo", "leo")
    node.write_config(aiTasks={"maxConcurrent": 3})
    yield Client(node.start())
    node.stop()
    assert "Traceback" not in node.log


@pytest.fixture
def leo(one: Client) -> Iterator[Client]:
    yield one
    one.end_all()
    for rule in one.ask("GET", "/rules").body["rules"]:
        one.ask("DELETE", "/rules", {"rule": rule})


@pytest.fixture
def place(tmp_path: Path) -> Path:
    where = tmp_path / "work"
    where.mkdir()
    return where


def living(task_id: str) -> list[psutil.Process]:
    return list(of(task_id))


# -- the life of one --------------------------------------------------------------------------------------------------
def test_a_task_runs_and_its_events_tell_how(leo: Client, place: Path) -> None:
    task_id = leo.start("think hm", "say hello", "ask echo $PWD", "done all good", cwd=str(place), title="T")
    asked = leo.asked(task_id)
    assert leo.show(task_id)["status"] == "waiting_approval"
    assert (asked["toolName"], asked["command"], asked["kind"]) == ("Bash", "echo $PWD", "command")
    assert (asked["cwd"], asked["suggestedRule"]) == (str(place), "allow Bash(echo $PWD)")
    assert leo.approve(task_id, asked["requestId"]).body == {"success": True, "taskId": task_id}
    task = leo.over(task_id)
    assert (task["status"], task["exitCode"], task["title"], task["from"]) == ("completed", 0, "T", "local")
    assert task["result"]["text"] == "all good"
    assert (task["result"]["costUsd"], task["result"]["inputTokens"], task["result"]["turns"]) == (0.01, 10, 1)
    events = leo.events(task_id)
    assert whole(events)
    assert task["lastSeq"] == len(events)
    assert kinds(events) == [
        *("status", "system", "thinking", "text", "tool_use", "permission_request", "status", "permission_answer"),
        *("status", "tool_result", "result", "status", "exit"),
    ]
    assert texts(events, "status", "status") == ["running", "waiting_approval", "running", "completed"]
    assert texts(events, "tool_result", "output") == [f"{place}\n"]
    assert events[-1]["data"] == {"exitCode": 0}
    assert list(leo.stream(task_id)) == events


def test_a_denial_s_words_reach_the_agent(leo: Client) -> None:
    task_id = leo.start("ask touch denied-file", "done")
    asked = leo.asked(task_id)
    leo.approve(task_id, asked["requestId"], approved=False, message="not on a Friday")
    assert leo.over(task_id)["status"] == "completed"
    (result,) = [event["data"] for event in leo.events(task_id) if event["type"] == "tool_result"]
    assert (result["output"], result["isError"]) == ("not on a Friday", True)


def test_nobody_answers(leo: Client, place: Path) -> None:
    task_id = leo.start(f"ask touch {place}/x", "done", approvalTimeout=1000)
    assert leo.over(task_id)["status"] == "completed"
    (answer,) = [event["data"] for event in leo.events(task_id) if event["type"] == "permission_answer"]
    assert (answer["approved"], answer["by"], answer["how"]) == (False, "daemon", "timeout")
    assert not (place / "x").exists()


def test_what_is_no_longer_asked_can_not_be_answered(leo: Client) -> None:
    task_id = leo.start("withdraw ls", "sleep 300")
    answer = until(lambda: texts(leo.events(task_id), "permission_answer", "how"))
    assert answer == ["withdrawn"]
    late = leo.approve(task_id, "r1")
    assert (late.status, late.body["error"]["code"]) == (409, 6005)
    leo.ask("DELETE", f"/{task_id}")


def test_the_first_answer_counts(leo: Client) -> None:
    task_id = leo.start("ask true", "sleep 300")
    request_id = leo.asked(task_id)["requestId"]
    assert leo.approve(task_id, request_id, approved=False).status == 200
    late = leo.approve(task_id, request_id)
    assert (late.status, late.body["error"]["code"]) == (409, 6005)
    assert late.body["error"]["details"]["by"] == "local"
    assert leo.approve(task_id, "nothing").status == 409
    leo.ask("DELETE", f"/{task_id}")
    leo.over(task_id)
    assert leo.approve(task_id, request_id).body["error"]["code"] == 6004


def test_several_at_once_are_answered_one_by_one(leo: Client) -> None:
    task_id = leo.start("asks 3", "done")
    until(lambda: leo.show(task_id)["pendingApprovals"] == 3)
    waiting = [one["approval"]["requestId"] for one in leo.ask("GET", "/approvals").body["approvals"]]
    assert waiting == ["r1", "r2", "r3"]
    for request_id, approved in (("r2", False), ("r1", True), ("r3", True)):
        leo.approve(task_id, request_id, approved)
    leo.over(task_id)
    assert texts(leo.events(task_id)) == ["r1 allow", "r2 deny", "r3 allow"]
    assert leo.ask("GET", "/approvals").body == {"approvals": []}


def test_cancelled_in_mid_tool_nothing_of_it_is_left(leo: Client, place: Path) -> None:
    task_id = leo.start("run sleep 600 & sleep 600", "done", cwd=str(place))
    until(lambda: len(living(task_id)) >= 3, "the agent, its shell and what that runs")
    assert leo.ask("DELETE", f"/{task_id}").body == {"success": True, "taskId": task_id}
    task = leo.over(task_id)
    assert task["status"] == "cancelled"
    assert living(task_id) == []
    assert leo.events(task_id)[-1]["type"] == "exit"
    assert leo.ask("DELETE", f"/{task_id}").body["deleted"] is True
    assert leo.ask("GET", f"/{task_id}").body["error"]["code"] == 6001


def test_cancelled_while_it_asks_the_tool_does_not_run(leo: Client, place: Path) -> None:
    task_id = leo.start(f"ask touch {place}/x", "sleep 60")
    leo.asked(task_id)
    leo.ask("DELETE", f"/{task_id}")
    assert leo.over(task_id)["status"] == "cancelled"
    assert texts(leo.events(task_id), "permission_answer", "how") == ["cancelled"]
    assert not (place / "x").exists()


def test_one_that_lets_term_pass_is_killed(leo: Client) -> None:
    task_id = leo.start("stubborn", "say up", "sleep 300")
    until(lambda: texts(leo.events(task_id)))
    leo.ask("DELETE", f"/{task_id}")
    task = leo.over(task_id)
    assert task["status"] == "cancelled"
    assert leo.events(task_id)[-1]["data"] == {"exitCode": None, "signal": "SIGKILL"}
    until(lambda: not living(task_id), "the end of all of it")


def test_its_time_is_over(leo: Client) -> None:
    task = leo.over(leo.start("say up", "sleep 60", timeout=1000))
    assert (task["status"], task["error"]) == ("failed", "its time was over")


def test_a_crash_says_what_it_said(leo: Client) -> None:
    task_id = leo.start("say working", "crash 7")
    task = leo.over(task_id)
    assert (task["status"], task["exitCode"]) == ("failed", 7)
    assert "it hurts" in task["error"]
    assert leo.over(leo.start("fail no luck"))["status"] == "failed"


def test_odd_lines_do_no_harm(leo: Client) -> None:
    task_id = leo.start("junk {half a line", "junk \x1b[31m", "long 2000000", "say after", "done")
    assert leo.over(task_id)["status"] == "completed"
    said = texts(leo.events(task_id))
    assert said[:2] == ["{half a line", "\x1b[31m"]
    assert 100_000 < len(said[2]) < 300_000
    assert said[3] == "after"
    assert next(e for e in leo.events(task_id) if len(str(e)) > 10_000)["data"]["truncated"] is True


# -- what may be asked ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"prompt": ""}, 400, 9003),
        ({"prompt": "x" * 300_000}, 400, 9003),
        ({"prompt": "x", "agent": "hal"}, 400, 9003),
        ({"prompt": "x", "agent": "codex"}, 404, 6006),
        ({"prompt": "x", "cwd": "/nowhere"}, 400, 9003),
        ({"prompt": "x", "additionalArgs": ["--dangerously-skip-permissions"]}, 400, 9003),
        ({"prompt": "x", "permissionMode": "yolo"}, 400, 9003),
        ({"prompt": "x", "worktree": True}, 400, 9003),
        ({"prompt": "x", "timeout": 5}, 400, 9003),
    ],
)
def test_what_can_not_be_asked_for(leo: Client, body: dict[str, Any], status: int, code: int, tmp_path: Path) -> None:
    answer = leo.ask("POST", "", body)
    assert (answer.status, answer.body["error"]["code"]) == (status, code)
    assert leo.node.ask("GET", "/status").body["aiTasks"]["active"] == 0


def test_no_key_of_ours_reaches_the_agent(leo: Client) -> None:
    task_id = leo.start("env", "done")
    leo.over(task_id)
    (told,) = texts(leo.events(task_id))
    assert leo.node.key not in told
    assert "LOOPSY_DATA_DIR" not in told
    assert f'"LOOPSY_TASK": "{task_id}"' in told
    assert leo.node.key not in str(leo.ask("GET", f"/{task_id}").body)


def test_the_command_policy_stands_before_agents_too(make_node: MakeNode) -> None:
    denied = Client(make_node("noagents", execution={"denylist": ["claude"]}).start())
    assert denied.ask("POST", "", {"prompt": "x"}).body["error"]["code"] == 3001
    listed = Client(make_node("listed", execution={"allowlist": ["git", "claude"]}).start())
    assert listed.over(listed.start("done"))["status"] == "completed"
    unlisted = Client(make_node("unlisted", execution={"allowlist": ["git"]}).start())
    assert unlisted.ask("POST", "", {"prompt": "x"}).body["error"]["code"] == 3001


def test_lists(leo: Client) -> None:
    first, second = leo.start("done"), leo.start("sleep 300")
    leo.over(first)
    listed = leo.ask("GET", "?limit=2").body["tasks"]
    assert [task["taskId"] for task in listed] == [second, first]
    assert [task["taskId"] for task in leo.ask("GET", "?status=active").body["tasks"]] == [second]
    assert leo.ask("GET", f"?before={first}&limit=1").body["tasks"][0]["startedAt"] <= listed[1]["startedAt"]
    assert leo.ask("GET", "?agent=codex").body == {"tasks": []}
    assert leo.ask("GET", "?status=odd").status == 400
    leo.ask("DELETE", f"/{second}")
    leo.over(second)


# -- slots ------------------------------------------------------------------------------------------------------------
def test_three_at_once_and_a_fourth(leo: Client) -> None:
    until(lambda: leo.node.ask("GET", "/status").body["aiTasks"]["active"] == 0)
    three = [leo.start("sleep 300") for _ in range(3)]
    refused = leo.ask("POST", "", {"prompt": "done"})
    assert (refused.status, refused.body["error"]["code"]) == (429, 6002)
    fourth, fifth, sixth = (leo.start("done", queue=True) for _ in range(3))
    assert [leo.show(one).get("queuePosition") for one in (fourth, fifth, sixth)] == [1, 2, 3]
    assert leo.show(fourth)["status"] == "pending"
    leo.ask("DELETE", f"/{fifth}")
    gone = leo.over(fifth)
    assert (gone["status"], leo.show(sixth)["queuePosition"]) == ("cancelled", 2)
    assert kinds(leo.events(fifth)) == ["status", "status"]
    leo.ask("DELETE", f"/{three[0]}")
    for one in (fourth, sixth):
        assert leo.over(one)["status"] == "completed"
    for one in three[1:]:
        leo.ask("DELETE", f"/{one}")
        leo.over(one)


# -- rules ------------------------------------------------------------------------------------------------------------
def test_rules_answer_before_anybody_is_asked(leo: Client, place: Path) -> None:
    assert leo.ask("GET", "/rules").body == {"rules": []}
    assert leo.ask("POST", "/rules", {"rule": "nonsense"}).status == 400
    for rule in ("deny Bash(rm *)", "allow Bash(echo *)"):
        leo.ask("POST", "/rules", {"rule": rule})
    assert leo.ask("GET", "/rules").body == {"rules": ["deny Bash(rm *)", "allow Bash(echo *)"]}
    task_id = leo.start("ask rm x", "ask echo hi", f"ask echo hi > {place}/x", "done", approvalTimeout=1000)
    leo.over(task_id)
    assert texts(leo.events(task_id), "permission_answer", "how") == ["rule", "rule", "timeout"]
    assert not (place / "x").exists()
    leo.ask("DELETE", "/rules", {"rule": "deny Bash(rm *)"})
    assert leo.ask("DELETE", "/rules", {"rule": "allow Bash(echo *)"}).body == {"rules": []}
    assert leo.ask("DELETE", "/rules", {"rule": "allow Bash(echo *)"}).status == 400


def test_an_answer_is_remembered_for_the_task_or_for_always(leo: Client) -> None:
    task_id = leo.start("ask echo 1", "ask echo 1", "ask echo 2", "ask echo 2", "done")
    leo.approve(task_id, leo.asked(task_id)["requestId"], remember="task")
    second = until(lambda: (a := leo.show(task_id).get("pendingApproval")) and a["command"] == "echo 2" and a)
    wrong = leo.approve(task_id, second["requestId"], remember="always", rule="deny Bash(echo *)")
    assert wrong.status == 400
    assert leo.approve(task_id, second["requestId"], remember="always", rule="allow Bash(echo *)").status == 200
    leo.over(task_id)
    assert texts(leo.events(task_id), "permission_answer", "how") == ["answer", "task", "answer", "rule"]
    assert leo.ask("GET", "/rules").body == {"rules": ["allow Bash(echo *)"]}
    assert leo.over(leo.start("ask echo 3", "done"))["status"] == "completed"
    leo.ask("DELETE", "/rules", {"rule": "allow Bash(echo *)"})


def test_answers_go_to_the_audit_log(leo: Client) -> None:
    task_id = leo.start("ask echo audited", "done")
    leo.approve(task_id, leo.asked(task_id)["requestId"])
    leo.over(task_id)
    line = until(lambda: next((x for x in audit(leo.node) if "echo audited" in x and "/approve" in x), None))
    assert '"who":"local"' in line
    assert task_id in line
    assert '"tool":"Bash"' in line
    assert '"sha256":"' in line
    leo.over(leo.start("ask echo unanswered", "done", approvalTimeout=1000))
    assert until(lambda: next((x for x in audit(leo.node) if "echo unanswered" in x and "timeout" in x), None))
    assert b"audited" in leo.node.run("logs", "-n", "50").stdout or leo.node.run("logs").returncode == 0
    assert leo.node.run("logs", "--verify").returncode == 0


def audit(node: Node) -> list[str]:
    return node.layout.audit.read_text().splitlines()


# -- resume -----------------------------------------------------------------------------------------------------------
def test_a_session_goes_on_in_a_new_task(leo: Client, place: Path) -> None:
    first = leo.start("say one", "done", cwd=str(place), title="First")
    old = leo.over(first)
    answer = leo.ask("POST", f"/{first}/resume", {"prompt": "say two"})
    assert answer.status == 201
    again = leo.over(answer.body["taskId"])
    assert (again["resumes"], again["sessionId"], again["cwd"]) == (first, old["sessionId"], str(place))
    assert "I remember: say one" in texts(leo.events(again["taskId"]))[0]
    running = leo.start("sleep 300")
    assert leo.ask("POST", f"/{running}/resume", {"prompt": "x"}).status == 400
    leo.ask("DELETE", f"/{running}")
    leo.over(running)


# -- repositories -----------------------------------------------------------------------------------------------------
def git(place: Path, script: str) -> str:
    env = {**os.environ, "HOME": str(place.parent)}
    return subprocess.run(["sh", "-ec", script], cwd=place, env=env, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def repo(place: Path) -> Path:
    git(place, "git init -q . && echo one > a && git add . && git -c user.email=a@b -c user.name=a commit -qm 1")
    return place


def test_what_a_task_changed_is_told(leo: Client, repo: Path, tmp_path: Path) -> None:
    (repo / "mine").write_text("was there\n")
    task_id = leo.start("run echo two >> a; echo new > b", "done", cwd=str(repo))
    task = leo.over(task_id)
    assert task["result"]["diff"] == {"files": 2, "insertions": 2, "deletions": 0, "patch": True}
    patch = leo.ask("GET", f"/{task_id}/patch")
    assert (patch.status, patch.headers["content-type"]) == (200, "text/x-diff; charset=utf-8")
    (tmp_path / "patch").write_bytes(patch.body)
    git(repo, f"git apply -R {tmp_path}/patch && ! test -e b && test -e mine")
    unchanged = leo.start("done", cwd=str(repo))
    assert "diff" not in leo.over(unchanged)["result"]
    assert leo.ask("GET", f"/{unchanged}/patch").status == 404


def test_a_worktree_leaves_the_rest_alone_and_goes_with_its_task(leo: Client, repo: Path) -> None:
    (repo / "a").write_text("not committed\n")
    task_id = leo.start("run cat a; echo two >> a", "done", cwd=str(repo), worktree=True)
    task = leo.over(task_id)
    assert task["result"]["diff"]["insertions"] == 1
    assert texts(leo.events(task_id)) == ["one\n"]
    assert (repo / "a").read_text() == "not committed\n"
    assert (Path(task["worktree"]) / "a").read_text() == "one\ntwo\n"
    again = leo.ask("POST", f"/{task_id}/resume", {"prompt": "run cat a"}).body["taskId"]
    leo.over(again)
    assert "one\ntwo\n" in texts(leo.events(again))
    leo.ask("DELETE", f"/{task_id}")
    assert Path(task["worktree"]).exists()
    leo.ask("DELETE", f"/{again}")
    assert not Path(task["worktree"]).exists()
    assert git(repo, "git worktree list").count("\n") == 1


# -- the daemon's end -------------------------------------------------------------------------------------------------
def test_a_daemon_that_is_killed_while_a_permission_waits(make_node: MakeNode, place: Path) -> None:
    node = make_node("killed")
    kai = Client(node.start())
    waiting = kai.start(f"ask touch {place}/x", "done")
    kai.asked(waiting)
    working = kai.start(f"run touch {place}/begun; sleep 300")
    until((place / "begun").exists)
    others = [kai.start("sleep 300", queue=True) for _ in range(2)]
    until(lambda: "system" in kinds(kai.events(others[0])), "its beginning on disk")
    before = len(kai.events(waiting))
    node.kill()
    until(lambda: not living(waiting), "the end of the agent that waited")
    assert not (place / "x").exists()
    assert living(working)
    node.start()
    for task_id in (waiting, working, others[0]):
        task = kai.over(task_id)
        assert (task["status"], task["error"]) == ("failed", "the daemon was restarted")
        until(lambda task_id=task_id: not living(task_id))
    events = list(kai.stream(waiting))
    assert whole(events)
    assert len(events) > before
    assert events[-1]["type"] == "exit"
    assert until(lambda: kai.show(others[1])["status"] == "running"), "what waited for a slot has one now"
    resumed = kai.ask("POST", f"/{waiting}/resume", {"prompt": "done"})
    assert kai.over(resumed.body["taskId"])["status"] == "completed"
    node.stop()
    assert "Traceback" not in node.log


def test_a_daemon_that_is_stopped_leaves_nobody_behind(make_node: MakeNode) -> None:
    node = make_node("stopped")
    kai = Client(node.start())
    task_id, asking = kai.start("run sleep 300 & sleep 300"), kai.start("ask true")
    kai.asked(asking)
    until(lambda: len(living(task_id)) > 2)
    stream = kai.stream(task_id)
    node.stop()
    assert [event["type"] for event in stream][-1] == "exit"
    until(lambda: living(task_id) + living(asking) == [], "the end of all of them")
    node.start()
    assert kai.show(task_id)["error"] == "the daemon was stopped"
    assert texts(kai.events(asking), "permission_answer", "how") == ["disconnect"]


def test_notices(make_node: MakeNode, tmp_path: Path) -> None:
    import http.server
    import threading

    told: list[tuple[str, bytes]] = []

    class Hook(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            told.append((self.headers["content-type"], self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(500 if len(told) == 1 else 200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Hook)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        notify = {"url": f"http://127.0.0.1:{server.server_port}/hook", "after": 0}
        kai = Client(make_node("noticed", aiTasks={"notify": notify}).start())
        task_id = kai.start("ask echo secret words", "sleep 300")
        asked = kai.asked(task_id)
        until(lambda: len(told) == 2, "a second try after the first failed")
        assert told[0] == told[1]
        assert b"secret words" not in told[0][1]
        assert task_id.encode() in told[0][1]
        assert b'"toolName": "Bash"' in told[0][1]
        kai.approve(task_id, asked["requestId"])
        kai.ask("DELETE", f"/{task_id}")
        kai.over(task_id)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_old_ones_go_when_their_events_take_too_much(make_node: MakeNode, repo: Path) -> None:
    node = make_node("pruned", aiTasks={"keepBytes": 1024 * 1024})
    kai = Client(node.start())
    old = kai.start("flood 6000", "run echo two >> a", "done", cwd=str(repo))
    kai.over(old)
    new = kai.start("flood 6000", "done")
    kai.over(new)
    patches = list(node.layout.tasks.iterdir())
    assert [path.name for path in patches] == [f"{old}.patch"]
    assert patches[0].stat().st_mode & 0o777 == 0o600
    node.stop()
    node.start()
    until(lambda: kai.ask("GET", f"/{old}").status == 404)
    assert len(kai.events(new)) > 6000
    until(lambda: list(node.layout.tasks.iterdir()) == [], "the end of its patch too")
