"""Declaring routes. A route can't be declared without saying who may call it.

    class ContextArea:
        routes = Routes()

        @routes.declare("GET", urls.CONTEXT_ENTRY, access=Scoped(Scope.CONTEXT), answers=Entry)
        def get(self, call: Call[None], key: str) -> Entry: ...

A function that needs to wait is ``async def``; one that doesn't is a plain function, which saves it a Deferred. Klein
holds the rules and calls the functions; ``loopsy.web.edge`` matches and answers (docs/decisions/003).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from attrs import define, field, frozen
from klein import Klein
from werkzeug.exceptions import MethodNotAllowed, NotFound
from werkzeug.routing.exceptions import NoMatch, RequestPath
from werkzeug.routing.matcher import StateMachineMatcher

from loopsy.core.principals import Access, Principal
from loopsy.core.rates import Category

if TYPE_CHECKING:
    from loopsy.web.request import EdgeRequest

Body = TypeVar("Body")
F = TypeVar("F", bound=Callable[..., Any])


class Raw:
    """``takes=Raw``: the function gets the body as it comes (a BodyStream), and starts before it is here."""


class Answered:
    """What a function returns when it has written (or will write) the answer itself."""


ANSWERED = Answered()
"""The only one needed."""


@frozen(kw_only=True)
class Route:
    """What is known of a route beside its function."""

    methods: tuple[str, ...]
    rule: str
    access: Access
    rate: Category | None
    takes: type | None
    answers: type | None
    summary: str
    status: int
    body_limit: int | None
    """Bytes of its JSON body, where it is less than elsewhere."""

    @property
    def endpoint(self) -> str:
        """Its name in the map."""
        return f"{','.join(self.methods)} {self.rule}"


@define(kw_only=True)
class Call(Generic[Body]):
    """One request, as a route's function sees it."""

    principal: Principal
    body: Body
    request: EdgeRequest
    noted: dict[str, Any] = field(factory=dict)
    """For the audit line: what was asked for."""

    def note(self, **what: Any) -> None:
        """Add to the audit line."""
        self.noted.update(what)

    def query(self, name: str) -> str | None:
        """A query parameter; the last one where it stands more than once."""
        return self.request.query(name)


class Routes:
    """The routes of one area."""

    def __init__(self) -> None:
        self.app = Klein()
        self.app.url_map.strict_slashes = self.app.url_map.merge_slashes = False
        self.declared: dict[str, Route] = {}

    def declare(
        self,
        method: str | Sequence[str],
        rule: str,
        *,
        access: Access,
        rate: Category | None = None,
        takes: type | None = None,
        answers: type | None = None,
        status: int = 200,
        body_limit: int | None = None,
    ) -> Callable[[F], F]:
        """Declare the function below as the answer to ``method`` at ``rule``."""

        def deco(function: F) -> F:
            route = Route(
                methods=(method,) if isinstance(method, str) else tuple(method),
                rule=rule,
                access=access,
                rate=rate,
                takes=takes,
                answers=answers,
                status=status,
                body_limit=body_limit,
                summary=(function.__doc__ or "").strip().splitlines()[0],
            )
            self.declared[route.endpoint] = route
            self.app.route(rule, methods=list(route.methods), endpoint=route.endpoint)(function)
            return function

        return deco


class Area(Protocol):
    """An object with routes."""

    routes: Routes


@frozen
class Bound:
    """A route and the Klein app, bound to its area, that calls its function."""

    route: Route
    app: Klein

    def __call__(self, call: Call[Any], parameters: dict[str, str]) -> Any:
        """Call the function: its value, or the Deferred that Klein makes of a coroutine."""
        return self.app.execute_endpoint(self.route.endpoint, call, **parameters)  # type: ignore[arg-type]


class Table:
    """Every route of every area."""

    def __init__(self, areas: Sequence[Area]) -> None:
        self._bound: dict[str, Bound] = {}
        # The rules as Klein has compiled them: a werkzeug Map of our own would compile each again.
        self._matcher = StateMachineMatcher(merge_slashes=False)
        for area in areas:
            app = area.routes.app.__get__(area, type(area))
            for rule in app.url_map.iter_rules():
                undeclared = rule.endpoint not in area.routes.declared
                if undeclared or rule.endpoint in self._bound:
                    raise ValueError(f"{rule.endpoint} is declared twice, or without its access")
                self._bound[rule.endpoint] = Bound(area.routes.declared[rule.endpoint], app)
                self._matcher.add(rule)
        self._matcher.update()

    def match(self, path: str, method: str) -> tuple[str, Mapping[str, str]]:
        """The endpoint for an address, and its parameters.

        :raises MethodNotAllowed: it takes others. :raises NotFound: there is none.
        """
        try:
            rule, parameters = self._matcher.match("", path, method, False)
        except NoMatch as error:
            if error.have_match_for:
                raise MethodNotAllowed(valid_methods=list(error.have_match_for)) from None
            raise NotFound from None
        except RequestPath:
            raise NotFound from None
        return str(rule.endpoint), parameters

    def __getitem__(self, endpoint: str) -> Bound:
        return self._bound[endpoint]

    def __iter__(self) -> Iterator[Route]:
        return (bound.route for bound in self._bound.values())
