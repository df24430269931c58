"""Every failure that a caller can meet, in one tree.

A class carries its code and HTTP status on the wire (docs/protocol/rest.md) and the sentence a person reads. The edge
turns an error into the body ``{"error": {"code", "message", "details"?}}`` once; clients turn that body back into the
same class. This module imports nothing heavy, since every command loads it.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import Any, ClassVar


class LoopsyError(Exception):
    """Something went wrong inside loopsy."""

    code: ClassVar[int] = 9001
    status: ClassVar[int] = 500

    def __init__(
        self,
        message: str | None = None,
        *,
        hint: str | None = None,
        details: Mapping[str, Any] | None = None,
        retry_after: int | None = None,
    ) -> None:
        self.message = message or first_line(type(self).__doc__)
        self.hint = hint
        self.details = dict(details or {})
        self.retry_after = retry_after
        """Seconds until the same request may succeed, where that is known."""
        super().__init__(self.message)

    def body(self) -> dict[str, Any]:
        """The JSON error body of the wire."""
        details = {**self.details, **({"hint": self.hint} if self.hint else {})}
        error: dict[str, Any] = {"code": self.code, "message": self.message}
        if details:
            error["details"] = details
        return {"error": error}


def first_line(doc: str | None) -> str:
    """The sentence of a class: its docstring's first line, as the command line speaks (no capital, no full stop)."""
    line = (doc or "").strip().splitlines()[0].rstrip(".")
    return line[:1].lower() + line[1:]


# -- who is calling ---------------------------------------------------------------------------------------------------
class Unauthenticated(LoopsyError):
    """No key was presented."""

    code, status = 1001, 401


class Forbidden(LoopsyError):
    """The key is unknown, or may not do this."""

    code, status = 1002, 403


class KeyExpired(LoopsyError):
    """The key has expired."""

    code, status = 1003, 403


class LaunchRefused(LoopsyError):
    """This address opened the dashboard already, or is too old."""

    code, status = 1004, 403


# -- peers ------------------------------------------------------------------------------------------------------------
class PeerNotFound(LoopsyError):
    """No such peer."""

    code, status = 2001, 404


class PeerOffline(LoopsyError):
    """The peer is offline."""

    code, status = 2002, 502


class PeerUnreachable(LoopsyError):
    """The peer can't be reached."""

    code, status = 2003, 502


class HandshakeFailed(LoopsyError):
    """The handshake with the peer failed."""

    code, status = 2004, 502


class PinMismatch(LoopsyError):
    """The peer shows another certificate than the one that was pinned."""

    code, status = 2006, 502

    @classmethod
    def of(cls, label: str, pinned: str, shown: str) -> PinMismatch:
        """With both fingerprints and the remedy."""
        return cls(
            f"{label} shows the certificate {shown}, but {pinned} was pinned: it was renewed without us, or this is "
            "another machine",
            hint=f"if you trust it, pair again: loopsy peers revoke {label}, then loopsy pair",
            details={"pinned": pinned, "shown": shown},
        )


class TlsNeeded(LoopsyError):
    """This address speaks TLS; plain HTTP is taken from this machine only."""

    code, status = 2007, 426


class VersionMismatch(LoopsyError):
    """The peer speaks another version."""

    code, status = 2005, 409


class PeerTimeout(LoopsyError):
    """The peer did not answer in time."""

    code, status = 2003, 504


# -- execution --------------------------------------------------------------------------------------------------------
class CommandDenied(LoopsyError):
    """The command is denied by this machine's policy."""

    code, status = 3001, 403


class CommandTimeout(LoopsyError):
    """The command ran out of time."""

    code, status = 3002, 504


class TooManyJobs(LoopsyError):
    """Too many jobs run at once."""

    code, status = 3003, 429


class CommandFailedToStart(LoopsyError):
    """The command could not be started."""

    code, status = 3004, 400


class CommandCancelled(LoopsyError):
    """The command was cancelled."""

    code, status = 3005, 409


class JobNotFound(LoopsyError):
    """No such job."""

    code, status = 3006, 404


