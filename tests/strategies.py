"""Hypothesis strategies for what goes over the wire."""

from __future__ import annotations

from types import ModuleType, UnionType
from typing import Any, get_args, get_origin

import attrs
from hypothesis import strategies as st

from loopsy.core.peers import Record
from loopsy.wire import context, execution, peers, status
from loopsy.wire.peers import LABEL_SHAPE

MODULES: tuple[ModuleType, ...] = (context, execution, peers, status)
WIRE_TYPES: list[type] = sorted(
    {kind for m in MODULES for kind in vars(m).values() if isinstance(kind, type) and attrs.has(kind)} | {Record},
    key=lambda kind: kind.__name__,
)
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=40)
FINITE = st.floats(allow_nan=False, allow_infinity=False)
PLAIN: dict[Any, st.SearchStrategy[Any]] = {
    str: TEXT,
    int: st.integers(0, 2**53),
    float: st.one_of(FINITE, st.integers(-(2**53), 2**53)),
    bool: st.booleans(),
}
NARROW: dict[tuple[str, str], st.SearchStrategy[Any]] = {
    ("ExecuteRequest", "timeout"): st.none() | st.floats(1, 1000) | st.integers(1, 2_592_000_000),
    ("ExecuteRequest", "encoding"): st.sampled_from([None, "utf-8", "base64"]),
    ("ExecuteRequest", "env"): st.none() | st.dictionaries(TEXT.filter(lambda t: "=" not in t), TEXT, max_size=3),
    ("SetLabels", "labels"): st.lists(st.from_regex(LABEL_SHAPE, fullmatch=True), max_size=3).map(tuple),
    ("PutEntry", "ttl"): st.none() | st.floats(0.001, 1e8) | st.integers(1, 315_360_000),
    **{(kind, "port"): st.integers(1, 65535) for kind in ("NodeIdentity", "AddPeer")},
    **{(kind, "status"): st.sampled_from(["online", "offline", "unknown"]) for kind in ("Peer", "Record")},
}


def of_type(kind: Any) -> st.SearchStrategy[Any]:
    """Values of a field's type."""
    if kind in PLAIN:
        return PLAIN[kind]
    origin, args = get_origin(kind), get_args(kind)
    if origin is tuple:
        return st.lists(of_type(args[0]), max_size=3).map(tuple)
    if origin is dict:
        return st.dictionaries(TEXT, of_type(args[1]), max_size=3)
    if origin is UnionType:
        return st.one_of(*(st.none() if arg is type(None) else of_type(arg) for arg in args))
    return values(kind)


def values(kind: type) -> st.SearchStrategy[Any]:
    """Values of a wire type."""
    attrs.resolve_types(kind)
    fields = attrs.fields(kind)
    return st.builds(kind, **{f.name: NARROW.get((kind.__name__, f.name), of_type(f.type)) for f in fields})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | FINITE | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@st.composite
def cut(draw: st.DrawFn, data: bytes) -> list[bytes]:
    """``data`` in pieces, some perhaps empty."""
    places = sorted(draw(st.lists(st.integers(0, len(data)), max_size=8)))
    return [data[a:b] for a, b in zip([0, *places], [*places, len(data)], strict=True)]
