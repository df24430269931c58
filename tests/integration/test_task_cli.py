"""``loopsy task`` by a person at a terminal: here, and on another machine."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from loopsy.cli.mailbox import AGENTS
from loopsy.testing import fake_agent
from loopsy.testing.nodes import Node, keyed_pair
from loopsy.wire.trust import DEFAULT_SCOPES
from tests.integration.conftest import PATIENCE_S, until
from tests.integration.task_terminal import COMMAND, Person
from tests.integration.tasking import Client, whole

pytestmark = pytest.mark.integration
Pair = tuple[Node, Node]


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Two machines; only the second, bravo, has an agent that matters."""
    root = tmp_path_factory.mktemp("task-cli")
    a, b = Node(root / "alfa", "alfa"), Node(root / "bravo", "bravo")
    keyed_pair(a, b)
    with pytest.MonkeyPatch.context() as patch:
        for name in AGENTS:  # should one run these tests: it could not answer
            patch.delenv(name, raising=False)
        patch.setenv("PATH", f"{fake_agent.install(root / 'agents')}{os.pathsep}{os.environ['PATH']}")
        a.start()
        b.start()
        yield a, b
    a.stop()
    b.stop()
    assert "Traceback" not in a.log + b.log


@pytest.fixture
def alfa(both: Pair) -> Iterator[Node]:
    yield both[0]
    for node in both:
        Client(node).end_all()


@pytest.fixture
def bravo(both: Pair, alfa: Node) -> Node:
    return both[1]


def newest(node: Node) -> str:
    return str(until(lambda: Client(node).ask("GET", "?limit=1").body["tasks"])[0]["taskId"])


def steps(*lines: str) -> str:
    return "\n".join(lines)


# -- answering --------------------------------------------------------------------------------------------------------
def test_yes_this_task_always_and_no(alfa: Node, tmp_path: Path) -> None:
    script = steps(
        *("say I will look.", f"ask touch {tmp_path}/once", f"ask touch {tmp_path}/task", f"ask touch {tmp_path}/task"),
        *(f"ask touch {tmp_path}/always", f"ask touch {tmp_path}/no", "say I am done.", "done well"),
    )
    with Person(alfa, "task", "run", "--follow", "--cwd", str(tmp_path), script) as person:
        assert "I will look." in person.sees(f"| touch {tmp_path}/once")
        person.sees("[n]o: ")
        assert not (tmp_path / "once").exists()
        person.types("y")
        person.sees("allowed by local")
        person.sees(f"| touch {tmp_path}/task")
        person.sees("[n]o: ")
        person.types("t")
        person.sees("allowed (as before in this task)")
        person.sees(f"| touch {tmp_path}/always")
        person.sees("[n]o: ")
        person.types("a")
        person.sees(f"rule: allow Bash(touch {tmp_path}/always)")
        person.types("\b\b)")
        person.sees(f"| touch {tmp_path}/no")
        person.sees("[n]o: ")
        person.types("n")
        person.sees("a word to the agent")
        person.types("not on a Friday")
        person.sees("completed")
        assert person.leaves() == 0
    rules = Client(alfa).ask("GET", "/rules").body["rules"]
    assert rules == [f"allow Bash(touch {tmp_path}/alway)"], "the rule as it was edited"
    Client(alfa).ask("DELETE", "/rules", {"rule": rules[0]})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["always", "once", "task"]
    results = [e["data"]["output"] for e in Client(alfa).events(newest(alfa)) if e["type"] == "tool_result"]
    assert results[-1] == "not on a Friday"
    with Person(alfa, "task", "follow", newest(alfa)) as person:
        assert person.leaves() == 0
        assert "| touch" in person.plain
        assert "allow?" not in person.plain, "what is answered already isn't asked again"


def test_answered_elsewhere_the_question_goes_with_who_answered(alfa: Node) -> None:
    with Person(alfa, "task", "run", "--follow", steps("ask echo one", "ask echo two", "done")) as person:
        person.sees("[n]o: ")
        client, task_id = Client(alfa), newest(alfa)
        client.approve(task_id, client.asked(task_id)["requestId"])
        person.sees("allowed by local")
        assert "\x1b[K  " in person.screen, "the question's line was taken back"
        person.sees("| echo two")
        person.sees("[n]o: ")
        person.types("y")
        person.sees("completed")
        assert person.leaves() == 0


def test_what_was_typed_before_the_question_is_no_answer(alfa: Node, tmp_path: Path) -> None:
    waiting = f"run until test -e {tmp_path}/typed; do sleep 0.1; done"
    with Person(alfa, "task", "run", "--follow", steps("say ready.", waiting, "ask echo no", "done")) as person:
        person.sees("ready.")
        person.types("y")
        (tmp_path / "typed").touch()
        person.sees("[n]o: ")
        client, task_id = Client(alfa), newest(alfa)
        person.types("x")
        person.sees("[n]o: ")
        assert client.show(task_id)["status"] == "waiting_approval"
        person.types("y")
        person.sees("completed")


