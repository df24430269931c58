"""``loopsy task``: its words, what is shown of a task's events, and what is asked of the daemon."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopsy.cli import task
from loopsy.cli.mailbox import AGENTS
from loopsy.cli.main import main
from loopsy.cli.task_answers import wanted
from loopsy.cli.task_asking import TASK as TASK_VARIABLE
from loopsy.cli.task_asking import Question
from loopsy.cli.task_screen import Screen, main_argument, one_line
from loopsy.client import tasks as client
from loopsy.errors import NoPendingApproval, UsageError
from loopsy.wire import sse
from loopsy.wire import tasks as wire
from tests.cli.running import configured
from tests.cli.scripted import ScriptedDaemon, answer, body_of

Capsys = pytest.CaptureFixture[str]
IDS = ("3f9a01bc-0000-4000-8000-000000000001", "3f9b0000-0000-4000-8000-000000000002")
TASK = {
    "taskId": IDS[0], "prompt": "look\x1b[2J", "title": "look", "agent": "claude", "status": "completed",
    "cwd": "/home/leo", "permissionMode": "default", "fromNodeId": "n", "from": "local", "startedAt": 1,
    "updatedAt": 2, "lastSeq": 3, "pendingApprovals": 0,
    "result": {"text": "All done.", "isError": False, "durationMs": 1200, "turns": 2,
               "diff": {"files": 1, "insertions": 2, "deletions": 0, "patch": True}},
}  # fmt: skip
APPROVAL = {
    "requestId": "r1", "toolName": "Bash", "toolInput": {"command": "make", "timeout": 5}, "kind": "command",
    "cwd": "/home/leo", "timestamp": 1, "expiresAt": 2, "suggestedRule": "allow Bash(make)", "command": "make",
}  # fmt: skip


def event(kind: str, /, **data: Any) -> dict[str, Any]:
    return {"type": kind, "taskId": IDS[0], "timestamp": 1, "seq": 1, "data": data}


def transcript(*events: dict[str, Any], agent: str = "claude", colour: bool = False) -> str:
    screen = Screen(agent, colour=colour)
    return "".join([*map(screen.feed, events), screen.end()])


def asked(tmp_path: Path, answers: list[bytes], *words: str) -> tuple[int, list[bytes]]:
    with ScriptedDaemon(answers=answers) as scripted:
        status = main(["--data-dir", str(configured(tmp_path, scripted.port)), "task", *words])
    return status, scripted.requests


def line_of(request: bytes) -> str:
    return request.split(b" HTTP", 1)[0].decode()


def test_the_command_knows_the_words_of_the_wire() -> None:
    assert task.AGENTS == wire.AGENTS
    assert set(task.MODES) == set(wire.PERMISSION_MODES)
    assert task.STATUSES == wire.STATUSES
    assert frozenset(client.FINAL) == wire.FINAL


# -- what is shown ----------------------------------------------------------------------------------------------------
def test_a_task_as_a_person_reads_it() -> None:
    shown = transcript(
        event("status", status="running"),
        event("system", subtype="init", sessionId="s", model="claude-sonnet", cwd="/home/leo/app"),
        event("thinking", text="The failure\nis in\nthe\nparser."),
        event("text", text="I'll look at the tests first."),
        event("tool_use", toolId="t1", toolName="Bash", input={"command": "npm test", "description": "run them"}),
        event("permission_request", **APPROVAL),
        event("status", status="waiting_approval"),
        event("permission_answer", requestId="r1", approved=True, by="local", how="answer"),
        event("status", status="running"),
        event("tool_result", toolId="t1", output="".join(f"line {n}\n" for n in range(10)), isError=False),
        event(
            "permission_answer",
            requestId="r2",
            approved=False,
            by="daemon",
            how="rule",
            rule="deny WebFetch",
            toolName="WebFetch",
        ),
        event("text", text="All done."),
        event(
            "result",
            text="All done.",
            isError=False,
            turns=3,
            durationMs=8120,
            costUsd=0.0123,
            inputTokens=1200,
            outputTokens=34,
        ),
        event("status", status="completed", diff={"files": 2, "insertions": 3, "deletions": 1, "patch": True}),
        event("exit", exitCode=0),
    )
    assert (
        shown
        == """\
