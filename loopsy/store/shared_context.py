"""The context in Redis or Valkey, for people whose machines share one context. Every call waits for the network.

An entry is a hash at ``<prefix>entry:<key>`` that expires by itself; ``<prefix>keys`` is a sorted set of the keys (all
with the score 0, so in order), ``<prefix>ends`` one of those that expire, by time. A script sets an entry, since the
limit, the older creation time and the two indexes must agree; a key whose entry is over is not there, whether or not it
was swept from them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import redis
from attrs import evolve
from redis.exceptions import RedisError

from loopsy.config import ContextLimits
from loopsy.core import context as rules
from loopsy.errors import ContextUnreachable
from loopsy.wire.context import Entry

PREFIX = "loopsy:context:"
WAIT_S = 5.0
"""For a connection, and for each answer: a store in the same house answers within milliseconds."""
PAGE_KEYS = 16
"""Values may have a MiB each, so a page stays around 16 MiB at the worst."""
FIELDS = ("value", "from", "created", "updated", "ttl", "expires")

PUT = """
local keys, ends, name, now = KEYS[2], KEYS[3], ARGV[1], tonumber(ARGV[2])
for _, over in ipairs(redis.call('ZRANGEBYSCORE', ends, '-inf', now)) do
  redis.call('ZREM', keys, over)
  redis.call('ZREM', ends, over)
  redis.call('DEL', ARGV[10] .. over)
end
local created = redis.call('HGET', KEYS[1], 'created')
if not created and redis.call('ZCARD', keys) >= tonumber(ARGV[3]) then
  return {0, tostring(redis.call('ZCARD', keys))}
end
created = created or ARGV[6]
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'value', ARGV[4], 'from', ARGV[5], 'created', created, 'updated', ARGV[7],
  'ttl', ARGV[8], 'expires', ARGV[9])
redis.call('ZADD', keys, 0, name)
if ARGV[9] ~= '' then
  redis.call('PEXPIREAT', KEYS[1], ARGV[9])
  redis.call('ZADD', ends, ARGV[9], name)
else
  redis.call('ZREM', ends, name)
end
return {1, created}
"""
DELETE = """
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('ZREM', KEYS[3], ARGV[1])
return redis.call('DEL', KEYS[1])
"""


class SharedContext:
    """The store at one address (``redis://[user:password@]host[:port][/db]``, ``rediss://``, ``unix://``)."""

    def __init__(self, url: str, prefix: str = PREFIX) -> None:
        """Nothing is connected yet.

        :raises ValueError: it is no such address.
        """
        self._prefix = prefix
        pool = redis.ConnectionPool.from_url(url, socket_timeout=WAIT_S, socket_connect_timeout=WAIT_S)
        self._redis: Any = redis.Redis(connection_pool=pool)
        self._put = self._redis.register_script(PUT)
        self._delete = self._redis.register_script(DELETE)

    def _entry_at(self, key: str) -> str:
        return f"{self._prefix}entry:{key}"

    @property
    def _indexes(self) -> tuple[str, str]:
        return f"{self._prefix}keys", f"{self._prefix}ends"

    def put(self, entry: Entry, limits: ContextLimits, now: int) -> Entry:
        """Store an entry over an older one of its key, whose creation time stays.

        :raises TooManyEntries: the key is new and the store is full. :raises ContextUnreachable:
        """
        ttl = "" if entry.ttl is None else repr(entry.ttl)
        expires = "" if entry.expires_at is None else entry.expires_at
        value = entry.value.encode("utf-8", "surrogatepass")
        words = (entry.key, now, limits.max_entries, value, entry.from_node_id, entry.created_at, entry.updated_at)
        with _Translated():
            keys = [self._entry_at(entry.key), *self._indexes]
            done, text = self._put(keys=keys, args=[*words, ttl, expires, self._entry_at("")])
        if not done:
            rules.admit(False, int(text), limits)
        return evolve(entry, created_at=int(text))

    def get(self, key: str, now: int) -> Entry | None:
        """The entry of ``key`` at ``now`` (ms).

        :raises ContextUnreachable:
        """
        with _Translated():
            return _entry(key, self._redis.hmget(self._entry_at(key), FIELDS), now)

    def delete(self, key: str, now: int) -> bool:
        """Remove an entry; False: there was none.

        :raises ContextUnreachable:
        """
        existed = self.get(key, now) is not None
        with _Translated():
            self._delete(keys=[self._entry_at(key), *self._indexes], args=[key])
        return existed

    def pages(self, prefix: str, now: int) -> Iterator[list[Entry]]:
        """The entries whose keys start with ``prefix``, by key, in pages; between two pages the store may change.

        :raises ContextUnreachable: in mid-way too.
        """
        start, raw = b"[" + prefix.encode(), prefix.encode()
        while True:
            with _Translated():
                found = self._redis.zrangebylex(self._indexes[0], start, "+", 0, PAGE_KEYS)
                names = [name for name in found if name.startswith(raw)]
                pipe = self._redis.pipeline(transaction=False)
                for name in names:
                    pipe.hmget(self._entry_at(name.decode()), FIELDS)
                rows = pipe.execute()
            page = [_entry(name.decode(), row, now) for name, row in zip(names, rows, strict=True)]
            if any(page):
                yield [entry for entry in page if entry is not None]
            if len(names) < PAGE_KEYS:
                return
            start = b"(" + names[-1]

    def count(self, now: int) -> int:
        """How many entries there are at ``now``.

        :raises ContextUnreachable:
        """
        keys, ends = self._indexes
        with _Translated():
            over = self._redis.zcount(ends, "-inf", now)
            return int(self._redis.zcard(keys)) - int(over)

    def close(self) -> None:
        """Close its connections."""
        self._redis.close()


class _Translated:
    """The library's errors as ours, without the address: a password may stand in it."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if isinstance(error, RedisError):
            what = str(error).splitlines()[0][:200] if type(error) is not RedisError else "it refused"
            raise ContextUnreachable(f"the shared context does not answer: {what}") from None


def _entry(key: str, row: list[bytes | None], now: int) -> Entry | None:
    value, from_, created, updated, ttl, expires = row
    if value is None or from_ is None or created is None or updated is None:
        return None
    expires_at = int(expires) if expires else None
    if expires_at is not None and expires_at <= now:
        return None
    seconds = float(ttl) if ttl else None
    return Entry(
        key=key,
        value=value.decode("utf-8", "surrogatepass"),
        from_node_id=from_.decode(),
        created_at=int(created),
        updated_at=int(updated),
        ttl=int(seconds) if seconds is not None and seconds == int(seconds) else seconds,
        expires_at=expires_at,
    )
