"""What holds for every test: it leaves no timer in the reactor and no process behind."""

from __future__ import annotations

import inspect
import os
import signal
from collections.abc import Iterator
from typing import Any

import psutil
import pytest
from hypothesis import HealthCheck, settings

for name in ("SIGINT", "SIGHUP"):
    # started by nohup or in the background, all that a test starts would ignore what a test sends it
    number = getattr(signal, name, None)
    if number is not None and signal.getsignal(number) == signal.SIG_IGN:
        signal.signal(number, signal.default_int_handler if name == "SIGINT" else signal.SIG_DFL)
# how long an example takes to make says more about what else the machine does than about the test
PATIENT: dict[str, Any] = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("quick", max_examples=60, **PATIENT)
settings.register_profile("thorough", max_examples=2000, **PATIENT)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))


DYING_S = 10
"""What was killed may need a moment to be gone, on a busy machine. (What tests start to stay sleeps for a minute.)"""


@pytest.fixture(autouse=True)
def _leaves_nothing_behind() -> Iterator[None]:
    from twisted.internet import reactor

    calls_before = set(reactor.getDelayedCalls())  # type: ignore[attr-defined]
    children_before = {child.pid for child in psutil.Process().children(recursive=True)}
    yield
    calls = [call for call in reactor.getDelayedCalls() if call.active() and call not in calls_before]  # type: ignore[attr-defined]
    children = [c for c in psutil.Process().children(recursive=True) if c.pid not in children_before and _lives(c)]
    _, children = psutil.wait_procs(children, DYING_S)
    for call in calls:
        call.cancel()
    for child in children:
        child.kill()
    assert not calls, f"the test left timers in the reactor: {calls}"
    assert not children, f"the test left processes behind: {children}"


def _lives(child: psutil.Process) -> bool:
    try:
        return bool(child.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Laws without I/O run outside the reactor: pytest-twisted would wrap a parametrised one anew for each parameter,
    on top of the last, and fail at the second."""
    law = getattr(pyfuncitem.obj, "hypothesis", None)
    if law is None or inspect.iscoroutinefunction(law.inner_test):
        return None
    names = inspect.signature(pyfuncitem.obj).parameters
    pyfuncitem.obj(**{name: value for name, value in pyfuncitem.funcargs.items() if name in names})
    return True
