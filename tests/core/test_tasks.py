"""The life of a task, and who may what."""

from __future__ import annotations

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from loopsy.core import tasks
from loopsy.core.principals import DEFAULT_SCOPES, LOCAL, PeerPrincipal, Scope
from loopsy.core.tasks import Ending, Life, Over, Pending, Plan, Running, Waiting
from loopsy.errors import Forbidden, NoPendingApproval, TaskIsOver, TaskNotFound
from loopsy.wire import codec
from loopsy.wire.tasks import FINAL, STATUSES, Approval, CreateTask, Task, TaskResult

KAI = PeerPrincipal(name="kai")
MIA = PeerPrincipal(name="mia", scopes=DEFAULT_SCOPES | {Scope.APPROVE})


def life(**asked: object) -> Life:
    plan = Plan(
        task_id="t1",
        asked=CreateTask(prompt="do it", **asked),  # type: ignore[arg-type]
        title="do it",
        cwd="/home/leo",
        owner="local",
        from_node_id="n1",
        at=5,
    )
    return Life(plan=plan, state=Pending(), updated_at=5)


def approval(request_id: str) -> Approval:
    return Approval(
        request_id=request_id,
        tool_name="Bash",
        tool_input={"command": "ls"},
        kind="command",
        cwd="/",
        timestamp=1,
        expires_at=2,
        suggested_rule="allow Bash(ls)",
    )


def test_a_good_one() -> None:
    one = tasks.spawned(tasks.begin(life()), 7)
    assert one.state == Running(pid=7)
    one = tasks.asked(tasks.asked(one, approval("a")), approval("b"))
    shown = tasks.view(one, 3)
    assert (shown.status, shown.pending_approvals, shown.pending_approval) == ("waiting_approval", 2, approval("a"))
    one = tasks.settled(tasks.settled(one, "b"), "a")
    assert one.state == Running(pid=7)
    over = tasks.gone(evolve(one, result=TaskResult(text="yes")), 0, 9)
    assert over.state == Over(status="completed", at=9, exit_code=0)
    assert tasks.view(over, 3).updated_at == 9


def test_an_answer_to_nothing() -> None:
    one = tasks.asked(tasks.begin(life()), approval("a"))
    with pytest.raises(NoPendingApproval):
        tasks.settled(one, "b")
    with pytest.raises(NoPendingApproval):
        tasks.settled(tasks.settled(one, "a"), "a")


@pytest.mark.parametrize(
    ("result", "agent_error", "status", "error"),
    [
        (TaskResult(text="x"), None, 3, None),
        (TaskResult(text="no luck", is_error=True), None, 0, "no luck"),
        (TaskResult(text="x", is_error=True), "the budget is used up", 0, "the budget is used up"),
        (None, None, 3, "claude exited with status 3 before it gave a result"),
        (None, None, None, "claude was ended by a signal before it gave a result"),
    ],
)
def test_how_an_end_is_told(
    result: TaskResult | None, agent_error: str | None, status: int | None, error: str | None
) -> None:
    one = evolve(tasks.begin(life()), result=result, agent_error=agent_error)
    state = tasks.gone(one, status, 9).state
    assert isinstance(state, Over)
    assert (state.error, state.status) == (error, "completed" if error is None else "failed")


def test_what_could_not_start_says_why() -> None:
    state = tasks.gone(tasks.begin(life()), None, 9, "no such program").state
    assert state == Over(status="failed", at=9, error="no such program")


@pytest.mark.parametrize("reason", ["cancelled", "distrusted", "timeout", "stopped", "flood", "storage"])
def test_the_first_reason_to_end_stays(reason: tasks.Reason) -> None:
    ending = tasks.end(tasks.begin(life()), reason, 8)
    assert ending.state == Ending(pid=None, reason=reason)
    assert tasks.end(ending, "timeout", 9) == ending
    over = tasks.gone(evolve(ending, result=TaskResult(text="late")), -9, 10)
    assert isinstance(over.state, Over)
    assert over.state.status == ("cancelled" if reason in ("cancelled", "distrusted") else "failed")
    with pytest.raises(TaskIsOver):
        tasks.end(over, "cancelled", 11)


