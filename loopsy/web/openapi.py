"""``/api/v1/openapi.json``: the REST interface described, made from the route table and the wire types themselves."""

from __future__ import annotations

import re
from collections.abc import Sequence
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import attrs

from loopsy._version import VERSION
from loopsy.core.principals import Anyone, LocalOnly, Scoped
from loopsy.web.routes import ANSWERED, Answered, Area, Call, Raw, Route, Routes
from loopsy.wire import codec, urls
from loopsy.wire.codec import camel

PLAIN = {str: "string", int: "integer", float: "number", bool: "boolean"}
ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["code", "message"],
            "properties": {
                "code": {"type": "integer"},
                "message": {"type": "string"},
                "details": {"type": "object"},
            },
        }
    },
}


class OpenApiArea:
    """The description."""

    routes = Routes()

    def __init__(self, areas: Sequence[Area]) -> None:
        self._areas = areas
        self._text: bytes | None = None

    @routes.declare("GET", urls.OPENAPI, access=Anyone())
    def openapi(self, call: Call[None]) -> Answered:
        """This description."""
        if self._text is None:
            declared = [route for area in (*self._areas, self) for route in area.routes.declared.values()]
            self._text = codec.dump(describe(declared))
        call.request.send_json(200, self._text)
        return ANSWERED


def describe(routes: Sequence[Route]) -> dict[str, Any]:
    """An OpenAPI 3.1 document."""
    schemas: dict[str, Any] = {"Error": ERROR}
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        path = re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", route.rule)
        for method in route.methods:
            paths.setdefault(path, {})[method.lower()] = _operation(route, schemas)
    return {
        "openapi": "3.1.0",
        "info": {"title": "loopsy", "version": VERSION, "license": {"name": "Apache-2.0"}},
        "paths": paths,
        "components": {"schemas": schemas, "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}}},
    }


def _operation(route: Route, schemas: dict[str, Any]) -> dict[str, Any]:
    answer: dict[str, Any] = {"description": "done"}
    if route.answers is not None:
        answer["content"] = {"application/json": {"schema": schema(route.answers, schemas)}}
    error = {"description": "refused", "content": {"application/json": {"schema": _reference("Error")}}}
    operation: dict[str, Any] = {
        "summary": route.summary,
        "description": f"Who may call it: {_who(route)}.",
        "responses": {str(route.status): answer, "default": error},
        "security": [] if isinstance(route.access, Anyone) else [{"key": []}],
        "parameters": [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
            for name in re.findall(r"<(?:\w+:)?(\w+)>", route.rule)
        ],
    }
    if route.takes is not None and route.takes is not Raw:
        content = {"application/json": {"schema": schema(route.takes, schemas)}}
        operation["requestBody"] = {"required": True, "content": content}
    return operation


def _who(route: Route) -> str:
    match route.access:
        case Anyone():
            return "anyone"
        case LocalOnly():
            return "this machine's own key"
        case Scoped(scope):
            return f"this machine's own key, or a peer with the scope {scope.value}"
        case _:
            return "any known key"


def _reference(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def schema(kind: Any, schemas: dict[str, Any]) -> dict[str, Any]:
    """The JSON schema of a wire type; classes are put into ``schemas`` and referred to."""
    if kind is Any:
        return {}  # read item by item
    if kind in PLAIN:
        return {"type": PLAIN[kind]}
    if get_origin(kind) in (Union, UnionType):
        return {"anyOf": [schema(arg, schemas) for arg in get_args(kind)]}
    if kind is NoneType:
        return {"type": "null"}
    if get_origin(kind) is tuple:
        return {"type": "array", "items": schema(get_args(kind)[0], schemas)}
    if get_origin(kind) is dict:
        return {"type": "object", "additionalProperties": schema(get_args(kind)[1], schemas)}
    if kind.__name__ not in schemas:
        schemas[kind.__name__] = {}  # a place for types that refer to themselves
        schemas[kind.__name__] = _object(kind, schemas)
    return _reference(kind.__name__)


def _object(kind: type, schemas: dict[str, Any]) -> dict[str, Any]:
    hints = get_type_hints(kind)
    fields = attrs.fields(kind)
    return {
        "type": "object",
        "properties": {camel(field.name): schema(hints[field.name], schemas) for field in fields},
        "required": [camel(field.name) for field in fields if field.default is attrs.NOTHING],
    }
