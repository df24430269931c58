"""One thread starts processes, unless a start comes to no end."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.threads import deferToThreadPool

from loopsy.services.starters import MOST, Starters
from tests.waiting import until


@pytest.fixture
def starters() -> Iterator[Starters]:
    made = Starters(reactor)
    made.start()
    yield made
    made.stop()


def run(starters: Starters, work: Any) -> Any:
    """Have it done."""
    return deferToThreadPool(reactor, starters, work)  # type: ignore[arg-type]


@pytest_twisted.ensureDeferred
async def test_one_after_the_other_in_their_order(starters: Starters, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("loopsy.services.starters.SLOW_S", 1000.0)  # on a busy machine each may take long
    seen: list[tuple[int, int]] = []
    waiting = [run(starters, lambda n=n: seen.append((n, threading.get_ident()))) for n in range(50)]
    for one in waiting:
        await one
    assert [number for number, _ in seen] == list(range(50))
    assert len({thread for _, thread in seen}) == 1


@pytest_twisted.ensureDeferred
async def test_what_hangs_keeps_nobody_waiting(starters: Starters) -> None:
    """Till there are as many of those as there may be; and it ends as it began."""
    go_on = threading.Event()
    try:
        hanging = [run(starters, go_on.wait) for _ in range(MOST - 1)]
        next_one = run(starters, lambda: "started")
        await until(lambda: next_one.called)
        more = [run(starters, go_on.wait), run(starters, lambda: "last")]
        await until(lambda: starters.workers == MOST)
        assert not more[1].called
    finally:
        go_on.set()
    for one in (*hanging, next_one, *more):
        await one
    await until(lambda: starters.max == 1 and starters.workers <= 1)


@pytest_twisted.ensureDeferred
async def test_errors_arrive_and_count_as_ended(starters: Starters) -> None:
    def fail() -> None:
        raise OSError("no such program")

    with pytest.raises(OSError, match="no such program"):
        await run(starters, fail)
    assert await run(starters, lambda: 1) == 1


def test_after_a_stop_nothing_is_taken() -> None:
    made = Starters(reactor)
    made.start()
    made.stop()
    made.callInThreadWithCallback(lambda *_: pytest.fail("it was run"), lambda: None)
