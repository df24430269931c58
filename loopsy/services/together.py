"""Several pieces of work, a few of them at once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable

from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.python.failure import Failure


async def together(works: Iterable[Callable[[], Awaitable[None]]], at_once: int) -> None:
    """Do all of it; returns, or fails, when nothing of it is under way any more.

    :raises Exception: of the first that failed; what was under way beside it was cancelled, the rest not begun.
    """
    waiting, failures = iter(works), list[Failure]()

    async def line() -> None:
        while not failures and (work := next(waiting, None)) is not None:
            await work()

    lines = [Deferred.fromCoroutine(line()) for _ in range(at_once)]

    def failed(failure: Failure) -> None:
        failures.append(failure)
        if len(failures) == 1 and not failure.check(CancelledError):  # else all were cancelled; twice cuts cleaning up
            for other in lines:
                other.cancel()

    for one in lines:
        one.addErrback(failed)
    await DeferredList(lines)
    if failures:
        failures[0].raiseException()
