"""This node's TLS key and self-signed certificate (``tls/key.pem``, ``tls/cert.pem``), made once.

Peers trust the certificate by its fingerprint (its pin), so no authority signs it, and its life is long: what ends
trust is revoking the peer, not a date.
"""

from __future__ import annotations

import ipaddress
import socket
from datetime import UTC, datetime, timedelta

import psutil
from attrs import field, frozen
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from loopsy.errors import DataDirError
from loopsy.store import atomic
from loopsy.store.layout import Layout

YEARS = 10
RENEW_DAYS = 60
"""So long before its end the next one is made, on the same key, and announced to the peers."""
SKEW = timedelta(days=2)
"""A peer's clock may be behind ours by so much."""


@frozen
class Certificate:
    """The pair, ready for a TLS context."""

    key: ec.EllipticCurvePrivateKey = field(repr=False)
    certificate: x509.Certificate

    @property
    def fingerprint(self) -> str:
        """The pin: SHA-256 of the certificate, 64 hex digits."""
        return self.certificate.fingerprint(hashes.SHA256()).hex()

    @property
    def expires(self) -> datetime:
        """When it ends (UTC)."""
        return self.certificate.not_valid_after_utc


def ensure(layout: Layout, hostname: str) -> Certificate:
    """The pair on disk; made where there is none.

    :raises DataDirError: a file can't be read, or the two don't belong together.
    """
    if not layout.tls_key.exists():
        return _write(layout, ec.generate_private_key(ec.SECP256R1()), hostname)
    key = _read_key(layout)
    if not layout.tls_certificate.exists():
        return _write(layout, key, hostname)
    return _read(layout, key)


def _read_key(layout: Layout) -> ec.EllipticCurvePrivateKey:
    try:
        key = serialization.load_pem_private_key(layout.tls_key.read_bytes(), None)
    except (OSError, ValueError, TypeError) as error:
        raise DataDirError(f"{layout.tls_key} can't be read: {error}", hint=REMEDY) from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise DataDirError(f"{layout.tls_key} holds no elliptic-curve key", hint=REMEDY)
    return key


def _read(layout: Layout, key: ec.EllipticCurvePrivateKey) -> Certificate:
    try:
        certificate = x509.load_pem_x509_certificate(layout.tls_certificate.read_bytes())
    except (OSError, ValueError) as error:
        raise DataDirError(f"{layout.tls_certificate} can't be read: {error}", hint=REMEDY) from None
    if certificate.public_key() != key.public_key():
        raise DataDirError(f"{layout.tls_certificate} and {layout.tls_key} don't belong together", hint=REMEDY)
    return Certificate(key, certificate)


def is_due(certificate: Certificate, now: datetime) -> bool:
    """Whether it should be renewed."""
    return certificate.expires - now < timedelta(days=RENEW_DAYS)


def next_one(layout: Layout, certificate: Certificate, hostname: str) -> Certificate:
    """The certificate that will follow, on the same key: made once, and kept beside the one in use until peers know it.

    :raises DataDirError: what is on disk can't be used.
    """
    try:
        pem = layout.tls_next.read_bytes()
    except FileNotFoundError:
        made = Certificate(certificate.key, _sign(certificate.key, hostname))
        atomic.write(layout.tls_next, _pem(made))
        return made
    try:
        return Certificate(certificate.key, x509.load_pem_x509_certificate(pem))
    except ValueError as error:
        raise DataDirError(f"{layout.tls_next} can't be read: {error}", hint="remove it to get another") from None


def put_in_use(layout: Layout) -> None:
    """From the next start on the next certificate is the one in use."""
    layout.tls_next.replace(layout.tls_certificate)


def write(layout: Layout, certificate: Certificate) -> None:
    """Write the certificate in use."""
    atomic.write(layout.tls_certificate, _pem(certificate))


def _pem(certificate: Certificate) -> bytes:
    return certificate.certificate.public_bytes(serialization.Encoding.PEM)


def _write(layout: Layout, key: ec.EllipticCurvePrivateKey, hostname: str) -> Certificate:
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    made = Certificate(key, _sign(key, hostname))
    layout.tls.mkdir(mode=0o700, exist_ok=True)
    atomic.write(layout.tls_key, pem)
    write(layout, made)
    return made


def _sign(key: ec.EllipticCurvePrivateKey, hostname: str, days: int = 365 * YEARS) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, hostname[:64])])
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - SKEW)
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName(_names(hostname)), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )


def _names(hostname: str) -> list[x509.GeneralName]:
    """This machine's name, localhost, and its addresses now (browsers and curl look at them; peers don't)."""
    ascii_name = hostname.encode("idna", "ignore").decode("ascii") if not hostname.isascii() else hostname
    names: list[x509.GeneralName] = [x509.DNSName(text) for text in dict.fromkeys((ascii_name, "localhost")) if text]
    found = {"127.0.0.1", "::1"}
    for addresses in psutil.net_if_addrs().values():
        found |= {a.address.partition("%")[0] for a in addresses if a.family in (socket.AF_INET, socket.AF_INET6)}
    return names + [x509.IPAddress(ipaddress.ip_address(text)) for text in sorted(found)]


REMEDY = "remove both files in tls/ to get new ones; peers must then be paired again"
