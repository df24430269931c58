"""The dashboard's door as a service: what is written down, and what a new key ends."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from twisted.internet.defer import Deferred, succeed

from loopsy.core.dashboard import LAUNCH_S, SESSION_S, digest
from loopsy.errors import LaunchRefused
from loopsy.services import dashboard as services
from loopsy.services.dashboard import NOTED_EVERY_S, Dashboard

TIMES = SimpleNamespace(now=1_000_000.0)


class Storage:
    """Facts in memory."""

    def __init__(self) -> None:
        self.facts: dict[str, str] = {}
        self.writes = 0
        self.reader = self

    def write(self, operation: Callable[[Any], Any]) -> Deferred[Any]:
        self.writes += 1
        return succeed(operation(self))


class Settings:
    def __init__(self) -> None:
        self.config = SimpleNamespace(auth=SimpleNamespace(api_key="k1"))
        self.watchers: list[Callable[[], None]] = []

    def when_changed(self, watcher: Callable[[], None]) -> None:
        self.watchers.append(watcher)

    def change(self, key: str) -> None:
        self.config = SimpleNamespace(auth=SimpleNamespace(api_key=key))
        for watcher in self.watchers:
            watcher()


@pytest.fixture(autouse=True)
def _facts_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def below(storage: Storage, start: str) -> dict[str, str]:
        return {name[len(start) :]: value for name, value in storage.facts.items() if name.startswith(start)}

    monkeypatch.setattr(services, "facts_below", below)
    monkeypatch.setattr(services, "set_fact", lambda db, name, value: db.facts.update({name: value}))
    monkeypatch.setattr(services, "delete_fact", lambda db, name: db.facts.pop(name, None))
    clock = SimpleNamespace(time=lambda: TIMES.now, monotonic=lambda: TIMES.now)
    monkeypatch.setattr(services, "time", clock)


class Bed:
    def __init__(self) -> None:
        self.storage, self.settings = Storage(), Settings()
        self.door = self.restarted()

    def restarted(self) -> Dashboard:
        return Dashboard(self.settings, self.storage, 19532)  # type: ignore[arg-type]

    def token(self) -> str:
        return self.door.launch().url.partition("#")[2]

    async def entered(self) -> str:
        return await self.door.enter(self.token())


async def test_a_token_stands_behind_the_hash_and_opens_once_within_a_minute() -> None:
    bed = Bed()
    launch = bed.door.launch()
    address, _, token = launch.url.partition("#")
    assert address == "http://127.0.0.1:19532/dashboard/enter"
    assert token not in repr(launch)
    await bed.door.enter(token)
    with pytest.raises(LaunchRefused):
        await bed.door.enter(token)
    late = bed.token()
    TIMES.now += LAUNCH_S + 1
    with pytest.raises(LaunchRefused):
        await bed.door.enter(late)


async def test_only_the_hash_of_a_cookie_is_written_down_and_that_outlives_the_daemon() -> None:
    bed = Bed()
    cookie = await bed.entered()
    assert cookie not in repr(bed.storage.facts)
    assert digest(cookie) in repr(bed.storage.facts)
    again = bed.restarted()
    assert again.knows(cookie)
    assert not again.knows(cookie + "x")
    assert again.cookie_name == "loopsy-19532"


async def test_uses_are_written_down_once_a_minute() -> None:
    bed = Bed()
    cookie = await bed.entered()
    before = bed.storage.writes
    for _ in range(100):
        assert bed.door.knows(cookie)
    assert bed.storage.writes == before
    TIMES.now += NOTED_EVERY_S + 1
    for _ in range(100):
        assert bed.door.knows(cookie)
    assert bed.storage.writes == before + 1


async def test_one_that_is_not_used_for_half_a_day_is_over_also_for_the_next_daemon() -> None:
    bed = Bed()
    cookie = await bed.entered()
    TIMES.now += SESSION_S
    assert not bed.door.knows(cookie)
    assert not bed.restarted().knows(cookie)


async def test_leaving_ends_one_for_good() -> None:
    bed = Bed()
    mine, other = await bed.entered(), await bed.entered()
    await bed.door.leave(mine)
    await bed.door.leave("nobody's")
    assert [bed.door.knows(one) for one in (mine, other)] == [False, True]
    assert [bed.restarted().knows(one) for one in (mine, other)] == [False, True]


async def test_a_new_key_ends_all_and_another_change_none() -> None:
    bed = Bed()
    cookie = await bed.entered()
    bed.settings.change("k1")
    assert bed.door.knows(cookie)
    bed.settings.change("k2")
    assert not bed.door.knows(cookie)
    assert bed.storage.facts == {}
    assert not bed.restarted().knows(cookie)
