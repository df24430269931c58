"""The daemon's reactor: what Twisted's does, without a log context for each event."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest
from twisted.python import log

from loopsy.reactor import Reactor


class Descriptor:
    """One end of a pair; does what it is told."""

    def __init__(self, fd: int, *results: Any) -> None:
        self._fd, self._results = fd, list(results)
        self.calls: list[str] = []
        self.lost: Any = None

    def fileno(self) -> int:
        return self._fd

    def logPrefix(self) -> str:
        self.calls.append("log prefix")
        return "one"

    def _act(self, name: str) -> Any:
        self.calls.append(name)
        result = self._results.pop(0) if self._results else None
        if isinstance(result, BaseException):
            raise result
        return result

    def doRead(self) -> Any:
        return self._act("read")

    def doWrite(self) -> Any:
        return self._act("write")

    def connectionLost(self, reason: Any) -> None:
        self.lost = reason.value


@pytest.fixture
def reactor(ends: Any) -> Iterator[Any]:
    """One of its own, beside the tests'."""
    made: Any = Reactor()
    yield made
    made.removeAll()
    for one in made._internalReaders:
        one.connectionLost(None)
    made._poller.close()


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    """A pair that is connected; the second has something to read."""
    a, b = socket.socketpair()
    a.send(b"k")
    yield a, b
    a.close()
    b.close()


@pytest.fixture
def logged() -> Iterator[list[Any]]:
    """The failures that were logged."""
    found: list[Any] = []

    def keep(event: Any) -> None:
        if event.get("isError"):
            found.append(event["failure"].value)

    log.addObserver(keep)
    yield found
    log.removeObserver(keep)


def test_who_can_be_read_is_read(reactor: Any, ends: Any) -> None:
    one = Descriptor(ends[1].fileno())
    reactor.addReader(one)
    reactor.doIteration(0)
    assert (one.calls, one.lost) == (["read"], None)
    reactor.removeReader(one)
    reactor.doIteration(0)
    assert one.calls == ["read"]


def test_who_can_be_written_to_writes_after_reading(reactor: Any, ends: Any) -> None:
    one = Descriptor(ends[1].fileno())
    reactor.addReader(one)
    reactor.addWriter(one)
    reactor.doIteration(0)
    assert one.calls == ["log prefix", "read", "write"]


def test_the_end_of_one_is_its_end(reactor: Any, ends: Any) -> None:
    reason = ConnectionResetError("gone")
    one = Descriptor(ends[1].fileno())
    one.doRead = lambda: reason  # type: ignore[method-assign]
    reactor.addReader(one)
    reactor.doIteration(0)
    assert one.lost is reason
    assert one not in reactor.getReaders()


@pytest.mark.parametrize("error", [ValueError("its own fault"), SystemExit(3)])
def test_one_that_fails_is_logged_and_dropped_and_the_others_go_on(
    reactor: Any, ends: Any, logged: list[Any], error: BaseException
) -> None:
    ends[1].send(b"k")
    bad, good = Descriptor(ends[0].fileno(), error), Descriptor(ends[1].fileno())
    reactor.addReader(bad)
    reactor.addReader(good)
    reactor.doIteration(0)
    assert (bad.calls, bad.lost, good.calls) == (["read", "log prefix"], error, ["read"])
    assert logged == [error]
    assert reactor.getReaders().count(bad) == 0


def test_a_failing_farewell_is_logged(reactor: Any, ends: Any, logged: list[Any]) -> None:
    one = Descriptor(ends[1].fileno(), ValueError("first"))
    second = KeyError("second")

    def farewell(reason: Any) -> None:
        raise second

    one.connectionLost = farewell  # type: ignore[method-assign]
    reactor.addReader(one)
    reactor.doIteration(0)
    assert logged[-1] is second
