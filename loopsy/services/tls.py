"""This node's TLS, ready to listen with."""

from __future__ import annotations

from typing import Any

from attrs import frozen
from twisted.internet.ssl import CertificateOptions

from loopsy.client.tls import ServerConnections
from loopsy.store import certificate
from loopsy.store.layout import Layout


@frozen(kw_only=True)
class OwnTls:
    """Our certificate in use."""

    fingerprint: str
    """What peers pin."""
    expires: int
    """ms since the epoch."""
    connections: ServerConnections
    """For Twisted: TLS 1.2 at least."""


def own_tls(layout: Layout, hostname: str) -> OwnTls:
    """Our certificate, made where there is none.

    :raises DataDirError: what is on disk can't be used.
    """
    own = certificate.ensure(layout, hostname)
    key: Any = own.key
    shown: Any = own.certificate  # both are what Twisted takes, if not what its stubs say
    return OwnTls(
        fingerprint=own.fingerprint,
        expires=round(own.expires.timestamp() * 1000),
        connections=ServerConnections(CertificateOptions(privateKey=key, certificate=shown).getContext()),
    )