def test_between_pipes_the_terminal_is_asked_all_the_same(alfa: Node, tmp_path: Path) -> None:
    (tmp_path / "prompt").write_text(steps("ask echo piped", "ask echo more", "done"))
    pipeline = f"cat {tmp_path}/prompt | {{}} > {tmp_path}/out"
    with Person(alfa, "task", "run", "--follow", "-", pipeline=pipeline) as person:
        person.sees("| echo piped")
        person.sees("[n]o: ")
        person.types("a")
        person.sees("rule: [allow Bash(echo piped)]")
        person.types("allow Bash(echo *)")
        assert person.leaves() == 0
    rule = {"rule": "allow Bash(echo *)"}
    assert Client(alfa).ask("DELETE", "/rules", rule).status == 200
    assert "completed" in (tmp_path / "out").read_text()
    assert "allow?" not in (tmp_path / "out").read_text()


def test_approve_shows_what_it_allows(alfa: Node) -> None:
    client = Client(alfa)
    task_id = client.start("ask echo here", "done")
    client.asked(task_id)
    with Person(alfa, "task", "approve", task_id[:8]) as person:
        person.sees("| echo here")
        person.sees("[n]o: ")
        person.types("y")
        person.sees("allowed")
        assert person.leaves() == 0
    assert client.over(task_id)["status"] == "completed"


# -- leaving and coming back ------------------------------------------------------------------------------------------
def test_ctrl_c_leaves_the_task_alone(alfa: Node) -> None:
    with Person(
        alfa, "task", "run", "--follow", steps("say ready.", "ask echo go", "say later", "sleep 300")
    ) as person:
        person.sees("[n]o: ")
        person.interrupts()
        person.sees("loopsy task cancel")
        assert person.leaves() == 130
    client, task_id = Client(alfa), newest(alfa)
    assert client.show(task_id)["status"] == "waiting_approval"
    with Person(alfa, "task", "follow", task_id[:8]) as person:
        person.sees("ready.")
        person.sees("[n]o: ")
        person.types("y")
        person.sees("later")
        assert alfa.run("task", "cancel", task_id[:8]).returncode == 0
        person.sees("cancelled")
        assert person.leaves() == 130
    assert alfa.run("task", "cancel", task_id[:8]).returncode == 1, "it is over"
    other = client.start("sleep 300")
    assert b"isn't over" in alfa.run("task", "remove", other).stderr
    assert client.show(other)["status"] == "running"
    assert client.show(task_id)["status"] == "cancelled", "and still there"
    assert alfa.run("task", "remove", task_id[:8]).returncode == 0
    assert client.ask("GET", f"/{task_id}").status == 404


def test_the_daemon_here_restarts_while_one_there_is_followed(alfa: Node, bravo: Node) -> None:
    script = steps("say first", "ask echo go", *(f"say number {n}" for n in range(50)), "ask echo end", "done")
    there = Client(bravo)
    with Person(alfa, "task", "run", "--on", "bravo", "--follow", script) as person:
        person.sees("[n]o: ")
        task_id = newest(bravo)
        alfa.kill()
        person.sees("waiting for it")
        there.approve(task_id, there.asked(task_id)["requestId"])
        until(lambda: any(e["data"].get("text") == "number 49" for e in there.events(task_id)))
        alfa.start()
        person.sees("number 49\n")
        there.approve(task_id, there.asked(task_id)["requestId"])
        person.sees("completed")
        assert person.leaves() == 0
    said = [line for line in person.plain.splitlines() if line == "first" or line.startswith("number ")]
    assert said == ["first", *(f"number {n}" for n in range(50))]


def test_a_task_here_ends_with_its_daemon_and_says_so(alfa: Node) -> None:
    with Person(alfa, "task", "run", "--follow", steps("say ready.", "sleep 300")) as person:
        person.sees("ready.")
        alfa.kill()
        person.sees("waiting for it")
        alfa.start()
        person.sees("failed: the daemon was restarted")
        assert person.leaves() == 1


# -- another machine --------------------------------------------------------------------------------------------------
def test_without_the_scope_it_says_how_to_answer_there(alfa: Node, bravo: Node) -> None:
    with Person(alfa, "task", "run", "--on", "bravo", "--follow", steps("ask echo one", "ask echo two")) as person:
        person.sees("[t]his task / [n]o: ")
        person.types("y")
        shown = person.sees("loopsy peers scope")
        there, task_id = Client(bravo), newest(bravo)
        assert f"loopsy task approve {task_id[:8]}" in shown
        assert there.show(task_id)["status"] == "waiting_approval"
        assert bravo.run("task", "approve", task_id[:8], "--request", "r").returncode == 0
        person.sees("allowed by local")
        person.sees("bravo doesn't let this machine answer")
        assert bravo.run("task", "deny", task_id[:8], "no more").returncode == 0
        person.sees("completed")
        assert person.leaves() == 0


