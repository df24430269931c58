"""No route without its access: not by a slip, and not behind declare()'s back."""

from __future__ import annotations

import typing
from types import SimpleNamespace
from typing import Any

import pytest

from loopsy.core import principals
from loopsy.core.principals import STRANGER, Anyone, LocalOnly
from loopsy.errors import Unauthenticated
from loopsy.web.listener import table
from loopsy.web.routes import Route, Routes, Table
from loopsy.wire import urls

OPEN = {urls.HEALTH, urls.OPENAPI}
JOINING = {urls.PAIR_INITIATE, urls.PAIR_MESSAGES}
"""The joiner's half of pairing: open, and refused unless the user here has just made an invite code."""
ROUTES: tuple[Route, ...] = tuple(table(typing.cast("Any", SimpleNamespace())))


def test_a_route_without_access_cannot_be_declared() -> None:
    with pytest.raises(TypeError, match="access"):
        Routes().declare("GET", "/open")  # type: ignore[call-arg]


def area_with(routes_: Routes) -> Any:
    class Area:
        routes = routes_

    return Area()


def test_a_rule_put_on_the_app_behind_its_back_is_refused() -> None:
    routes = Routes()

    @routes.declare("GET", "/good", access=LocalOnly())
    def good(self: Any, call: Any) -> None:
        """Good."""

    assert [route.rule for route in Table([area_with(routes)])] == ["/good"]

    @routes.app.route("/bad")
    def bad(self: Any, request: Any) -> bytes:
        return b""

    with pytest.raises(ValueError, match="without its access"):
        Table([area_with(routes)])


def test_a_rule_cannot_be_declared_in_two_areas() -> None:
    areas = []
    for _ in range(2):
        routes = Routes()

        @routes.declare("GET", "/same", access=Anyone())
        def same(self: Any, call: Any) -> None:
            """The same."""

        areas.append(area_with(routes))
    with pytest.raises(ValueError, match="GET /same is declared twice"):
        Table(areas)


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.endpoint)
def test_every_route_says_who_may_call_it(route: Route) -> None:
    assert isinstance(route.access, typing.get_args(principals.Access))
    if route.rule in OPEN | JOINING:
        assert route.access == Anyone()
        return
    with pytest.raises(Unauthenticated):
        principals.check(STRANGER, route.access)


def test_the_open_ones_are_there() -> None:
    assert {route.rule for route in ROUTES if route.access == Anyone()} == OPEN | JOINING
    assert len(ROUTES) > 15
