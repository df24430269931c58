"""Jobs: admitted, started, bounded, ended."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet import reactor
from twisted.internet.defer import Deferred

from loopsy.config import Config
from loopsy.core.principals import LOCAL, PeerPrincipal
from loopsy.errors import CommandDenied, CommandFailedToStart, InternalError, JobNotFound, TooManyJobs
from loopsy.services.events import Events
from loopsy.services.execution import Capture, Execution, Kept, inherited
from loopsy.services.settings import Settings
from loopsy.store.layout import Layout
from loopsy.wire.execution import ExecuteRequest, ExecuteResult
from tests.waiting import until

ensure_deferred = pytest_twisted.ensureDeferred
DEFAULT = Config().execution


@pytest_twisted.async_yield_fixture
async def execution(tmp_path: Path) -> AsyncIterator[Execution]:
    policy = evolve(DEFAULT, max_concurrent=2, max_output=1024)
    made = Execution(reactor, Settings(Layout(tmp_path), Config(execution=policy)), Events())
    made.startService()
    yield made
    if made.running:
        await made.stopService()


def run(execution: Execution, *words: str, **more: Any) -> Deferred[ExecuteResult]:
    command, *args = words
    request = ExecuteRequest(command=command, args=tuple(args), **more)
    return Deferred.fromCoroutine(execution.run(request, LOCAL, "n1", Capture(1024)))


@ensure_deferred
async def test_a_command_answers_with_its_outputs_and_exit_code(execution: Execution) -> None:
    result = await run(execution, "sh", "-c", "printf é; echo $A >&2; pwd; exit 3", cwd="/", env={"A": "b"})
    assert (result.stdout, result.stderr, result.exit_code) == ("é/\n", "b\n", 3)
    assert (result.killed, result.truncated, result.signal) == (False, False, None)
    assert (execution.active, execution.total) == (0, 1)


@ensure_deferred
async def test_output_beyond_the_limit_is_thrown_away_and_said_so(execution: Execution) -> None:
    result = await run(execution, "sh", "-c", "printf %01023d 0; printf éé")
    assert (result.stdout, result.truncated) == ("0" * 1023, True)


@ensure_deferred
async def test_a_command_that_is_denied_or_cannot_start_leaves_no_job(execution: Execution) -> None:
    for words, error in ((("rm", "x"), CommandDenied), (("no-such-program",), CommandFailedToStart)):
        with pytest.raises(error):
            await run(execution, *words)
    assert execution.jobs(LOCAL) == ()


@ensure_deferred
async def test_a_timeout_ends_the_job_and_says_so(execution: Execution) -> None:
    result = await run(execution, "sleep", "60", timeout=50)
    assert (result.exit_code, result.signal, result.reason, result.killed) == (None, "SIGTERM", "timeout", True)


@ensure_deferred
async def test_no_more_than_the_limit_run_and_a_cancelled_one_makes_room(execution: Execution) -> None:
    jobs = [run(execution, "sleep", "60") for _ in range(2)]
    with pytest.raises(TooManyJobs):
        await run(execution, "true")
    await until(lambda: all(info.pid for info in execution.jobs(LOCAL)))
    for_kai = PeerPrincipal(name="kai")
    with pytest.raises(JobNotFound):
        execution.cancel(execution.jobs(LOCAL)[0].job_id, for_kai)
    execution.cancel(execution.jobs(LOCAL)[0].job_id, LOCAL)
    assert (await jobs[0]).reason == "cancelled"
    assert (await run(execution, "true")).exit_code == 0
    await execution.stopService()
    assert (await jobs[1]).reason == "stopped"


@ensure_deferred
async def test_a_job_cancelled_while_it_starts_is_ended_once_it_runs(execution: Execution) -> None:
    job = run(execution, "sleep", "60")
    (info,) = execution.jobs(LOCAL)
    assert info.pid is None
    execution.cancel(info.job_id, LOCAL)
    assert (await job).reason == "cancelled"


@ensure_deferred
async def test_stopping_ends_jobs_that_are_just_starting_and_takes_no_more(execution: Execution) -> None:
    job = run(execution, "sleep", "1000")
    await execution.stopService()
    result = await job
    assert (result.reason, result.signal) == ("stopped", "SIGTERM")
    with pytest.raises(InternalError, match="stopping"):
        await run(execution, "true")


@ensure_deferred
async def test_stopping_does_not_wait_for_a_job_that_never_started(execution: Execution) -> None:
    job = run(execution, "no-such-program")
    await execution.stopService()
    with pytest.raises(CommandFailedToStart):
        await job


@ensure_deferred
async def test_an_unknown_job_cannot_be_cancelled_but_may_be_over(execution: Execution) -> None:
    with pytest.raises(JobNotFound):
        execution.cancel("x", LOCAL)
    execution.cancel_if_running("x")


def test_our_own_variables_are_not_passed_on() -> None:
    assert inherited({"PATH": "/bin", "LOOPSY_API_KEY": "secret", "LOOPSY_DATA_DIR": "/x"}) == {"PATH": "/bin"}


@given(st.lists(st.text()), st.integers(0, 40))
def test_what_is_kept_is_a_prefix_in_whole_characters(texts: list[str], limit: int) -> None:
    kept = Kept(limit)
    for text in texts:
        kept.add(text.encode())
    whole, text = "".join(texts), kept.text()
    assert whole.startswith(text)
    assert kept.truncated == (len(whole.encode()) > limit)
    following = whole[: len(text) + 1]
    assert len(text.encode()) <= limit
    assert text == whole or len(following.encode()) > limit
