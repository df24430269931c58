"""JSON on the wire ↔ frozen types: one cattrs converter, camelCase outside, snake_case inside.

Unknown fields are ignored and wrong types refused (cattrs alone would turn 5 into "5"); a refusal names the field.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin

import attrs
from cattrs import ClassValidationError, Converter
from cattrs.gen import make_dict_structure_fn, make_dict_unstructure_fn, override

from loopsy.errors import InvalidRequest
from loopsy.wire.checks import Refused

T = TypeVar("T")
SURROGATE = re.compile(r"[\ud800-\udfff]")


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
    inner: Callable[..., Any] = make_dict_structure_fn(cls, _converter, **renames)  # type: ignore[arg-type]

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
    return tuple(_inside(f"[{at}]", item, inner) for at, item in enumerate(value))


def structure_map(value: Any, kind: Any) -> Any:
    """``dict[str, X]`` from a JSON object only."""
    if not isinstance(value, dict):
        raise ValueError("must be an object")
    inner = get_args(kind)[1]
    return {key: _inside(f".{key[:60]}", item, inner) for key, item in value.items()}


class Inside(ValueError):
    """What is wrong lies in an item of a list or map."""

    def __init__(self, step: str, cause: Exception) -> None:
        super().__init__(str(cause))
        self.step, self.cause = step, cause


def _inside(step: str, item: Any, kind: Any) -> Any:
    try:
        return _converter.structure(item, kind)
    except Exception as error:
        raise Inside(step, error) from None


def is_list(kind: Any) -> bool:
    """Whether ``kind`` is written ``tuple[X, ...]``."""
    return get_origin(kind) is tuple


def is_map(kind: Any) -> bool:
    """Whether ``kind`` is written ``dict[str, X]``."""
    return get_origin(kind) is dict


_converter = Converter(detailed_validation=True)
for _kind in (str, int, float, bool):
    _converter.register_structure_hook(_kind, plain(_kind))
_converter.register_structure_hook_func(is_list, structure_list)
_converter.register_structure_hook_func(is_map, structure_map)
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
        raise InvalidRequest("; ".join(faults(error))) from None


def faults(error: BaseException, path: str = "") -> Iterator[str]:
    """Each fault in words behind the path of its field: ``entries[0].fromNodeId must be a string``."""
    if isinstance(error, ClassValidationError):
        named, others = error.group_exceptions()
        for inner, note in named:
            yield from faults(inner, f"{path}.{camel(note.name)}")
        for inner in others:
            yield from faults(inner, path)
    elif isinstance(error, Inside):
        yield from faults(error.cause, path + error.step)
    elif isinstance(error, Refused):
        yield f"{path}.{camel(error.field)} {error}".removeprefix(".")
    else:
        yield f"{path.removeprefix('.') or 'the body'} {'is missing' if isinstance(error, KeyError) else error}"


def parse_bytes(kind: type[T], body: bytes) -> T:
    """The JSON text ``body`` as a ``kind``.

    :raises InvalidRequest: the text is not UTF-8 JSON (says where), or not of this type (names the field).
    """
    return parse(kind, read_json(body))


def read_json(body: bytes) -> object:
    """Parsed JSON; numbers that JSON does not have (NaN, Infinity) are refused, as are the surrogates UTF-8 can't hold.

    :raises InvalidRequest: says what is wrong and where.
    """
    try:
        text = body.decode("utf-8")
        value: object = json.loads(text, parse_constant=refuse_constant)
        if "\\ud" in text or "\\uD" in text:
            for path in half_characters(value):
                raise InvalidRequest(f"{path} holds half a character (a lone \\ud800–\\udfff)")
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"the body is not UTF-8 (byte {error.start})") from None
    except RecursionError:
        raise InvalidRequest("the body is nested too deeply") from None
    except ValueError as error:
        raise InvalidRequest(f"the body is not JSON: {str(error).partition(';')[0]}") from None
    return value


def half_characters(value: object, path: str = "") -> Iterator[str]:
    """The paths of strings (and of maps with names) that UTF-8 can't hold."""
    if isinstance(value, str):
        if SURROGATE.search(value):
            yield path.removeprefix(".") or "the body"
    elif isinstance(value, list):
        for at, item in enumerate(value):
            yield from half_characters(item, f"{path}[{at}]")
    elif isinstance(value, dict):
        if any(map(SURROGATE.search, value)):
            yield f"a name in {path.removeprefix('.') or 'the body'}"
        for name, item in value.items():
            yield from half_characters(item, f"{path}.{name[:60]}")


def refuse_constant(name: str) -> object:
    """For json.loads: JSON has no NaN."""
    raise ValueError(f"{name} is not a JSON number")


encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
"""Plain value → compact JSON text. One encoder: json.dumps would make a new one at each call."""


def plain_value(value: object) -> Any:
    """A frozen type (or a list or dict of them) as what json.dumps takes."""
    return _converter.unstructure(value)


def dump(value: object) -> bytes:
    """A frozen type (or plain value) as UTF-8 JSON."""
    return encode(_converter.unstructure(value)).encode("utf-8")
