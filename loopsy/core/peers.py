"""The peer book: who is known, where, since when they answer, and who is meant by a word.

A record's ``name`` is what *we* call it: the name its key is filed under. A peer's own ``hostname`` is only what it
says, so a stranger who calls himself like one of ours never gets that one's key.

    unknown ──heard──▶ online ──missed × 3──▶ offline ──heard──▶ online
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from difflib import get_close_matches

from attrs import evolve, field, frozen

from loopsy.errors import InvalidRequest, PeerNotFound
from loopsy.wire.peers import OFFLINE, ONLINE, NodeIdentity, Peer

INTERVAL_S = 15.0
FAILURES = 3
"""So many missed probes make a peer offline."""
LONGEST_WAIT_S = 120.0
"""Between probes of a peer that stays away; a returning one introduces itself anyway."""
PREFIX = 4
"""The fewest characters of a node id that may stand for it."""
PLACEHOLDER = "manual-"
"""So begins the node id of a peer that has not said its own yet."""


@frozen(kw_only=True)
class Record(Peer):
    """A peer in our book. ``name`` binds it to a key."""

    trusted: bool = field(default=False)

    @property
    def endpoint(self) -> tuple[str, int]:
        """Where it listens."""
        return self.address, self.port

    @property
    def is_identified(self) -> bool:
        """Whether its real node id is known."""
        return not self.node_id.startswith(PLACEHOLDER)

    @property
    def label(self) -> str:
        """What a person reads."""
        return self.name or self.hostname


def placeholder(address: str, port: int) -> str:
    """The node id of whoever is at an endpoint, until it says its own. It goes on standing for that one: a page may
    have read it just before."""
    return f"{PLACEHOLDER}{address}:{port}"


def manual(address: str, port: int, name: str | None, node_id: str | None) -> Record:
    """A peer that the user added."""
    return Record(
        node_id=node_id or placeholder(address, port),
        hostname=name or address,
        address=address,
        port=port,
        manually_added=True,
        name=name,
    )


# -- what was heard ---------------------------------------------------------------------------------------------------
def heard(record: Record, now_ms: int) -> Record:
    """It answered."""
    return evolve(record, status=ONLINE, last_seen=now_ms, failure_count=0)


def missed(record: Record) -> Record:
    """It did not answer."""
    failures = record.failure_count + 1
    return evolve(record, failure_count=failures, status=OFFLINE if failures >= FAILURES else record.status)


def probe_wait(record: Record) -> float:
    """Seconds until it is asked again: 15, and twice as long after each miss once it is offline."""
    beyond = record.failure_count - FAILURES
    return INTERVAL_S if beyond < 0 else min(INTERVAL_S * 2.0 ** min(beyond, 10), LONGEST_WAIT_S)


def lasting(record: Record) -> tuple[str, str, str, tuple[str, int]]:
    """What of a probe's finding is worth writing down and telling."""
    return record.node_id, record.status, record.hostname, record.endpoint


