"""TLS to peers: their certificate is the pinned one, or the connection ends before a byte of the request leaves."""

from __future__ import annotations

from hmac import compare_digest
from typing import Any

from attrs import define, frozen
from OpenSSL import SSL
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.internet.ssl import CertificateOptions
from twisted.python.failure import Failure
from zope.interface import implementer

from loopsy.client.tls import Connection
from loopsy.errors import PinMismatch

SEPARATOR = ","
"""A pin may be two fingerprints: that of the certificate in use, and that of the next one, which the peer announced."""
ANY = ""
"""No pin yet: any certificate will do (pairing, which proves it by other means)."""


@define
class Seen:
    """The fingerprint of the certificate that a peer showed."""

    fingerprint: str | None = None


@implementer(IOpenSSLClientConnectionCreator)
@frozen
class PinnedConnections:
    """Makes the TLS side of connections to one peer. TLS 1.2 at least (CertificateOptions' default)."""

    pin: str
    label: str
    seen: Seen
    context: SSL.Context

    def clientConnectionForTLS(self, tlsProtocol: Any) -> SSL.Connection:
        """A connection that checks its peer's leaf certificate in the handshake. No SNI: a peer is not a name."""
        connection = Connection(self.context)

        def verify(_: Any, certificate: Any, __: int, depth: int, ___: int) -> bool:
            if depth != 0:
                return True  # only the leaf is pinned
            try:
                shown = certificate.digest("sha256").replace(b":", b"").decode("ascii").lower()
                self.seen.fingerprint = shown
                if not self.pin or any(compare_digest(shown, pin) for pin in self.pin.split(SEPARATOR)):
                    return True
                tlsProtocol.failVerification(Failure(PinMismatch.of(self.label, self.pin, shown)))
            except Exception:
                tlsProtocol.failVerification(Failure())
            return False

        connection.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, verify)
        return connection


def connections(pin: str, label: str) -> PinnedConnections:
    """For a peer whose certificate has this fingerprint."""
    return PinnedConnections(normal(pin), label, Seen(), CertificateOptions().getContext())


def normal(pin: str) -> str:
    """Fingerprints as 64 lower-case hex digits each, however they were written."""
    return SEPARATOR.join(part.replace(":", "").strip().lower() for part in pin.split(SEPARATOR))