def test_with_the_scope_it_answers_from_here(alfa: Node, bravo: Node) -> None:
    bravo.ask("PUT", "/trust/alfa/scopes", {"scopes": [*DEFAULT_SCOPES, "approve"]})
    try:
        with Person(alfa, "task", "run", "--on", "bravo", "-f", steps("ask echo one", "ask echo two")) as person:
            person.sees("[n]o: ")
            person.types("y")
            person.sees("allowed by alfa")
            person.sees("[n]o: ")
            person.types("n")
            person.sees("a word")
            person.types("")
            person.sees("completed")
            assert person.leaves() == 0
    finally:
        bravo.ask("PUT", "/trust/alfa/scopes", {"scopes": list(DEFAULT_SCOPES)})


# -- no terminal ------------------------------------------------------------------------------------------------------
def run_alone(node: Node, *words: str, **variables: str) -> subprocess.Popen[bytes]:
    """A command without a terminal, not even the one that the tests were started from."""
    return subprocess.Popen(
        [*COMMAND, "task", *words],
        env={**node.environment, **variables},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def test_where_nobody_can_be_asked_it_waits_and_says_how(alfa: Node, tmp_path: Path) -> None:
    process = run_alone(alfa, "run", "--follow", "--cwd", str(tmp_path), steps("ask touch out", "done"))
    assert process.stderr is not None
    line = process.stderr.readline().decode()
    assert "loopsy task approve" in line
    words = line.partition("loopsy task ")[2].partition(" (or")[0].split()
    assert not (tmp_path / "out").exists()
    assert alfa.run("task", *words).returncode == 0
    stdout, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0
    assert "| touch out" in stdout.decode()
    assert b"\x1b" not in stdout
    assert (tmp_path / "out").exists()


def test_events_as_json(alfa: Node) -> None:
    process = run_alone(alfa, "run", "--follow", "--json", steps("say hello", "ask echo x", "fail no luck"))
    assert process.stderr is not None
    request = process.stderr.readline().decode().partition("--request ")[2].split()[0]
    assert alfa.run("task", "approve", newest(alfa), "--request", request).returncode == 0
    stdout, _ = process.communicate(timeout=PATIENCE_S)
    events = [json.loads(line) for line in stdout.splitlines()]
    assert process.returncode == 1
    assert whole(events)
    assert events == Client(alfa).events(newest(alfa))


def test_inside_of_a_task_nothing_is_asked_or_answered(alfa: Node) -> None:
    script = steps("ask echo one", "done")
    with Person(alfa, "task", "run", "--follow", script, LOOPSY_TASK="another") as person:
        person.sees("a person must answer this")
        assert "allow?" not in person.plain
        client, task_id = Client(alfa), newest(alfa)
        request = client.asked(task_id)["requestId"]
        refused = subprocess.run(
            [*COMMAND, "task", "approve", task_id, "--request", request],
            env={**alfa.environment, "LOOPSY_TASK": "another"},
            capture_output=True,
            check=False,
        )
        assert refused.returncode == 1
        assert b"inside of a task" in refused.stderr
        assert client.show(task_id)["status"] == "waiting_approval"
        client.approve(task_id, request)
        person.sees("completed")


# -- the others -------------------------------------------------------------------------------------------------------
def test_lists_resume_and_patch(alfa: Node, bravo: Node, tmp_path: Path) -> None:
    git = ["git", "-c", "user.email=a@b", "-c", "user.name=a"]
    subprocess.run([*git, "init", "-q"], cwd=tmp_path, check=True)
    subprocess.run([*git, "commit", "-qm", "1", "--allow-empty"], cwd=tmp_path, check=True)
    words = ("run", "--mode", "acceptEdits", "--cwd", str(tmp_path), "--title", "Tidy up")
    with Person(alfa, "task", *words, "--follow", steps(f"edit {tmp_path}/new text", "done")) as person:
        person.sees("1 file changed (+1 -0)")
        person.sees("loopsy task patch")
        assert person.leaves() == 0
    task_id = newest(alfa)
    assert b"+text" in alfa.run("task", "patch", task_id[:8]).stdout
    assert b"Tidy up" in alfa.run("task", "list").stdout
    everywhere = json.loads(alfa.run("task", "list", "--all", "--json").stdout)
    assert [machine["machine"] for machine in everywhere["machines"]] == [".", "bravo"]
    done = alfa.run("task", "resume", task_id[:8], "say again", "--follow")
    assert done.returncode == 0, done.stderr
    assert b"I remember" in done.stdout
    missing = alfa.run("task", "show", "ffffffff")
    assert missing.returncode == 1
    assert b"--all" in missing.stderr
