"""Who is calling and what they may do."""

from __future__ import annotations

import pytest

from loopsy.config import Auth
from loopsy.core.principals import (
    DEFAULT_SCOPES,
    LOCAL,
    STRANGER,
    AnyKey,
    Anyone,
    Keyring,
    LocalOnly,
    PeerPrincipal,
    Scope,
    Scoped,
    check,
)
from loopsy.errors import Forbidden, Unauthenticated

OWN, KAIS, LEOS = "o" * 32, "k" * 32, "l" * 32
RING = Keyring.of(Auth(api_key=OWN, allowed_keys={"kai": KAIS, "leo": LEOS}, scopes={"leo": ("context",)}))
KAI, LEO = PeerPrincipal(name="kai"), PeerPrincipal(name="leo", scopes=frozenset([Scope.CONTEXT]))

ACCESS = [
    (Anyone(), STRANGER, None),
    (Anyone(), LEO, None),
    (AnyKey(), STRANGER, Unauthenticated),
    (AnyKey(), LEO, None),
    (AnyKey(), LOCAL, None),
    (LocalOnly(), STRANGER, Unauthenticated),
    (LocalOnly(), KAI, Forbidden),
    (LocalOnly(), LOCAL, None),
    (Scoped(Scope.EXECUTE), STRANGER, Unauthenticated),
    (Scoped(Scope.EXECUTE), KAI, None),
    (Scoped(Scope.EXECUTE), LEO, Forbidden),
    (Scoped(Scope.CONTEXT), LEO, None),
    (Scoped(Scope.TERMINAL), LOCAL, None),
]


@pytest.mark.parametrize(("access", "who", "error"), ACCESS, ids=lambda value: getattr(value, "name", str(value)))
def test_access(access: object, who: object, error: type[Exception] | None) -> None:
    if error is None:
        check(who, access)  # type: ignore[arg-type]
    else:
        with pytest.raises(error):
            check(who, access)  # type: ignore[arg-type]


def test_a_key_is_whose_it_is() -> None:
    assert RING.identify(None) is STRANGER
    assert RING.identify(b"Bearer " + OWN.encode()) is LOCAL
    assert RING.identify(b"bearer  " + KAIS.encode()) == KAI
    assert RING.identify(b"Bearer " + LEOS.encode()) == LEO
    assert KAI.scopes == DEFAULT_SCOPES
    assert Scope.APPROVE not in DEFAULT_SCOPES


@pytest.mark.parametrize(
    "header", [b"Bearer x", b"Bearer " + OWN[:-1].encode(), b"Bearer " + OWN.encode() + b"x", b"Bearer \xff"]
)
def test_an_unknown_key_is_forbidden(header: bytes) -> None:
    with pytest.raises(Forbidden):
        RING.identify(header)


@pytest.mark.parametrize("header", [b"", b"Bearer", b"Bearer  ", b"Basic " + OWN.encode(), OWN.encode()])
def test_what_is_no_bearer_key_is_no_key(header: bytes) -> None:
    with pytest.raises(Unauthenticated):
        RING.identify(header)


def test_a_keyring_shows_no_key() -> None:
    assert OWN not in repr(RING)
    assert KAIS not in repr(RING)


def test_a_pending_key_is_that_until_it_is_in_use() -> None:
    auth = Auth(api_key=OWN, allowed_keys={"kai": KAIS})
    waits = Keyring.of(auth, {"kai": LEOS, "gone": "e" * 64})
    for key, is_pending in ((KAIS, False), (LEOS, True)):
        found = waits.identify(f"Bearer {key}".encode())
        assert isinstance(found, PeerPrincipal)
        assert (found.name, found.is_pending) == ("kai", is_pending)
    used = Keyring.of(auth, {"kai": KAIS}).identify(f"Bearer {KAIS}".encode())
    assert isinstance(used, PeerPrincipal)
    assert not used.is_pending
    with pytest.raises(Forbidden):
        waits.identify(b"Bearer " + b"e" * 64)
