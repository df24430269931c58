"""Launch tokens and the sessions of browsers: who may come in, and for how long. Only hashes are held."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from hmac import compare_digest

from loopsy.errors import Forbidden, LaunchRefused

LAUNCH_S = 60.0
SESSION_S = 12 * 3600.0
"""From its last use."""
SESSIONS = 20
"""Browsers of one person; the least recently used goes."""
LAUNCHES = 20
"""Tokens that wait to be used; the oldest goes."""
SAFE = frozenset((b"GET", b"HEAD"))


def digest(secret: str) -> str:
    """What is held of a token or cookie."""
    return sha256(secret.encode()).hexdigest()


class Launches:
    """Tokens that open the dashboard once, by digest; times in seconds of any one clock."""

    def __init__(self) -> None:
        self._until: dict[str, float] = {}

    def add(self, token: str, now: float) -> None:
        """A new one."""
        self._until[digest(token)] = now + LAUNCH_S
        while len(self._until) > LAUNCHES:
            del self._until[next(iter(self._until))]

    def use(self, token: str, now: float) -> None:
        """It is used up.

        :raises LaunchRefused: it is wrong, used, or too old.
        """
        until = self._until.pop(digest(token), None)
        if until is None or until < now:
            raise LaunchRefused(hint="run loopsy dashboard again")


class Sessions:
    """Cookies that are good, by digest, with the time of their last use (seconds since the epoch)."""

    def __init__(self, used: Mapping[str, float], now: float) -> None:
        self._used = {held: at for held, at in used.items() if now - at < SESSION_S}

    def add(self, cookie: str, now: float) -> tuple[str, ...]:
        """A new one; the digests of those that go for it."""
        self._used[digest(cookie)] = now
        gone = sorted(self._used, key=lambda held: self._used[held])[:-SESSIONS]
        for held in gone:
            del self._used[held]
        return tuple(gone)

    def use(self, cookie: str, now: float) -> str | None:
        """The digest, if the cookie is good at ``now``. Each is compared, in constant time."""
        given, found = digest(cookie), None
        for held in self._used:
            if compare_digest(held, given):
                found = held
        if found is None or not -SESSION_S < now - self._used[found] < SESSION_S:
            return None
        self._used[found] = now
        return found

    def end(self, cookie: str) -> str | None:
        """It is good no longer; its digest, if it was."""
        held = digest(cookie)
        return held if self._used.pop(held, None) is not None else None

    def end_all(self) -> tuple[str, ...]:
        """None is good any longer; what there was."""
        gone = tuple(self._used)
        self._used.clear()
        return gone


def check_page(method: bytes, site: bytes | None, origin: str | None, referer: str | None, own: str) -> None:
    """A cookie counts only where our own page asks. ``own`` is our origin, as the Host header names us.

    :raises Forbidden: another page asks, or it can't be told.
    """
    if site is not None and site not in (b"same-origin", b"none"):
        raise Forbidden("a page of another site can't ask this daemon")
    if origin is not None:
        trusted = origin == own
    elif method in SAFE:
        trusted = site is not None or (referer or "").startswith(f"{own}/")
    else:
        trusted = False
    if not trusted:
        raise Forbidden("a cookie counts only from the dashboard's own page")


def cookie_of(header: str, name: str) -> str | None:
    """A cookie's value in a Cookie header; None where there is none, or more than one."""
    found = [value for key, _, value in (part.strip().partition("=") for part in header.split(";")) if key == name]
    return found[0] if len(found) == 1 and found[0] else None
