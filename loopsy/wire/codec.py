"""JSON on the wire ↔ frozen types: one cattrs converter, camelCase outside, snake_case inside.

Unknown fields are ignored and wrong types refused (cattrs alone would turn 5 into "5"); a refusal names the field.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin

import attrs
from cattrs import Converter, transform_error
from cattrs.gen import make_dict_structure_fn, make_dict_unstructure_fn, override
from cattrs.v import format_exception

from loopsy.errors import InvalidRequest

T = TypeVar("T")


def camel(name: str) -> str:
    """``created_at`` → ``createdAt``."""
    head, *rest = name.split("_")
    return head + "".join(part.capitalize() for part in rest)


def plain(kind: type) -> Callable[[Any, Any], Any]:
    """A structure hook that takes just ``kind`` (a bool is no number, an int is a float)."""
    takes: tuple[type, ...] = (int, float) if kind is float else (kind,)
    words = {str: "a string", int: "a whole number", float: "a number", bool: "true or false"}[kind]

    def structure(value: Any, _: Any) -> Any:
        if not isinstance(value, takes) or (isinstance(value, bool) and kind is not bool):
            raise ValueError(f"must be {words}")
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError("must be a finite number")
        return value

    return structure


def structure_optional(kind: Any, _: Any) -> Any:
    """``X | None``: a missing value and null are the same."""
    (inner,) = [arg for arg in get_args(kind) if arg is not type(None)]
    return lambda value, _: None if value is None else _converter.structure(value, inner)


def is_optional(kind: Any) -> bool:
    """Whether ``kind`` is written ``X | None``."""
    return get_origin(kind) in (Union, UnionType) and type(None) in get_args(kind) and len(get_args(kind)) == 2


def structure_class(cls: type) -> Callable[..., Any]:
    """Reads a frozen type from camelCase."""
    renames = {field.name: override(rename=camel(field.name)) for field in attrs.fields(cls)}
    inner = make_dict_structure_fn(cls, _converter, **renames)  # type: ignore[arg-type]

    def structure(value: Any, kind: Any) -> Any:
        if not isinstance(value, dict):
            raise ValueError("must be an object")
        return inner(value, kind)

    return structure


def may_be_left_out(field: attrs.Attribute[Any]) -> bool:
    """Whether a None is left out: not where the wire has always shown the null."""
    return field.default is None and not field.metadata.get("null")


def unstructure_class(cls: type) -> Callable[..., Any]:
    """Writes a frozen type in camelCase, leaving out what is None."""
    renames = {
        field.name: override(rename=camel(field.name), omit_if_default=may_be_left_out(field))
        for field in attrs.fields(cls)
    }
    return make_dict_unstructure_fn(cls, _converter, **renames)  # type: ignore[arg-type]


def structure_list(value: Any, kind: Any) -> Any:
    """``tuple[X, ...]`` from a JSON array only (cattrs would take a string as a list of characters)."""
    if not isinstance(value, list):
        raise ValueError("must be a list")
    inner = get_args(kind)[0]
    return tuple(_converter.structure(item, inner) for item in value)


def structure_map(value: Any, kind: Any) -> Any:
    """``dict[str, X]`` from a JSON object only."""
    if not isinstance(value, dict):
        raise ValueError("must be an object")
    inner = get_args(kind)[1]
    return {key: _converter.structure(item, inner) for key, item in value.items()}


_converter = Converter(detailed_validation=True)
for _kind in (str, int, float, bool):
    _converter.register_structure_hook(_kind, plain(_kind))
_converter.register_structure_hook_func(lambda t: get_origin(t) is tuple, structure_list)
_converter.register_structure_hook_func(lambda t: get_origin(t) is dict, structure_map)
_converter.register_structure_hook_factory(is_optional, lambda kind: structure_optional(kind, None))
_converter.register_structure_hook_factory(attrs.has, structure_class)
_converter.register_unstructure_hook_factory(attrs.has, unstructure_class)


def parse(kind: type[T], value: object) -> T:
    """``value`` (parsed JSON) as a ``kind``.

    :raises InvalidRequest: names each field that is missing or wrong.
    """
    try:
        return _converter.structure(value, kind)
    except Exception as error:
        faults = transform_error(error, path="", format_exception=describe)
        raise InvalidRequest("; ".join(fault.replace(" @ .", " @ ") for fault in faults)) from None


def describe(error: BaseException, kind: type | None) -> str:
    """One fault in words; the path is put behind it by cattrs."""
    if isinstance(error, KeyError):
        return "a field is missing"
    if isinstance(error, ValueError):
        return str(error)
    return format_exception(error, kind)


def parse_bytes(kind: type[T], body: bytes) -> T:
    """The JSON text ``body`` as a ``kind``.

    :raises InvalidRequest: the text is not UTF-8 JSON (says where), or not of this type (names the field).
    """
    return parse(kind, read_json(body))


def read_json(body: bytes) -> object:
    """Parsed JSON; numbers that JSON does not have (NaN, Infinity) are refused, as are surrogates that UTF-8 can't hold.

    :raises InvalidRequest: says what is wrong and where.
    """
    try:
        text = body.decode("utf-8")
        value = json.loads(text, parse_constant=refuse_constant)
        if "\\ud" in text or "\\uD" in text:
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"the body is not UTF-8 (byte {error.start})") from None
    except UnicodeEncodeError:
        raise InvalidRequest("the body holds half a character (a lone \\ud800–\\udfff)") from None
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"the body is not JSON: {error}") from None
    return value


def refuse_constant(name: str) -> object:
    """For json.loads: JSON has no NaN."""
    raise ValueError(f"{name} is not a JSON number")


def plain_value(value: object) -> Any:
    """A frozen type (or a list or dict of them) as what json.dumps takes."""
    return _converter.unstructure(value)


def dump(value: object) -> bytes:
    """A frozen type (or plain value) as UTF-8 JSON."""
    return json.dumps(_converter.unstructure(value), ensure_ascii=False, separators=(",", ":")).encode("utf-8")
