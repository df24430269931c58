"""A few at once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

import pytest
import pytest_twisted
from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from loopsy.services.together import together

ensure_deferred = pytest_twisted.ensureDeferred


class Works:
    """Each waits until it is told how it ends, and takes a moment to clean up."""

    def __init__(self, number: int) -> None:
        self.ends: dict[int, Deferred[None]] = {}
        self.cleanups: list[Deferred[None]] = []
        self.cancelled: list[int] = []
        self.all: list[Callable[[], Awaitable[None]]] = [partial(self._one, which) for which in range(number)]

    async def _one(self, which: int) -> None:
        self.ends[which] = Deferred()
        try:
            await self.ends[which]
        except CancelledError:
            self.cancelled.append(which)
            self.cleanups.append(Deferred())
            await self.cleanups[-1]
            raise


@ensure_deferred
async def test_so_many_are_under_way_and_no_more() -> None:
    works = Works(5)
    done = Deferred.fromCoroutine(together(works.all, 3))
    assert list(works.ends) == [0, 1, 2]
    works.ends[1].callback(None)
    assert list(works.ends) == [0, 1, 2, 3]
    for which in (0, 2, 3, 4):
        assert not done.called
        works.ends[which].callback(None)
    await done


@ensure_deferred
async def test_the_first_failure_ends_the_others_and_is_told_once_they_are_over() -> None:
    works = Works(5)
    done = Deferred.fromCoroutine(together(works.all, 3))
    works.ends[1].errback(ValueError("it failed"))
    assert works.cancelled == [0, 2]
    works.cleanups[0].callback(None)
    assert not done.called
    works.cleanups[1].callback(None)
    with pytest.raises(ValueError, match="it failed"):
        await done
    assert list(works.ends) == [0, 1, 2]


@ensure_deferred
async def test_cancelling_all_waits_for_each() -> None:
    works = Works(5)
    done = Deferred.fromCoroutine(together(works.all, 2))
    done.cancel()
    assert works.cancelled == [0, 1]
    told: list[Failure] = []
    done.addBoth(told.append)
    works.cleanups[0].callback(None)
    assert not told
    works.cleanups[1].callback(None)
    (failure,) = told
    assert failure.check(CancelledError)


@ensure_deferred
async def test_what_fails_at_once_fails_at_once() -> None:
    async def bad() -> None:
        raise ValueError("at once")

    works = Works(2)
    done = Deferred.fromCoroutine(together([works.all[0], bad, works.all[1]], 3))
    assert works.cancelled == [0, 1]
    for cleanup in works.cleanups:
        cleanup.callback(None)
    with pytest.raises(ValueError, match="at once"):
        await done


@ensure_deferred
async def test_nothing_to_do() -> None:
    await together([], 3)
