"""Detached jobs that outlived their daemon."""

from __future__ import annotations

import subprocess

import psutil

from loopsy.services.detached import still_runs
from tests.waiting import wait_until


def test_a_lost_job_runs_until_its_process_is_dead_though_nobody_reaps_it() -> None:
    with subprocess.Popen(["sleep", "1000"]) as job:
        born = psutil.Process(job.pid).create_time()
        assert still_runs(job.pid, born)
        assert not still_runs(job.pid, born - 1), "another one has its id now"
        assert not still_runs(None, born)
        job.kill()
        wait_until(lambda: not still_runs(job.pid, born), "its end")
        assert psutil.pid_exists(job.pid)
