"""One task between a scripted session and its log."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred

from loopsy.agents.adapter import Asked, Ended, Event, Launch, Step
from loopsy.core.task_events import Budget
from loopsy.core.tasks import Life, Over, Pending, Plan
from loopsy.errors import AgentMissing, NoPendingApproval, StorageFailed
from loopsy.services.approvals import Answer
from loopsy.services.processes import ProcessGroup
from loopsy.services.storage import Storage
from loopsy.services.task_log import FULL, Sources, TaskLog
from loopsy.services.task_runs import Surroundings, TaskRun
from loopsy.services.worktrees import Worktrees
from loopsy.store import tasks as table
from loopsy.store.database import Database
from loopsy.wire.tasks import CreateTask
from tests.waiting import PATIENCE_S, until

ensure_deferred = pytest_twisted.ensureDeferred
LONG_MS = 1_000_000
"""Longer than a test."""
YES = Answer(approved=True, by="local", how="answer")


class Scripted:
    """A session whose process is a shell script; what it prints, line by line, are commands to it: ``ask``, ``big``,
    ``end``; any other is a text. What it is answered goes back as ``yes`` or ``no``; ``go`` when a ``big`` was read."""

    prompt = b""

    def __init__(self, script: str) -> None:
        self.script = script
        self.over = False

    def launch(self) -> Launch:
        return Launch(argv=("/bin/sh", "-c", self.script), environment=dict(os.environ), first=self.prompt)

    def feed(self, data: bytes) -> Step:
        lines = data.decode().splitlines()
        read = sum(line.startswith("big ") for line in lines)
        return Step(happenings=[self._happening(line) for line in lines], write=b"go\n" * read)

    def _happening(self, line: str) -> Any:
        word, _, rest = line.partition(" ")
        if word == "ask":
            return Asked(
                request_id=rest, tool_name="Bash", tool_input={"command": rest}, kind="command", command=rest
            )
        if word == "big":
            return Event(type="text", data={"text": "x" * int(rest)})
        if word == "end":
            self.over = True
            return Ended(text=rest)
        return Event(type="text", data={"text": line})

    def feed_error(self, data: bytes) -> Step:
        return Step()

    def answer(self, request_id: str, approved: bool, message: str | None = None) -> Step:
        return Step(write=b"yes\n" if approved else b"no\n")

    def interrupt(self) -> Step:
        return Step()

    def ended(self, exit_code: int | None) -> Step:
        return Step() if self.over else Step(happenings=[Ended(text="", is_error=True, error="it went")])


class Bench:
    """Runs of scripts."""

    def __init__(self, storage: Storage, place: Path) -> None:
        self.storage, self.place = storage, place
        self.rules: tuple[str, ...] = ()
        self.over: list[TaskRun] = []

    async def run(self, script: str, **limits: int) -> TaskRun:
        around = Surroundings(
            reactor=reactor,
            worktrees=Worktrees(reactor, str(self.place / "worktrees")),
            data_dir=str(self.place / "data"),
            patches=str(self.place),
            session=lambda life, workdir: self.session(script),
            rules=lambda: self.rules,
            changed=lambda run: None,
            asks=lambda run, approval: None,
            settled=lambda run, approval, answer: None,
            over=self.over.append,
            position=lambda task_id: None,
        )
        plan = Plan(
            task_id="t1",
            asked=CreateTask(prompt="x"),
            title="x",
            cwd=str(self.place),
            owner="local",
            from_node_id="n",
            at=1,
        )
        number = await self.storage.write(lambda db: table.insert(db, "t1", "local", "claude", None, "{}", "{}"))
        log = TaskLog(Sources(self.storage, number, "t1"), Budget(10_000))
        life = Life(plan=plan, state=Pending(), updated_at=1)
        run = TaskRun(around, life, log, limits.get("timeout", LONG_MS), limits.get("approval", LONG_MS))
        run.begin()
        return run

    def session(self, script: str) -> Scripted:
        if not script:
            raise AgentMissing("there is none")
        return Scripted(script)


@pytest_twisted.async_yield_fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    storage = Storage(reactor, Database(tmp_path / "loopsy.db"))
    storage.startService()
    made = Bench(storage, tmp_path)
    yield made
    await storage.stopService()


async def ended(run: TaskRun) -> Over:
    await until(lambda: run.is_over)
    assert isinstance(run.life.state, Over)
    return run.life.state


def texts(bench: Bench, run: TaskRun) -> list[str]:
    return [text for _, text in table.events(bench.storage.reader, run.log.number, 0, 10**6, 10**9)]


@ensure_deferred
async def test_an_answer_is_on_disk_before_the_agent_hears_it(bench: Bench) -> None:
    run = await bench.run("echo ask a; read answer; echo got $answer; echo end well")
    await until(lambda: "ask" in str(run.life.state) or run.view().pending_approvals)
    waiting = run.desk.waiting("a")
    told: list[int] = []
    session_answer = run._session.answer  # type: ignore[union-attr]

    def answer(*given: Any) -> Step:
        told.append(sum("permission_answer" in text for text in texts(bench, run)))
        return session_answer(*given)

    run._session.answer = answer  # type: ignore[union-attr,method-assign]
    assert run.desk.answer("a", YES) == waiting
    with pytest.raises(NoPendingApproval, match="local allowed this already"):
        run.desk.answer("a", YES)
    assert (await ended(run)).status == "completed"
    assert told == [1]
    assert any("got yes" in text for text in texts(bench, run))


@ensure_deferred
async def test_a_log_that_can_not_be_written_is_a_no_and_the_end(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = await bench.run(f"echo ask a; read answer; test $answer = yes && touch {bench.place}/ran; sleep 60")
    await until(lambda: run.view().pending_approvals)

    def full(*_: Any) -> None:
        raise StorageFailed("the disk is full")

    monkeypatch.setattr(bench.storage._database, "write", full)
    run.desk.answer("a", YES)
    state = await ended(run)
    monkeypatch.undo()
    assert (state.status, state.error) == ("failed", "the daemon could not write its database")
    assert not (bench.place / "ran").exists()


@ensure_deferred
async def test_while_much_waits_for_the_disk_the_agent_is_not_read(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk takes nothing more until the agent is paused; the agent goes on once it was read."""
    told: list[str] = []
    for name in ("pause", "resume"):
        real = getattr(ProcessGroup, name)
        monkeypatch.setattr(ProcessGroup, name, lambda group, name=name, real=real: (told.append(name), real(group))[1])
    run = await bench.run("for i in $(seq 60); do echo big 100000; read go; done; echo end")
    write, most, end = bench.storage._database.write, 0, time.monotonic() + PATIENCE_S

    def slow(operations: Any) -> Any:
        while not told and time.monotonic() < end:
            time.sleep(0.01)
        return write(operations)

    monkeypatch.setattr(bench.storage._database, "write", slow)

    def over() -> bool:
        nonlocal most
        most = max(most, run.log.last_seq - run.log.committed)
        return run.is_over

    await until(over)
    assert "pause" in told
    assert told[-1] == "resume"
    assert most * 100_000 < 4 * FULL, "one batch is being written, another gathers, and what one read brought"
    assert sum("xxx" in text for text in texts(bench, run)) == 60


