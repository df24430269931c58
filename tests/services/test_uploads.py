"""Uploads: what a crash may leave."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater

from loopsy.config import Config
from loopsy.core.principals import Local
from loopsy.core.transfer import Described
from loopsy.services.settings import Settings
from loopsy.services.transfer import Transfer
from loopsy.services.uploads import Uploads
from loopsy.store.files import UNNAMED, is_part
from loopsy.store.layout import Layout

ensure_deferred = pytest_twisted.ensureDeferred


class Held:
    """A storage whose writes wait until they are let go."""

    def __init__(self) -> None:
        self.waiting: list[Deferred[None]] = []

    def write(self, _: Any) -> Deferred[None]:
        self.waiting.append(Deferred())
        return self.waiting[-1]


@pytest_twisted.async_yield_fixture
async def transfer(tmp_path: Path) -> AsyncIterator[Transfer]:
    layout = Layout(tmp_path / "data")
    layout.make()
    made = Transfer(reactor, Settings(layout, Config()))
    made.startService()
    yield made
    made.stopService()


@pytest.mark.skipif(UNNAMED is None, reason="the system has no files without a name")
@ensure_deferred
async def test_a_part_has_a_name_only_once_a_record_of_it_is_on_disk(transfer: Transfer, tmp_path: Path) -> None:
    storage, there = Held(), tmp_path / "there"
    there.mkdir()
    uploads = Uploads(reactor, storage, transfer)  # type: ignore[arg-type]
    described = Described(path=str(there / "f"))
    begun = Deferred.fromCoroutine(uploads.create(Local(), described, 10))
    await some_turns(lambda: bool(storage.waiting))
    assert os.listdir(there) == []
    storage.waiting[0].callback(None)
    upload, _, _ = await begun
    assert os.listdir(there) == [upload.part]
    assert is_part(upload.part)

    broken = Deferred.fromCoroutine(uploads.create(Local(), Described(path=str(there / "g")), 10))
    await some_turns(lambda: len(storage.waiting) == 2)
    storage.waiting[1].errback(CancelledError())
    with pytest.raises(CancelledError):
        await broken
    assert os.listdir(there) == [upload.part]


async def some_turns(over: Any) -> None:
    while not over():
        await deferLater(reactor, 0.01)  # type: ignore[arg-type]