# -- transfer ---------------------------------------------------------------------------------------------------------
class PathDenied(LoopsyError):
    """The path is outside what may be touched."""

    code, status = 4001, 403


class FileMissing(LoopsyError):
    """No such file or directory."""

    code, status = 4002, 404


class FileTooLarge(LoopsyError):
    """The file is larger than transfer.maxFileSize."""

    code, status = 4003, 413


class ChecksumMismatch(LoopsyError):
    """The bytes that arrived are not the bytes that were sent."""

    code, status = 4004, 422


class TransferFailed(LoopsyError):
    """The transfer failed."""

    code, status = 4005, 500


class StorageFull(LoopsyError):
    """The disk is full there."""

    code, status = 4005, 507


class UploadMissing(LoopsyError):
    """No such upload."""

    code, status = 4006, 404


class OffsetConflict(LoopsyError):
    """The upload stands at another offset."""

    code, status = 4007, 409


class PieceMismatch(LoopsyError):
    """This piece of the upload is not what its checksum says; send it again."""

    code, status = 4004, 460


# -- context ----------------------------------------------------------------------------------------------------------
class KeyNotFound(LoopsyError):
    """No entry has this key."""

    code, status = 5001, 404


class ValueTooLarge(LoopsyError):
    """The value is too large."""

    code, status = 5002, 413


class ContextUnreachable(LoopsyError):
    """The shared context does not answer."""

    code, status = 5004, 503


class TooManyEntries(LoopsyError):
    """The context holds as many entries as it may."""

    code, status = 5003, 409


# -- pairing ----------------------------------------------------------------------------------------------------------
class NoPairingSession(LoopsyError):
    """There is no pairing session here, or not that one."""

    code, status = 7001, 404


class WrongCode(LoopsyError):
    """The invite code is wrong."""

    code, status = 7002, 403


class PairingEnded(LoopsyError):
    """The pairing session has ended; nothing was kept."""

    code, status = 7003, 410


class PairingRefused(LoopsyError):
    """The other side said no: the numbers differ there, or it was cancelled."""

    code, status = 7004, 409


class PairingViolation(LoopsyError):
    """The other side does not keep to the pairing protocol; somebody may be in between."""

    code, status = 7005, 400


class PairingExpired(LoopsyError):
    """The five minutes of the pairing session are over."""

    code, status = 7006, 410


class PairingBusy(LoopsyError):
    """Another pairing is under way here."""

    code, status = 7007, 409


# -- messages ---------------------------------------------------------------------------------------------------------
class MessageNotFound(LoopsyError):
    """No such message."""

    code, status = 8001, 404


class PeerWithoutKey(LoopsyError):
    """There is no key for that peer."""

    code, status = 8002, 403


class BoxFull(LoopsyError):
    """The inbox, or the outbox, holds as many messages as it may."""

    code, status = 8003, 429


class MessageIdTaken(LoopsyError):
    """The id is another message's."""

    code, status = 8004, 409


class TooManyReplies(LoopsyError):
    """Agents have answered each other too often in a row."""

    code, status = 8005, 409


class MessageTooLarge(LoopsyError):
    """The message is too large."""

    code, status = 8006, 413


# -- AI tasks ---------------------------------------------------------------------------------------------------------
class TaskNotFound(LoopsyError):
    """No such task."""

    code, status = 6001, 404


class TooManyTasks(LoopsyError):
    """Too many tasks run at once."""

    code, status = 6002, 429


class TaskFailed(LoopsyError):
    """The task failed."""

    code, status = 6003, 500


class TaskIsOver(LoopsyError):
    """The task is over already."""

    code, status = 6004, 409


class NoPendingApproval(LoopsyError):
    """No such approval waits, or it was answered already."""

    code, status = 6005, 409


class AgentMissing(LoopsyError):
    """The agent's command line program was not found on that machine."""

    code, status = 6006, 404


# -- everything -------------------------------------------------------------------------------------------------------
class InternalError(LoopsyError):
    """Something went wrong inside the daemon; its log has the details."""

    code, status = 9001, 500


class StorageFailed(LoopsyError):
    """The daemon could not write to its data directory; nothing was changed."""

    code, status = 9001, 507


