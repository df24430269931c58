"""The cryptography of pairing: SPAKE2 on the invite code, committed P-256 ECDH, and what is derived from both.

Nothing here is invented: SPAKE2 and Ed25519's group are the ``spake2`` package's, ECDH and HKDF are ``cryptography``'s.
Randomness comes in as ``Entropy``, so that test vectors can be made.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from enum import StrEnum
from hmac import compare_digest

from attrs import field, frozen
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from loopsy.core.pairing_messages import NONCE, PROTOCOL, Hello, Reveal, Revealed, Welcome, encode, pack
from loopsy.errors import PairingViolation

Entropy = Callable[[int], bytes]
"""So many bytes that nobody can guess."""
CURVE = ec.SECP256R1()
P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
DIGITS = 6


class Role(StrEnum):
    """Which side."""

    INVITER = "inviter"
    JOINER = "joiner"


def digits(data: bytes) -> str:
    """Six decimal digits of 16 bytes: their bias (below 2⁻¹⁰⁸) is nothing."""
    return f"{int.from_bytes(data, 'big') % 10**DIGITS:0{DIGITS}d}"


def invite_code(entropy: Entropy) -> str:
    """A new code for people to carry over."""
    return digits(entropy(16))


# -- SPAKE2 -----------------------------------------------------------------------------------------------------------
class Spake:
    """One side of one SPAKE2 run. Good for one run: a second would give the password away."""

    def __init__(self, role: Role, code: str, entropy: Entropy) -> None:
        from spake2 import SPAKE2_A, SPAKE2_B  # its tables take 17 ms to make: a daemon that doesn't pair needs none

        kind = SPAKE2_A if role is Role.INVITER else SPAKE2_B
        names = {"idA": Role.INVITER.encode(), "idB": Role.JOINER.encode()}
        self._run = kind(pack(PROTOCOL, code.encode()), entropy_f=entropy, **names)
        self.message: bytes = self._run.start()

    def key(self, theirs: bytes) -> bytes:
        """The key, equal on both sides if the code was.

        :raises PairingViolation: their message is not a point of the group, or our own sent back.
        """
        try:
            key: bytes = self._run.finish(theirs)
        except Exception:  # SPAKEError, ValueError, AssertionError, NotOnCurve: the package has many for a bad point
            raise PairingViolation("the other side's SPAKE2 message is not one") from None
        return key


# -- ECDH, committed --------------------------------------------------------------------------------------------------
@frozen(eq=False)
class Ephemeral:
    """A P-256 key for one exchange, and the random text without which its commitment tells nothing of it."""

    private: ec.EllipticCurvePrivateKey = field(repr=False)
    opening: bytes = field(repr=False)

    @classmethod
    def make(cls, entropy: Entropy) -> Ephemeral:
        """A new one. 40 bytes for a number below 2²⁵⁶ leave no bias to speak of."""
        number = int.from_bytes(entropy(40), "big") % (P256_ORDER - 1) + 1
        return cls(ec.derive_private_key(number, CURVE), entropy(NONCE))

    @property
    def public(self) -> bytes:
        """Its public half, uncompressed."""
        return self.private.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)

    def commitment(self, role: Role) -> bytes:
        """What is told before the key is."""
        return commit(role, self.public, self.opening)

    def secret(self, theirs: bytes) -> bytes:
        """The common secret.

        :raises PairingViolation: theirs is no point of the curve.
        """
        try:
            public = ec.EllipticCurvePublicKey.from_encoded_point(CURVE, theirs)
            return self.private.exchange(ec.ECDH(), public)
        except ValueError:
            raise PairingViolation("the other side's ECDH key is not one") from None


def commit(role: Role, public: bytes, opening: bytes) -> bytes:
    """The commitment to a public key. The role is in it, so that ours can't be sent back as theirs."""
    return hashlib.sha256(pack(PROTOCOL, b"commitment", role.encode(), public, opening)).digest()