@ensure_deferred
async def test_the_agent_hears_its_prompt_once_the_repository_was_looked_at(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Scripted, "prompt", b"prompt\n")
    looked: Deferred[None] = Deferred()
    monkeypatch.setattr(Worktrees, "begin", lambda *_: looked)
    written: list[bytes] = []
    write = ProcessGroup.write
    monkeypatch.setattr(ProcessGroup, "write", lambda group, data: (written.append(data), write(group, data))[1])
    run = await bench.run("echo up; read prompt; echo $prompt; echo end")
    await until(lambda: any("up" in text for text in texts(bench, run)))
    assert b"prompt\n" not in written
    looked.callback(None)
    await ended(run)
    assert any("prompt" in text for text in texts(bench, run))


@ensure_deferred
async def test_what_can_not_be_started_is_over_with_its_reason(bench: Bench) -> None:
    run = await bench.run("")
    state = await ended(run)
    assert (state.status, state.error) == ("failed", "there is none")
    assert bench.over == [run]
    assert '"type":"status"' in texts(bench, run)[-1]


@ensure_deferred
async def test_it_can_be_cancelled_while_it_starts(bench: Bench) -> None:
    run = await bench.run("sleep 60")
    run.end("cancelled")
    run.end("timeout")
    assert (await ended(run)).status == "cancelled"


@ensure_deferred
async def test_rules_come_before_people(bench: Bench) -> None:
    bench.rules = ("allow Bash(a)", "deny Bash(b)")
    run = await bench.run("for x in a b c; do echo ask $x; read answer; echo $x $answer; done; echo end", approval=300)
    assert (await ended(run)).status == "completed"
    said = [text for text in texts(bench, run) if '"type":"text"' in text]
    assert [word in text for word, text in zip(("a yes", "b no", "c no"), said, strict=True)] == [True] * 3


@ensure_deferred
async def test_more_at_once_than_people_can_judge_is_denied(bench: Bench) -> None:
    run = await bench.run("for x in $(seq 70); do echo ask r$x; done; sleep 60")
    await until(lambda: run.view().pending_approvals == 64)
    await until(lambda: sum('"how":"limit"' in text for text in texts(bench, run)) == 6)
    run.end("cancelled")
    await ended(run)
    assert sum('"how":"cancelled"' in text for text in texts(bench, run)) == 64
