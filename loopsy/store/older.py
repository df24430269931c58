"""Taking over what an existing Loopsy 1.x data directory holds: ``context.json`` and ``peers.json``, once.

Both may be a list of objects, an object of them by key, a list of ``[key, object]`` pairs, or any of these under a
single name (``entries``, ``peers``). The files stay, renamed to ``*.imported``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from attrs import evolve, frozen

from loopsy.core.peers import Record
from loopsy.errors import DataDirError, InvalidRequest
from loopsy.store.layout import Layout
from loopsy.wire import codec
from loopsy.wire.context import Entry
from loopsy.wire.peers import UNKNOWN

T = TypeVar("T")


@frozen
class Found:
    """What the old files hold."""

    entries: tuple[Entry, ...]
    peers: tuple[Record, ...]

    def __bool__(self) -> bool:
        return bool(self.entries or self.peers)


def found(layout: Layout) -> Found:
    """What there is to take over.

    :raises DataDirError: a file can't be read (says where); it is left as it is.
    """
    return Found(
        tuple(_read(layout.old_context, entries)),
        tuple(_read(layout.old_peers, peers)),
    )


def _read(path: Path, shape: Callable[[object], list[T]]) -> list[T]:
    try:
        return shape(codec.read_json(path.read_bytes()))
    except FileNotFoundError:
        return []
    except InvalidRequest as error:
        raise DataDirError(f"{path}: {error.message}", hint="mend it, or move it away to start without it") from None
    except OSError as error:
        raise DataDirError(f"{path} can't be read: {error.strerror}") from None


def objects(value: object, wrapper: str, key_field: str) -> Iterator[Mapping[str, Any]]:
    """Each object in any of the shapes; one that stands under a key gets that key as its ``key_field``."""
    if isinstance(value, dict) and isinstance(value.get(wrapper), dict | list) and len(value) <= 2:
        value = value[wrapper]
    if not isinstance(value, dict | list | None):
        raise InvalidRequest("the file must hold a list or an object")
    pairs = value.items() if isinstance(value, dict) else [(None, item) for item in value or ()]
    for key, item in pairs:
        if isinstance(item, list) and len(item) == 2:
            key, item = item
        if isinstance(item, str) and key is not None:
            item = {"value": item}
        if not isinstance(item, dict):
            raise InvalidRequest(f"{key_field} {key!r}: must be an object, not {json.dumps(item)[:60]}")
        yield {key_field: key, **item} if key is not None else item


def entries(value: object) -> list[Entry]:
    """The entries of a context file.

    :raises InvalidRequest: names the entry that can't be read.
    """
    return [codec.parse(Entry, item) for item in objects(value, "entries", "key")]


def peers(value: object) -> list[Record]:
    """The peers of a peer file, as not heard of since.

    :raises InvalidRequest: names the fields that can't be read.
    """
    known = []
    for item in objects(value, "peers", "nodeId"):
        record = codec.parse(Record, item)
        known.append(evolve(record, status=UNKNOWN, failure_count=0, trusted=False))
    return known


def retire(layout: Layout) -> None:
    """Rename the imported files, so that they are not taken over again."""
    for path in (layout.old_context, layout.old_peers):
        if path.exists():
            path.replace(path.with_name(path.name + ".imported"))