def check_commitment(greeting: Hello | Welcome, opened: Reveal | Revealed) -> None:
    """The key is the one that was committed to.

    :raises PairingViolation: it is another.
    """
    role = Role.JOINER if isinstance(greeting, Hello) else Role.INVITER
    if not compare_digest(commit(role, opened.public, opened.opening), greeting.commitment):
        raise PairingViolation(f"the {role.value}'s ECDH key is not the one it committed to")


# -- proofs that the code is known ------------------------------------------------------------------------------------
def proof(role: Role, spake_key: bytes, before: bytes, public: bytes, opening: bytes) -> bytes:
    """A side's proof that its SPAKE2 key is the other's: over all that was said before, and the key it reveals."""
    info = pack(PROTOCOL, role.encode(), b"proof")
    key = HKDF(SHA256(), 32, salt=hashlib.sha256(before).digest(), info=info).derive(spake_key)
    return hmac.digest(key, pack(before, public, opening), "sha256")


# -- what both have in the end ----------------------------------------------------------------------------------------
class Label(StrEnum):
    """What is derived. Each is one HKDF output, known to the two sides only."""

    SAS = "sas"
    JOINER_PRESENTS = "the key that the joiner presents"
    INVITER_PRESENTS = "the key that the inviter presents"
    POLL = "joiner asks"
    CONFIRM = "joiner says yes"
    CANCEL = "joiner says no"
    FINISH = "joiner has stored"
    WAIT = "inviter waits"
    CONFIRMED = "inviter says yes"
    CANCELLED = "inviter says no"
    DONE = "inviter has stored"


@frozen
class Agreement:
    """The secret of a session that both sides reached, and what comes of it."""

    exchange: bytes
    _root: bytes = field(repr=False)

    @classmethod
    def of(cls, exchange: bytes, spake_key: bytes, ecdh_secret: bytes, *messages: bytes) -> Agreement:
        """From both secrets and the transcript: the four messages, byte for byte."""
        transcript = hashlib.sha256(pack(PROTOCOL, *messages)).digest()
        return cls(exchange, hmac.digest(transcript, pack(spake_key, ecdh_secret), "sha256"))

    def derive(self, label: Label, length: int = 32) -> bytes:
        """One output."""
        return HKDFExpand(SHA256(), length, info=pack(PROTOCOL, label.encode())).derive(self._root)

    @property
    def sas(self) -> str:
        """Six digits for two people to compare; never sent."""
        return digits(self.derive(Label.SAS, 16))

    def key(self, presented_by: Role) -> str:
        """The bearer key that this side presents to the other: 64 hex digits, never sent in pairing."""
        label = Label.JOINER_PRESENTS if presented_by == Role.JOINER else Label.INVITER_PRESENTS
        return self.derive(label).hex()


def reveal(
    spake_key: bytes, ephemeral: Ephemeral, exchange: bytes, hello: Hello, welcome: Welcome
) -> Reveal:
    """The joiner's key and proof."""
    before = pack(encode(hello), encode(welcome))
    public, opening = ephemeral.public, ephemeral.opening
    made = proof(Role.JOINER, spake_key, before, public, opening)
    return Reveal(exchange=exchange, public=public, opening=opening, proof=made)


def revealed(spake_key: bytes, ephemeral: Ephemeral, hello: Hello, welcome: Welcome, theirs: Reveal) -> Revealed:
    """The inviter's key and proof."""
    before = pack(encode(hello), encode(welcome), encode(theirs))
    public, opening = ephemeral.public, ephemeral.opening
    made = proof(Role.INVITER, spake_key, before, public, opening)
    return Revealed(exchange=theirs.exchange, public=public, opening=opening, proof=made)


def proves(role: Role, spake_key: bytes, opened: Reveal | Revealed, *before: Hello | Welcome | Reveal) -> bool:
    """Whether the sender of ``opened`` knows the code."""
    said = pack(*(encode(message) for message in before))
    return compare_digest(proof(role, spake_key, said, opened.public, opened.opening), opened.proof)
