"""Rules of the context store: what a key and a value may be, when an entry ends, when the store is full."""

from __future__ import annotations

from loopsy.config import ContextLimits
from loopsy.errors import InvalidRequest, KeyNotFound, TooManyEntries, ValueTooLarge
from loopsy.wire.context import MAX_KEY, Entry, PutEntry


def check_key(key: str) -> str:
    """A key: 1 to 256 printable characters (spaces and ``/`` too).

    :raises InvalidRequest: it is none.
    """
    if not 1 <= len(key) <= MAX_KEY:
        raise InvalidRequest(f"the key must have 1 to {MAX_KEY} characters, not {len(key)}")
    if not key.isprintable():
        raise InvalidRequest("the key must hold printable characters only")
    return key


def check_value(value: str, limits: ContextLimits) -> str:
    """A value: text of any kind, within the limit in UTF-8.

    :raises ValueTooLarge: says both sizes.
    """
    if len(value) * 4 > limits.max_value_bytes:
        size = len(value.encode("utf-8"))
        if size > limits.max_value_bytes:
            raise ValueTooLarge(f"the value has {size} bytes; at most {limits.max_value_bytes} are taken")
    return value


def entry(key: str, put: PutEntry, from_node_id: str, now_ms: int) -> Entry:
    """The entry that ``put`` makes at ``now_ms``; an older one's creation time is kept by the store."""
    return Entry(
        key=key,
        value=put.value,
        from_node_id=from_node_id,
        created_at=now_ms,
        updated_at=now_ms,
        ttl=put.ttl,
        expires_at=None if put.ttl is None else now_ms + max(1, round(put.ttl * 1000)),
    )


def admit(exists: bool, live: int, limits: ContextLimits) -> None:
    """Room for one more entry, beside ``live`` others that have not expired.

    :raises TooManyEntries: the store is full and the key is new.
    """
    if not exists and live >= limits.max_entries:
        raise TooManyEntries(
            f"the context holds {live} entries already (context.maxEntries)", hint="delete some, or give them a ttl"
        )


def missing(key: str) -> KeyNotFound:
    """The error for a key that has no entry, or no longer."""
    return KeyNotFound(f"no entry has the key {key!r}")
