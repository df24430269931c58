"""Commands that hang, flood, leave something behind, or aren't there."""

import os
import sys
import time
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from loopsy.agents import calling
from loopsy.agents.calling import Called, CallFailed
from tests.waiting import PATIENCE_S, wait_until


def python(script: str) -> list[str]:
    return [sys.executable, "-c", script]


def call(argv: list[str], timeout: float = PATIENCE_S) -> Called:
    return calling.call(argv, os.environ, timeout)


@pytest.fixture
def ready(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that a command makes when it hangs: then its time is over."""
    file, looks = tmp_path / "ready", count()
    clock = lambda: time.monotonic() + (1000 if next(looks) and file.exists() else 0)  # noqa: E731 (at first: it begins)
    monkeypatch.setattr(calling, "time", SimpleNamespace(monotonic=clock))
    return file


def ends(pid: int) -> None:
    def gone() -> bool:
        return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE

    wait_until(gone, f"the end of {pid}")


def test_both_outputs_and_the_status() -> None:
    called = call(python("import sys; print('out'); print('err', file=sys.stderr); sys.exit(3)"))
    assert (called.stdout, called.stderr, called.status) == ("out\n", "err\n", 3)


def test_nobody_answers_its_questions() -> None:
    assert call(python("import sys; print(repr(sys.stdin.read()))")).stdout == "''\n"


def test_one_that_hangs_is_ended_with_its_children(ready: Path) -> None:
    script = (
        f"import os, subprocess, time; child = subprocess.Popen(['sleep', '1000']); "
        f"open({str(ready) + '.new'!r}, 'w').write(str(child.pid)); "
        f"os.rename({str(ready) + '.new'!r}, {str(ready)!r}); time.sleep(1000)"
    )
    with pytest.raises(CallFailed, match=r"did not end within 200 s"):
        call(python(script), timeout=200)
    ends(int(ready.read_text()))


def test_one_that_ignores_term_is_killed(ready: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calling, "ENDING_S", 0.2)
    script = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
        f"open({str(ready)!r}, 'w'); time.sleep(1000)"
    )
    with pytest.raises(CallFailed):
        call(python(script), timeout=200)


def test_one_that_never_stops_talking_is_ended() -> None:
    with pytest.raises(CallFailed, match="said more than"):
        call(["yes"])


def test_what_it_leaves_behind_does_not_hold_us(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    called = call(["sh", "-c", f"sleep 1000 & echo $! > {pid}; echo done"])
    assert (called.stdout, called.status) == ("done\n", 0)
    ends(int(pid.read_text()))


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
