"""The dashboard's door: launch tokens, and the browsers that are in."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from twisted.application.service import Service
from twisted.logger import Logger

from loopsy.core.dashboard import LAUNCH_S, Launches, Sessions
from loopsy.services.clock import now_ms
from loopsy.services.settings import Settings
from loopsy.services.storage import Storage
from loopsy.store.database import delete_fact, facts_below, set_fact
from loopsy.wire.dashboard import Launch

FACT = "dashboard.session."
NOTED_EVERY_S = 60.0
"""A session's use is written down at most so often: after a crash it is at most this much older than it was."""


class Dashboard(Service):
    """Who may come in through a browser."""

    name = "dashboard"
    log = Logger()

    def __init__(self, settings: Settings, storage: Storage, port: int) -> None:
        self.port = port
        self._storage = storage
        self._settings = settings
        self._own_key = settings.config.auth.api_key
        self._launches = Launches()
        held = {digest: float(at) for digest, at in facts_below(storage.reader, FACT).items()}
        self._sessions = Sessions(held, time.time())
        self._noted = dict(held)
        self._listeners: list[Callable[[], object]] = []
        settings.when_changed(self._key_changed)

    def when_left(self, listener: Callable[[], object]) -> None:
        """Call ``listener`` when a browser's session has ended: what it still has open is to be looked at."""
        self._listeners.append(listener)

    @property
    def cookie_name(self) -> str:
        """Browsers don't tell ports of a host apart, so the name does."""
        return f"loopsy-{self.port}"

    def launch(self) -> Launch:
        """A token that opens the dashboard once."""
        token = secrets.token_urlsafe(32)
        self._launches.add(token, time.monotonic())
        url = f"http://127.0.0.1:{self.port}/dashboard/enter#{token}"
        return Launch(url=url, expires_at=now_ms() + round(LAUNCH_S * 1000))

    async def enter(self, token: str) -> str:
        """A new session's cookie, for a launch token.

        :raises LaunchRefused: the token is wrong, used, or too old.
        """
        self._launches.use(token, time.monotonic())
        cookie, now = secrets.token_urlsafe(32), time.time()
        gone = self._sessions.add(cookie, now)
        held = self._sessions.use(cookie, now)
        assert held is not None
        self._noted[held] = now
        await self._storage.write(partial(_keep, held=held, at=now, gone=gone))
        return cookie

    def knows(self, cookie: str) -> bool:
        """Whether a cookie is good; it is then used."""
        now = time.time()
        held = self._sessions.use(cookie, now)
        if held is not None and now - self._noted.get(held, 0.0) > NOTED_EVERY_S:
            self._noted[held] = now
            self._write(partial(_keep, held=held, at=now, gone=()))
        return held is not None

    async def leave(self, cookie: str) -> None:
        """The session ends; for good when this returns."""
        held = self._sessions.end(cookie)
        if held is not None:
            self._noted.pop(held, None)
            await self._storage.write(partial(_drop, gone=(held,)))

    def left(self) -> None:
        """Who left has its answer."""
        for listener in self._listeners:
            listener()

    def _key_changed(self) -> None:
        key = self._settings.config.auth.api_key
        if key != self._own_key:
            self._own_key, self._launches = key, Launches()
            self._noted.clear()
            self._write(partial(_drop, gone=self._sessions.end_all()))

    def _write(self, operation: Any) -> None:
        done = self._storage.write(operation)
        done.addErrback(lambda failure: self.log.failure("a browser's session could not be written down", failure))


def _keep(db: Any, held: str, at: float, gone: tuple[str, ...]) -> None:
    set_fact(db, FACT + held, repr(at))
    _drop(db, gone)


def _drop(db: Any, gone: tuple[str, ...]) -> None:
    for held in gone:
        delete_fact(db, FACT + held)
