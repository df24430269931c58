"""From a request's head to a route's answer: match, identify, authorise, count, read the body, call, answer, audit.

All that can be decided from the head is decided before the body is read, in ``admit``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, MutableMapping
from urllib.parse import unquote_to_bytes

from attrs import frozen
from twisted.logger import Logger
from werkzeug.exceptions import MethodNotAllowed, NotFound

from loopsy.core import hosts, principals
from loopsy.core.dashboard import cookie_of
from loopsy.core.metrics import Tally
from loopsy.core.principals import LOCAL, NEARBY, PeerPrincipal, Principal
from loopsy.core.rates import Category, Rates
from loopsy.errors import InvalidRequest, UnknownRoute, WrongContentType, WrongMethod
from loopsy.services.audit import Records
from loopsy.services.clock import now_ms
from loopsy.services.dashboard import Dashboard
from loopsy.services.settings import Settings
from loopsy.web.routes import Bound, Raw, Table

MATCHES = 2048
"""Remembered matches of (method, path): a client asks the same few again and again."""
MAX_PATH = 8192


@frozen
class Match:
    """A route and its parameters."""

    bound: Bound
    parameters: dict[str, str]


@frozen
class Admission:
    """A request whose head was found good."""

    match: Match
    principal: Principal


class Edge:
    """Decides over requests. One for the daemon."""

    log = Logger()

    def __init__(
        self,
        table: Table,
        settings: Settings,
        records: Records,
        names: frozenset[str] = frozenset(),
        last_used: MutableMapping[str, int] | None = None,
        first_use: Callable[[str], object] = lambda _: None,
        door: Dashboard | None = None,
        tally: Tally | None = None,
    ) -> None:
        """``names``: what this machine is called; ``last_used``: when each peer's key was presented, for us to fill;
        ``first_use``: is told when a peer presents a key that waited for its first use;
        ``door``: knows cookies; ``tally``: counts."""
        self.table = table
        self.records = records
        self.tally = tally or Tally()
        self._settings = settings
        self._rates = Rates()
        self._matches: dict[tuple[bytes, bytes], Match] = {}
        self._hosts: set[bytes] = set()
        self._names = names
        self._first_use = first_use
        self._door = door
        self._last_used = {} if last_used is None else last_used

    def identify(self, authorization: bytes | None) -> Principal:
        """Who calls.

        :raises Unauthenticated: :raises Forbidden:
        """
        principal = self._settings.keyring.identify(authorization)
        if isinstance(principal, PeerPrincipal):
            self._last_used[principal.name] = now_ms()
            if principal.is_pending:
                self._first_use(principal.name)
        return principal

    def check_host(self, host: bytes | None) -> None:
        """The request is meant for this machine: a name that an attacker made point here is not ours.

        :raises Misdirected: it names another.
        """
        if host is not None and host not in self._hosts:
            hosts.check(host.decode("latin-1"), self._names)
            if len(self._hosts) < MATCHES:
                self._hosts.add(host)

    def by_cookie(self, header: str) -> Principal:
        """Who calls from a browser: the dashboard's cookie is the own key."""
        cookie = None if self._door is None else cookie_of(header, self._door.cookie_name)
        return LOCAL if cookie is not None and self._door is not None and self._door.knows(cookie) else NEARBY

    def admit(
        self, method: bytes, path: bytes, principal: Principal, content_type: Callable[[], bytes | None]
    ) -> Admission:
        """Find the route and let the caller in.

        :raises UnknownRoute: :raises WrongMethod: :raises Unauthenticated: :raises Forbidden: :raises RateLimited:
        :raises WrongContentType: :raises InvalidRequest:
        """
        try:
            match = self._match(method, path)
        except InvalidRequest:
            principals.check(principal, principals.AnyKey())  # a stranger learns nothing of what there is
            raise
        route = match.bound.route
        principals.check(principal, route.access)
        if route.rate is not None:
            self.count(principal, route.rate)
        if route.takes is not None and route.takes is not Raw:
            check_json(content_type())
        return Admission(match, principal)

    def count(self, principal: Principal, category: Category) -> None:
        """Count one request.

        :raises RateLimited: it is one too many.
        """
        self._rates.take(principal, category, self._settings.config.rate_limits, time.monotonic())

    def _match(self, method: bytes, path: bytes) -> Match:
        found = self._matches.get((method, path))
        if found is None:
            found = self._look_up(method, path)
            if len(self._matches) >= MATCHES:
                self._matches.clear()
            self._matches[method, path] = found
        return found

    def _look_up(self, method: bytes, path: bytes) -> Match:
        if len(path) > MAX_PATH:
            raise InvalidRequest(f"the path is longer than {MAX_PATH} bytes")
        try:
            endpoint, raw = self.table.match(path.decode("ascii"), method.decode("ascii"))
        except MethodNotAllowed as error:
            methods = ", ".join(sorted(error.valid_methods or ()))
            raise WrongMethod(f"this address takes {methods}", details={"allow": methods}) from None
        except (NotFound, UnicodeDecodeError):
            raise UnknownRoute("there is nothing at this address", hint="see /api/v1/openapi.json") from None
        return Match(self.table[endpoint], {name: decode(name, value) for name, value in raw.items()})


def decode(name: str, value: str) -> str:
    """A parameter as text; ``rest`` is forwarded as it is.

    :raises InvalidRequest: it is not UTF-8.
    """
    if name == "rest":
        return value
    try:
        return unquote_to_bytes(value).decode("utf-8")
    except UnicodeDecodeError:
        raise InvalidRequest(f"{name} in the path is not UTF-8") from None


def check_json(content_type: bytes | None) -> None:
    """The body says that it is JSON: a browser can't send that across sites without asking first.

    :raises WrongContentType: it says something else, or nothing.
    """
    if content_type is None or content_type.split(b";")[0].strip().lower() != b"application/json":
        raise WrongContentType("the body must be JSON (content-type: application/json)")
