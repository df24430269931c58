"""New keys for a pair of nodes that trust each other already.

Both make an ephemeral P-256 key and exchange the public halves over their authenticated link. The new bearer keys come
from the shared secret *and* the old keys: who merely sits on the line (where TLS is off) and changes the halves gets
nothing.

    initiator                                 responder
      public half ───────────────────────────▶  keys derived, kept as pending (on disk)
      keys derived, in use (on disk) ◀───────── public half
      any request with its new key ──────────▶  the pending keys replace the old ones (on disk);
                                                GET /identity is answered once they have

Wherever either dies, the next request of the initiator, with whichever key it has on disk, is taken: the old one until
the pending one was used, the pending one from then on.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from hashlib import sha256

from attrs import field, frozen
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from loopsy.errors import InvalidRequest

INFO = b"loopsy key rotation 1"
KEY_BYTES = 32


@frozen(kw_only=True)
class PairKeys:
    """What each of the two presents to the other, 64 hex digits."""

    initiator: str = field(repr=False)
    responder: str = field(repr=False)


def public_half(private: ec.EllipticCurvePrivateKey) -> str:
    """The public half for the wire."""
    point = private.public_key().public_bytes(
        serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
    )
    return b64encode(point).decode("ascii")


def agree(
    private: ec.EllipticCurvePrivateKey, initiator_half: str, responder_half: str, other_half: str, old: PairKeys
) -> PairKeys:
    """The new keys; both sides get the same.

    :raises InvalidRequest: the other's half is no point of the curve.
    """
    try:
        point = b64decode(other_half, validate=True)
        other = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
    except ValueError:
        raise InvalidRequest("public: must be an uncompressed point of P-256, in base64") from None
    secret = private.exchange(ec.ECDH(), other) + old.initiator.encode() + b"|" + old.responder.encode()
    salt = sha256(f"{initiator_half}|{responder_half}".encode()).digest()
    made = HKDF(algorithm=hashes.SHA256(), length=2 * KEY_BYTES, salt=salt, info=INFO).derive(secret)
    return PairKeys(initiator=made[:KEY_BYTES].hex(), responder=made[KEY_BYTES:].hex())