class RateLimited(LoopsyError):
    """Too many requests of this kind in a minute."""

    code, status = 9002, 429


class InvalidRequest(LoopsyError):
    """The request is not valid."""

    code, status = 9003, 400


class UnknownRoute(InvalidRequest):
    """There is nothing at this address."""

    status = 404


class WrongMethod(InvalidRequest):
    """This address does not take that method."""

    status = 405


class WrongContentType(InvalidRequest):
    """The body must be JSON (content-type: application/json)."""

    status = 415


class BodyTooLarge(InvalidRequest):
    """The body is larger than this address takes."""

    status = 413


class RequestTooSlow(InvalidRequest):
    """The request did not come in time."""

    status = 408


class RangeUnsatisfiable(InvalidRequest):
    """The range lies behind the end of the file."""

    status = 416


class TusVersionUnknown(InvalidRequest):
    """Uploads speak tus 1.0.0."""

    status = 412


class Misdirected(InvalidRequest):
    """The Host header names another machine."""

    status = 421


class HeadersTooLarge(InvalidRequest):
    """The request's head is not valid HTTP, or larger than 16 KiB."""

    status = 431


# -- on this machine, never on the wire -------------------------------------------------------------------------------
class ConfigError(LoopsyError):
    """The configuration can't be used."""


class DataDirError(LoopsyError):
    """The data directory can't be used."""


class DaemonNotRunning(LoopsyError):
    """The daemon is not running."""

    def __init__(self, message: str | None = None, **more: Any) -> None:
        super().__init__(message, **{"hint": "start it with: loopsy start", **more})


class ConnectionBroken(LoopsyError):
    """The connection broke before the answer was complete."""


class UsageError(LoopsyError):
    """The command line can't be understood."""


def _subclasses(base: type[LoopsyError]) -> list[type[LoopsyError]]:
    return [base, *(c for sub in base.__subclasses__() for c in _subclasses(sub))]


_BY_WIRE = {(c.code, c.status): c for c in reversed(_subclasses(LoopsyError))} | {(9001, 500): InternalError}
_BY_CODE = {c.code: c for c in reversed(_subclasses(LoopsyError))} | {9001: InternalError, 9003: InvalidRequest}
_BY_CODE |= {4004: ChecksumMismatch, 4005: TransferFailed}


WORDS_MAX, DETAILS_MAX = 4096, 32
"""Characters of a message or a detail from elsewhere (a path has at most so many), and details."""


def from_wire(status: int, body: object) -> LoopsyError:
    """The error that an answer carries. ``status`` is the HTTP status, ``body`` the parsed JSON, whatever it was.

    A body in another shape (a proxy's, or an older node's ``{"error": "text"}``) becomes a plain LoopsyError. Words are
    cut, and details that no node of ours sends left out: who answers may be a bad peer, and errors are kept and shown.
    """
    error = body.get("error") if isinstance(body, dict) else None
    if not isinstance(error, dict):
        text = error if isinstance(error, str) else f"the answer was status {status} without an error body"
        return _BY_WIRE.get((9003, status), LoopsyError)(text[:WORDS_MAX])
    code, message, details = error.get("code"), error.get("message"), error.get("details")
    kind = _BY_WIRE.get((code, status)) or _BY_CODE.get(code, LoopsyError) if isinstance(code, int) else LoopsyError
    kept = _small(details) if isinstance(details, dict) else {}
    hint = kept.pop("hint", None)
    text = message[:WORDS_MAX] if isinstance(message, str) else ""
    return kind(text, hint=hint if isinstance(hint, str) else None, details=kept)


def _small(details: Mapping[str, Any]) -> dict[str, Any]:
    """Words, numbers, and lists of some words."""
    return {
        name: value[:WORDS_MAX] if isinstance(value, str) else value
        for name, value in islice(details.items(), DETAILS_MAX)
        if isinstance(value, str | int | float | None) or _are_words(value)
    }


def _are_words(value: Any) -> bool:
    is_short = isinstance(value, list) and len(value) <= DETAILS_MAX
    return is_short and all(isinstance(word, str) and len(word) <= WORDS_MAX for word in value)