def endpoint(address: str, port: int) -> str:
    """``address:port``, as people write it."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def shared(record: Record) -> Peer:
    """A paired peer, as another peer is told of it."""
    return Peer(
        node_id=record.node_id,
        hostname=record.hostname,
        address=record.address,
        port=record.port,
        platform=record.platform,
        version=record.version,
        capabilities=record.capabilities,
        status=record.status,
        last_seen=record.last_seen,
        trusted=True,
    )


def identified(record: Record, identity: NodeIdentity, now_ms: int) -> Record:
    """It said who it is."""
    return heard(
        evolve(
            record,
            node_id=identity.node_id,
            hostname=identity.hostname,
            platform=identity.platform,
            version=identity.version,
            capabilities=identity.capabilities,
        ),
        now_ms,
    )


# -- the book ---------------------------------------------------------------------------------------------------------
class Book:
    """The records by node id."""

    def __init__(self, records: Iterable[Record] = ()) -> None:
        self._records: dict[str, Record] = {record.node_id: record for record in records}

    def all(self) -> tuple[Record, ...]:
        """Every record, by label."""
        return tuple(sorted(self._records.values(), key=lambda r: (r.label, r.node_id)))

    def get(self, node_id: str) -> Record | None:
        """The record of a node id."""
        return self._records.get(node_id)

    def named(self, name: str) -> Record | None:
        """The record whose key is filed under ``name``."""
        return next((record for record in self._records.values() if record.name == name), None)

    def at(self, address: str, port: int) -> Record | None:
        """The record of an endpoint."""
        return next((record for record in self._records.values() if record.endpoint == (address, port)), None)

    def put(self, record: Record, instead_of: str | None = None) -> tuple[str, ...]:
        """File a record, replacing its older ones: the same node, name or endpoint. Returns the node ids that went."""
        gone = {
            other.node_id
            for other in self._records.values()
            if other.node_id != record.node_id
            and (
                other.node_id == instead_of
                or (record.name is not None and other.name == record.name)
                or (other.endpoint == record.endpoint and not other.is_identified)
            )
        }
        for node_id in gone:
            del self._records[node_id]
        self._records[record.node_id] = record
        return tuple(gone)

    def with_labels(self, record: Record, instead_of: str | None = None) -> Record:
        """A record that has none yet with those of the ones that it takes the place of: another address, or the real
        node id, is no reason to forget what the user called it."""
        if record.labels or record.node_id in self._records:
            return record
        older = (o for o in self._records.values() if o.node_id == instead_of or (o.name and o.name == record.name))
        return evolve(record, labels=next((other.labels for other in older if other.labels), ()))

    def remove(self, node_id: str) -> Record:
        """Strike a record.

        :raises PeerNotFound: there is none.
        """
        record = self._records.pop(node_id, None)
        if record is None:
            raise self._unknown(node_id)
        return record

    def resolve(self, word: str) -> Record:
        """Who is meant by a name, a hostname, a node id (or the start of one, or what stood for it until it was known),
        or ``address[:port]``.

        :raises PeerNotFound: nobody; names the near ones. :raises InvalidRequest: more than one.
        """
        records = self._records.values()
        for matches in (
            [r for r in records if r.name == word],
            [r for r in records if r.node_id == word],
            [r for r in records if placeholder(r.address, r.port) == word],
            [r for r in records if r.hostname == word],
            [r for r in records if word in (r.address, f"{r.address}:{r.port}", f"[{r.address}]:{r.port}")],
            [r for r in records if len(word) >= PREFIX and r.node_id.startswith(word)],
        ):
            if len(matches) == 1:
                return matches[0]
            if matches:
                several = ", ".join(f"{r.node_id} ({r.label}, {r.address}:{r.port})" for r in matches)
                raise InvalidRequest(f"{word!r} may mean several peers: {several}", hint="use the node id")
        raise self._unknown(word)

    def _unknown(self, word: str) -> PeerNotFound:
        labels = sorted({record.label for record in self._records.values()})
        near = get_close_matches(word, labels, n=3, cutoff=0.5)
        if near:
            hint = f"did you mean {' or '.join(near)}?"
        elif labels:
            hint = f"known peers: {', '.join(labels[:20])}"
        else:
            hint = "no peers are known yet; add one with: loopsy peers add <address>"
        return PeerNotFound(f"no peer is called {word!r}", hint=hint, details={"near": near})


def key_for(
    record: Record,
    book: Book,
    peer_keys: Mapping[str, str],
    allowed_keys: Mapping[str, str],
    pinned: Collection[str] = (),
) -> str | None:
    """The key that we present to this peer: its pair key, or (as existing installs do) the one it presents to us."""
    keys = {**allowed_keys, **peer_keys}
    name = key_name(record, book, keys, pinned)
    return None if name is None else keys[name]


def key_name(record: Record, book: Book, keys: Collection[str], pinned: Collection[str] = ()) -> str | None:
    """Under which of the names ``keys`` the key for this peer is filed.

    A peer without a name gets a key only if there is just one that no other peer in the book has a claim to: then it
    can mean nobody else. Never the key of a ``pinned`` name: it is for whoever has that certificate.
    """
    if record.name is not None:
        return record.name if record.name in keys else None
    if not record.manually_added:
        return None
    claimed = {other.name for other in book.all()}
    free = [name for name in keys if name not in claimed and name not in pinned]
    return free[0] if len(free) == 1 else None
