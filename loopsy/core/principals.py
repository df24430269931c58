"""Who is calling and what they may do.

A key is the only proof: this machine's own key is *local*, a key of ``auth.allowedKeys`` is *that peer*. What a caller
says of itself (headers, fields) is never believed.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from hmac import compare_digest

from attrs import field, frozen

from loopsy.config import Auth
from loopsy.errors import Forbidden, Unauthenticated


class Scope(StrEnum):
    """An area that a peer may be let into."""

    EXECUTE = "execute"
    TRANSFER = "transfer"
    CONTEXT = "context"
    MESSAGES = "messages"
    AI_TASKS = "ai-tasks"
    TERMINAL = "terminal"
    APPROVE = "approve"
    """Answering what its own AI tasks ask, and loosening what they ask for."""


DEFAULT_SCOPES = frozenset(Scope) - {Scope.APPROVE}
"""Of a peer that the config says nothing of: who starts a task doesn't approve it, unless the user here says so."""


@frozen(kw_only=True)
class Local:
    """Whoever holds this machine's own key: its user."""

    name: str = "local"


@frozen(kw_only=True)
class PeerPrincipal:
    """A paired machine, by the name its key is filed under."""

    name: str
    scopes: frozenset[Scope] = DEFAULT_SCOPES
    is_pending: bool = False
    """It presented a key that was agreed on and not used before (see core/rotation.py)."""


@frozen(kw_only=True)
class Stranger:
    """Nobody we know: may ask for what is open to anyone."""

    name: str = "stranger"
    is_here: bool = False
    """It asks from this machine itself."""


Principal = Local | PeerPrincipal | Stranger
LOCAL, STRANGER, NEARBY = Local(), Stranger(), Stranger(is_here=True)
RESERVED = frozenset({LOCAL.name, STRANGER.name})
"""No peer may be called so: uploads, rates and the audit log tell callers apart by name."""


# -- access: what a route asks of its caller --------------------------------------------------------------------------
@frozen
class Anyone:
    """No key needed."""


@frozen
class ThisMachine:
    """No key needed, but only from this machine: the dashboard's files, which hold nothing."""


@frozen
class LocalOnly:
    """This machine's own key."""


@frozen
class AnyKey:
    """Any key we know."""


@frozen
class Scoped:
    """The own key, or a peer whose scopes hold this one."""

    scope: Scope


Access = Anyone | ThisMachine | LocalOnly | AnyKey | Scoped


def check(principal: Principal, access: Access) -> None:
    """Let the caller in, or say why not.

    :raises Unauthenticated: the route needs a key. :raises Forbidden: the key may not do this.
    """
    match access, principal:
        case (Anyone(), _) | (_, Local()) | (ThisMachine(), Stranger(is_here=True)):
            return
        case _, Stranger():
            raise Unauthenticated("a key is needed (authorization: Bearer <key>)")
        case (LocalOnly() | ThisMachine()), _:
            raise Forbidden("only this machine's own key may do this")
        case Scoped(scope), PeerPrincipal(name=name, scopes=scopes) if scope not in scopes:
            raise Forbidden(f"peer {name} may not use {scope.value} here")


def scopes_of(auth: Auth, name: str) -> frozenset[Scope]:
    """What a peer may use: all areas, unless ``auth.scopes`` says less, or more."""
    words = auth.scopes.get(name)
    return DEFAULT_SCOPES if words is None else frozenset(map(Scope, words))


def still_may(auth: Auth, name: str, scope: Scope) -> bool:
    """Whether a caller of that name, who was let in before, would be let in now."""
    return name == LOCAL.name or (name in auth.allowed_keys and scope in scopes_of(auth, name))


# -- keys -------------------------------------------------------------------------------------------------------------
@frozen
class Keyring:
    """Which key is whose. Every key is compared on every call, in constant time, so that timing tells nothing."""

    own: bytes = field(repr=False)
    peers: tuple[tuple[bytes, PeerPrincipal], ...] = field(repr=False)

    @classmethod
    def of(cls, auth: Auth, pending: Mapping[str, str] | None = None) -> Keyring:
        """The keyring of a config's ``auth`` section; ``pending`` holds keys that wait for their first use, by name."""

        def principal(name: str, is_pending: bool) -> PeerPrincipal:
            return PeerPrincipal(name=name, scopes=scopes_of(auth, name), is_pending=is_pending)

        known = [(key.encode(), principal(name, False)) for name, key in auth.allowed_keys.items()]
        waiting = [
            (key.encode(), principal(name, True))
            for name, key in (pending or {}).items()
            if auth.allowed_keys.get(name, key) != key  # else it is gone, or in use already
        ]
        return cls(auth.api_key.encode(), (*known, *waiting))

    def identify(self, authorization: bytes | None) -> Principal:
        """Who presents this ``Authorization`` header (None: nobody).

        :raises Forbidden: a key was presented and nobody has it. :raises Unauthenticated: it is not a bearer key.
        """
        if authorization is None:
            return STRANGER
        kind, _, key = authorization.partition(b" ")
        if kind.lower() != b"bearer" or not key.strip():
            raise Unauthenticated("the authorization header must be: Bearer <key>")
        key = key.strip()
        found: Principal | None = None
        for known, peer in self.peers:
            if compare_digest(known, key):
                found = peer
        if compare_digest(self.own, key):
            found = LOCAL
        if found is None:
            raise Forbidden("the key is not known here")
        return found