@given(st.lists(st.sampled_from(["begin", "ask", "settle", "end", "gone", "spawned"]), max_size=12))
def test_whatever_happens_what_is_over_stays_so(steps: list[str]) -> None:
    one, number = life(), 0
    for step in steps:
        state = one.state
        if step == "begin" and isinstance(state, Pending):
            one = tasks.begin(one)
        elif step == "spawned" and isinstance(state, Running | Ending):
            one = tasks.spawned(one, 7)
        elif step == "ask" and isinstance(state, Running | Waiting):
            number += 1
            one = tasks.asked(one, approval(str(number)))
        elif step == "settle" and isinstance(state, Waiting):
            one = tasks.settled(one, state.approvals[-1].request_id)
        elif step == "end" and not isinstance(state, Over):
            one = tasks.end(one, "cancelled", 9)
        elif step == "gone" and isinstance(state, Running | Ending):
            one = tasks.gone(one, 0, 9)
        shown = tasks.view(one, 0)
        assert shown.status in STATUSES
        assert (shown.status in FINAL) == isinstance(one.state, Over) == (shown.completed_at is not None)
        assert (shown.status == "waiting_approval") == (shown.pending_approvals > 0)
        assert codec.parse_bytes(Task, codec.dump(shown)) == shown
    if isinstance(one.state, Over):
        with pytest.raises(TaskIsOver):
            tasks.end(one, "timeout", 10)


def test_a_plan_is_read_back_as_it_was_written() -> None:
    plan = life(allowed_tools=("Bash",), max_budget_usd=1.5, queue=True).plan
    assert codec.parse_bytes(Plan, codec.dump(plan)) == plan


def test_what_was_found_running_failed() -> None:
    before = tasks.view(tasks.asked(tasks.begin(life()), approval("a")), 3)
    after = tasks.restarted(before, 6, 9)
    assert (after.status, after.error, after.last_seq) == ("failed", "the daemon was restarted", 6)
    assert (after.pending_approvals, after.pending_approval, after.pid) == (0, None, None)


@pytest.mark.parametrize(
    ("prompt", "title"), [("\n  fix it \nnow", "fix it"), ("x" * 200, "x" * 80), (" ", "(no words)")]
)
def test_a_title(prompt: str, title: str) -> None:
    assert tasks.title_of(CreateTask(prompt=prompt)) == title
    assert tasks.title_of(CreateTask(prompt=prompt, title="T")) == "T"


@pytest.mark.parametrize(
    "asked",
    [
        {"permission_mode": "bypassPermissions"},
        {"permission_mode": "acceptEdits"},
        {"allowed_tools": ("Bash",)},
        {"additional_args": ("--bare",)},
    ],
)
def test_who_may_have_a_task_ask_less(asked: dict[str, object]) -> None:
    request = CreateTask(prompt="x", **asked)  # type: ignore[arg-type]
    tasks.check_may_ask(LOCAL, request)
    with pytest.raises(Forbidden):
        tasks.check_may_ask(KAI, request)
    if "additional_args" in asked:
        with pytest.raises(Forbidden):
            tasks.check_may_ask(MIA, request)
    else:
        tasks.check_may_ask(MIA, request)
    tasks.check_may_ask(KAI, CreateTask(prompt="x", permission_mode="dontAsk", disallowed_tools=("Bash",)))


def test_another_s_task_is_none() -> None:
    tasks.check_is_for(LOCAL, "kai", "t")
    tasks.check_is_for(KAI, "kai", "t")
    for caller, owner in ((KAI, "mia"), (KAI, "local")):
        with pytest.raises(TaskNotFound):
            tasks.check_is_for(caller, owner, "t")
