"""Commands that hang, flood, leave something behind, or aren't there."""

import os
import sys
import time
from pathlib import Path

import psutil
import pytest

from loopsy.agents import calling
from loopsy.agents.calling import Called, CallFailed


def python(script: str) -> list[str]:
    return [sys.executable, "-c", script]


def call(argv: list[str], timeout: float = 60) -> Called:
    return calling.call(argv, os.environ, timeout)


def gone(pid: int) -> bool:
    deadline = time.monotonic() + 20
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def test_both_outputs_and_the_status() -> None:
    called = call(python("import sys; print('out'); print('err', file=sys.stderr); sys.exit(3)"))
    assert (called.stdout, called.stderr, called.status) == ("out\n", "err\n", 3)


def test_nobody_answers_its_questions() -> None:
    assert call(python("import sys; print(repr(sys.stdin.read()))")).stdout == "''\n"


def test_one_that_hangs_is_ended_with_its_children(tmp_path: Path) -> None:
    script = (
        f"import subprocess, time; child = subprocess.Popen(['sleep', '1000']); "
        f"open({str(tmp_path / 'pid')!r}, 'w').write(str(child.pid)); time.sleep(1000)"
    )
    with pytest.raises(CallFailed, match=r"did not end within 2 s"):
        call(python(script), timeout=2)
    assert gone(int((tmp_path / "pid").read_text()))


def test_one_that_ignores_term_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calling, "ENDING_S", 0.2)
    script = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(1000)"
    with pytest.raises(CallFailed):
        call(python(script), timeout=1)


def test_one_that_never_stops_talking_is_ended() -> None:
    with pytest.raises(CallFailed, match="said more than"):
        call(["yes"])


def test_what_it_leaves_behind_does_not_hold_us(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    called = call(["sh", "-c", f"sleep 1000 & echo $! > {pid}; echo done"], timeout=20)
    assert (called.stdout, called.status) == ("done\n", 0)
    assert gone(int(pid.read_text()))


def test_one_that_closes_its_outputs_is_waited_for(tmp_path: Path) -> None:
    called = call(python("import os, time; os.close(1); os.close(2); time.sleep(0.3); os._exit(5)"))
    assert called.status == 5


@pytest.mark.parametrize("made", [None, "no program"])
def test_one_that_cannot_be_started(tmp_path: Path, made: str | None) -> None:
    path = tmp_path / "agent"
    if made:
        path.write_text(made)
    with pytest.raises(CallFailed, match="can't be started"):
        call([os.fspath(path)])