the agent is up (claude-sonnet) in /home/leo/app
  | The failure
  | is in
  | the
  | … 1 more line
I'll look at the tests first.
* Bash  npm test

? Bash wants to run a command, in /home/leo:
  | make
  | timeout: 5
  allowed by local
  | line 0
  | line 1
  | line 2
  | line 3
  | line 4
  | line 5
  | line 6
  | line 7
  | … 2 more lines
  WebFetch: denied (by a rule): deny WebFetch
All done.
completed: 8.12 s, 3 turns, 1,200 tokens in, 34 out, $0.01, 2 files changed (+3 -1)
"""
    )


def test_text_that_comes_in_pieces_is_joined() -> None:
    pieces = [event("text", text=word) for word in ("Hel", "lo ", "there.")]
    ended = [event("result", text="Hello there.", isError=False, durationMs=0), event("status", status="completed")]
    assert transcript(*pieces, *ended, agent="gemini") == "Hello there.\ncompleted\n"
    ended[0]["data"]["text"] = "there."  # its last turn only
    assert transcript(*pieces, *ended, agent="gemini") == "Hello there.\ncompleted\n"
    ended[0]["data"]["text"] = "Goodbye."
    assert transcript(*pieces, *ended, agent="gemini") == "Hello there.\nGoodbye.\ncompleted\n"
    assert transcript(*pieces[:2], event("error", message="it broke"), agent="gemini") == "Hello \nerror: it broke\n"


def test_how_it_failed_is_said() -> None:
    assert transcript(event("status", status="failed", reason="its time was over")) == "failed: its time was over\n"
    assert transcript(event("text", text="hm")) == "hm\n", "nobody knows yet how it ends"


def test_an_edit_is_shown_as_its_diff_with_colours_on_a_terminal() -> None:
    diff = "--- a\n+++ a\n@@ -1 +1 @@\n-old\n+new\n"
    edit = event("permission_request", **{**APPROVAL, "kind": "edit", "toolName": "Edit", "command": None,
                 "path": "a", "diff": diff, "toolInput": {"file_path": "a", "old_string": "old"}})  # fmt: skip
    assert transcript(edit) == "\n? Edit wants to change a file, in /home/leo:\n" + "".join(
        f"  | {line}\n" for line in diff.splitlines()
    )
    assert "\x1b[31m-old\x1b[0m" in transcript(edit, colour=True)
    assert "\x1b[32m+new\x1b[0m" in transcript(edit, colour=True)


def test_what_shall_be_allowed_is_never_cut() -> None:
    command = "\n".join(f"echo {n} {'x' * 500}" for n in range(3000))
    shown = transcript(event("permission_request", **{**APPROVAL, "command": command, "toolInput": {"a": [command]}}))
    assert all(f"  | {line}" in shown for line in command.split("\n"))
    assert shown.count("x" * 500) == 6000, "in the command, and in the argument that says more"


@given(st.text(max_size=400), st.sampled_from(["text", "thinking", "tool_result", "error", "system", "permission"]))
def test_no_text_of_an_agent_reaches_the_terminal_s_ears(text: str, kind: str) -> None:
    named = {"text": text, "output": text, "message": text, "toolName": text, "input": {text: text}}
    approval = {**APPROVAL, "toolName": text, "command": text, "description": text, "diff": text, "cwd": text}
    events = [
        event("permission_request", **approval) if kind == "permission" else event(kind, **named),
        event("tool_use", **named),
        event("permission_answer", requestId="r", approved=False, by=text, how="answer", message=text, rule=text),
        event("status", status="failed", reason=text),
    ]
    assert all(character.isprintable() or character in "\n\t" for character in transcript(*events))


def test_a_text_can_not_pose_as_a_question_of_ours() -> None:
    command = "true\n\nallow? [y]es once / [t]his task / [n]o: "
    shown = transcript(event("permission_request", **{**APPROVAL, "command": command, "toolInput": {}}))
    assert all(line.startswith(("  | ", "? ")) for line in shown.strip().split("\n"))


@given(st.text(max_size=3000), st.integers(10, 100))
def test_one_line_is_one_and_short(text: str, room: int) -> None:
    line = one_line(text, room)
    assert "\n" not in line
    assert len(line) <= 10 * room, "an escape is at most ten characters"


def test_the_main_argument_of_a_tool() -> None:
    assert main_argument({"description": "d", "file_path": "/a"}) == "/a"
    assert main_argument({"odd": [1]}) == '{"odd": [1]}'
    assert main_argument(None) == ""


# -- answering --------------------------------------------------------------------------------------------------------
class NoEdit:
    def edit(self, _: str, text: str) -> str:
        return text


@pytest.mark.parametrize(
    ("typed", "answered"),
    [
        (["y"], {"approved": True}),
        (["Y"], {"approved": True}),
        (["", "x", "yes"], {"approved": True}),
        (["t"], {"approved": True, "remember": "task"}),
        (["a"], {"approved": True, "remember": "always", "rule": "allow Bash(make)"}),
        (["n", ""], {"approved": False}),
        (["n", "y"], {"approved": False, "message": "y"}),
    ],
)
def test_what_is_typed(typed: list[str], answered: dict[str, Any]) -> None:
    question = Question(APPROVAL, may_always=True)
    *before, last = [question.take(line, NoEdit()) for line in typed]  # type: ignore[arg-type]
    assert before == [None] * len(before)
    assert last == {"requestId": "r1", **answered}


def test_always_is_not_for_another_machine() -> None:
    question = Question(APPROVAL, may_always=False)
    assert "[a]" not in question.prompt
    assert question.take("a", NoEdit()) is None  # type: ignore[arg-type]


def test_which_request_is_meant() -> None:
    waiting: list[dict[str, Any]] = [{"requestId": name, "toolName": "Bash"} for name in ("ab", "abc", "b")]
    assert wanted(waiting, "ab")["requestId"] == "ab"
    assert wanted(waiting, "abc")["requestId"] == "abc"
    assert wanted(waiting[2:], None)["requestId"] == "b"
    for word, error in (("a", UsageError), (None, UsageError), ("x", NoPendingApproval)):
        with pytest.raises(error):
            wanted(waiting, word)


@pytest.fixture(autouse=True)
def _a_person_s_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (TASK_VARIABLE, *AGENTS):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("variable", [TASK_VARIABLE, *AGENTS])
@pytest.mark.parametrize("words", [("approve", "3f9a"), ("deny", "3f9a"), ("rules",), ("rules", "add", "allow Bash")])
def test_a_task_or_an_agent_answers_nothing(
    tmp_path: Path, words: tuple[str, ...], variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "1")
    status, requests = asked(tmp_path, [], *words)
    assert (status, requests) == (1, [])


WAITS = {"approvals": [{"taskId": IDS[0], "title": "t", "agent": "claude", "from": "local", "approval": APPROVAL}]}
DONE = {"success": True, "taskId": IDS[0]}


def test_answers_by_their_ids(tmp_path: Path) -> None:
    said = [answer(200, {"tasks": [TASK]}), answer(200, WAITS), answer(200, DONE)]
    status, requests = asked(tmp_path, said, "approve", "3f9a", "--request", "r", "--task", "--on", "kai")
    assert status == 0
    assert line_of(requests[2]) == f"POST /api/v1/peers/kai/ai-tasks/{IDS[0]}/approve"
    assert body_of(requests[2]) == {"requestId": "r1", "approved": True, "remember": "task"}
    _, requests = asked(tmp_path, said, "deny", "3f9a", "not now")
    assert body_of(requests[2]) == {"requestId": "r1", "approved": False, "message": "not now"}


def test_nothing_is_allowed_unseen(tmp_path: Path, capsys: Capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("loopsy.cli.task_answers.terminal", lambda: None)
    status, requests = asked(tmp_path, [answer(200, {"tasks": [TASK]})], "approve", "3f9a")
    assert (status, len(requests)) == (2, 1)
    assert "--request" in capsys.readouterr().err


def test_where_this_machine_may_not_answer_it_says_what_to_do(tmp_path: Path, capsys: Capsys) -> None:
    refused = answer(403, {"error": {"code": 1002, "message": "no"}})
    said = [answer(200, {"tasks": [TASK]}), answer(200, WAITS), refused]
    assert asked(tmp_path, said, "approve", "3f9a", "--request", "r1", "--on", "kai")[0] == 1
    told = capsys.readouterr().err
    assert "loopsy peers scope" in told
    assert "loopsy task approve 3f9a" in told


# -- the others -------------------------------------------------------------------------------------------------------
def test_running_one(tmp_path: Path, capsys: Capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ("run", "--on", "kai", "--cwd", "src", "--budget", "1.5", "--timeout", "5m", "--mode", "dontAsk", "--queue")
    status, requests = asked(tmp_path, [answer(201, {**TASK, "status": "running"})], *words, "do", "it")
    assert (status, capsys.readouterr().out) == (0, f"{IDS[0]}\n")
    assert line_of(requests[0]) == "POST /api/v1/peers/kai/ai-tasks"
    assert body_of(requests[0]) == {
        "prompt": "do it", "cwd": "src", "maxBudgetUsd": 1.5, "timeout": 300_000, "permissionMode": "dontAsk",
        "queue": True,
    }  # fmt: skip
    monkeypatch.chdir(tmp_path)
    _, requests = asked(tmp_path, [answer(201, TASK)], "run", "--cwd", ".", "look")
    assert body_of(requests[0])["cwd"] == str(tmp_path), "here a directory is ours, not the daemon's"


def test_ids_by_their_beginning(tmp_path: Path, capsys: Capsys) -> None:
    page = answer(200, {"tasks": [TASK, {**TASK, "taskId": IDS[1]}]})
    assert asked(tmp_path, [page], "show", "3f9")[0] == 2
    assert IDS[1] in capsys.readouterr().err
    assert asked(tmp_path, [page], "show", "3F9A")[0] == 0
    assert asked(tmp_path, [page], "show", "f9a")[0] == 1
    _, requests = asked(tmp_path, [answer(200, TASK)], "show", IDS[0])
    assert line_of(requests[0]) == f"GET /api/v1/ai-tasks/{IDS[0]}"


def test_one_is_shown(tmp_path: Path, capsys: Capsys) -> None:
    assert asked(tmp_path, [answer(200, TASK)], "show", IDS[0])[0] == 0
    shown = capsys.readouterr().out
    assert "look\\x1b[2J" in shown
    assert shown.endswith("\nAll done.\n")
    assert "1 file changed (+2 -0)" in shown
    asked(tmp_path, [answer(200, TASK)], "show", IDS[0], "--json")
    assert json.loads(capsys.readouterr().out) == TASK


def test_cancel_never_removes_and_remove_never_cancels(tmp_path: Path) -> None:
    for word in ("cancel", "remove"):
        _, requests = asked(tmp_path, [answer(200, TASK), answer(200, DONE)], word, IDS[0])
        assert line_of(requests[1]) == f"DELETE /api/v1/ai-tasks/{IDS[0]}?only={word}"


# -- following --------------------------------------------------------------------------------------------------------
HEAD = b"HTTP/1.0 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"


def said(*numbers: int, last: str = "text") -> bytes:
    events = [{**event("text" if n != numbers[-1] else last, text=str(n)), "seq": n} for n in numbers]
    return HEAD + b"".join(sse.encode(one, str(one["seq"])) for one in events)


def test_a_stream_that_breaks_is_taken_up_where_it_was(tmp_path: Path) -> None:
    from loopsy.client.local import LocalDaemon

    running = answer(200, {**TASK, "status": "running", "lastSeq": 9})
    broken = said(1, 2) + b"id: 3\ndata: {"
    answers = [broken, running, b"", said(2, 3, 4), running, said(5, last="exit")]
    away: list[str] = []
    with ScriptedDaemon(answers=answers) as daemon:
        local = LocalDaemon(configured(tmp_path, daemon.port))
        events = list(client.follow_task(local, IDS[0], away=lambda error: away.append(error.message)))
    assert [one["seq"] for one in events] == [1, 2, 3, 4, 5]
    ids = [request.partition(b"Last-Event-ID: ")[2].partition(b"\r")[0] for request in daemon.requests]
    assert ids == [b"0", b"", b"2", b"2", b"", b"4"]
    assert len(away) == 1


def test_one_that_never_ran_ends_by_its_status(tmp_path: Path) -> None:
    from loopsy.client.local import LocalDaemon

    over = answer(200, {**TASK, "status": "cancelled", "lastSeq": 2})
    with ScriptedDaemon(answers=[said(1, 2, last="status"), over]) as daemon:
        assert len(list(client.follow_task(LocalDaemon(configured(tmp_path, daemon.port)), IDS[0]))) == 2
