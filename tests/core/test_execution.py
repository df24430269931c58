"""The life of a job, as transcripts."""

from __future__ import annotations

import signal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopsy.core.execution import Ending, JobTable, Running, Starting, outcome
from loopsy.core.principals import LOCAL, PeerPrincipal, Principal
from loopsy.errors import JobNotFound, TooManyJobs
from loopsy.wire.execution import JobInfo, Outcome


def info(job_id: str) -> JobInfo:
    return JobInfo(job_id=job_id, command="make", args=(), started_at=1, from_node_id="n")


KAI, MIA = PeerPrincipal(name="kai"), PeerPrincipal(name="mia")


def table(*job_ids: str, owner: Principal = LOCAL) -> JobTable:
    made = JobTable()
    for job_id in job_ids:
        made.admit(info(job_id), owner, 10)
    return made


def test_a_job_starts_runs_and_is_gone() -> None:
    jobs = table("a")
    assert jobs.get("a") == Starting(info=info("a"), owner="local")
    jobs.spawned("a", 42)
    assert isinstance(jobs.get("a"), Running)
    assert jobs.infos(LOCAL)[0].pid == 42
    assert jobs.gone("a", 0, 5) == Outcome(exit_code=0, duration=5)
    assert (len(jobs), jobs.total) == (0, 1)
    with pytest.raises(JobNotFound, match="no job a runs here"):
        jobs.get("a")


def test_the_first_reason_to_end_stays() -> None:
    jobs = table("a")
    jobs.spawned("a", 42)
    assert jobs.end("a", "timeout")
    assert not jobs.end("a", "cancelled")
    assert jobs.is_ending("a")
    assert jobs.gone("a", -15, 5) == Outcome(
        exit_code=None, signal="SIGTERM", killed=True, reason="timeout", duration=5
    )


def test_a_job_cancelled_while_it_starts_is_still_ending_once_it_runs() -> None:
    jobs = table("a")
    jobs.end("a", "cancelled")
    jobs.spawned("a", 42)
    assert isinstance(jobs.get("a"), Ending)
    assert jobs.infos(LOCAL)[0].pid == 42


def test_a_job_counts_from_its_start_until_it_is_gone() -> None:
    jobs = table("a")
    with pytest.raises(TooManyJobs, match=r"1 jobs run here already \(execution\.maxConcurrent: 1\)"):
        jobs.admit(info("b"), LOCAL, 1)
    jobs.dropped("a")
    jobs.admit(info("b"), LOCAL, 1)
    jobs.spawned("b", 1)
    jobs.end("b", "cancelled")
    with pytest.raises(TooManyJobs):
        jobs.admit(info("c"), LOCAL, 1)
    jobs.gone("b", 0, 0)
    jobs.admit(info("c"), LOCAL, 1)


def test_a_peer_sees_its_own_jobs_and_this_machines_user_all() -> None:
    jobs = table("a", owner=KAI)
    jobs.admit(info("b"), MIA, 10)
    jobs.admit(info("c"), LOCAL, 10)
    for job_id in "abc":
        jobs.spawned(job_id, 1)
    jobs.end("b", "stopped")
    seen = {who.name: "".join(i.job_id for i in jobs.infos(who)) for who in (KAI, MIA, LOCAL)}
    assert seen == {"kai": "a", "mia": "b", "local": "abc"}
    assert jobs.seen_by(MIA, "b") == jobs.seen_by(LOCAL, "b")
    for another in ("a", "c", "x"):
        with pytest.raises(JobNotFound, match=f"no job {another} runs here"):
            jobs.seen_by(MIA, another)


def test_an_unknown_job_cannot_be_ended() -> None:
    with pytest.raises(JobNotFound):
        table().end("x", "cancelled")


@given(st.integers(-64, 255).filter(lambda s: s != 0))
def test_a_status_is_an_exit_code_or_a_signal_never_both(status: int) -> None:
    found = outcome(status, 1, None)
    assert (found.exit_code is None) == (found.signal is not None) == found.killed == (status < 0)


def test_a_job_that_exits_by_itself_when_told_to_end_keeps_its_code() -> None:
    assert outcome(3, 1, "cancelled") == Outcome(exit_code=3, killed=True, reason="cancelled", duration=1)
    assert outcome(-signal.SIGKILL, 1, None).signal == "SIGKILL"
    assert outcome(-63, 1, None).signal == "SIG63"


def test_peers_that_use_all_slots_leave_this_machines_user_its_own() -> None:
    jobs = JobTable()
    for name in ("a", "b"):
        jobs.admit(info(name), MIA, 2)
    for owner in (MIA, PeerPrincipal(name="leo")):
        with pytest.raises(TooManyJobs):
            jobs.admit(info("c"), owner, 2)
    for name in ("c", "d"):
        jobs.admit(info(name), LOCAL, 2)
    with pytest.raises(TooManyJobs, match="2 jobs run here"):
        jobs.admit(info("e"), LOCAL, 2)
