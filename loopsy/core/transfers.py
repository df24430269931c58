"""The life of a transfer, the table of them, and where its files go. No I/O here.

    Running ──completed──▶ Completed
       │ ───failed─────▶ Failed
       └ ───cancelled──▶ Cancelled

Finished transfers are remembered for those who ask how it went.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator

from attrs import evolve, frozen

from loopsy.errors import FileMissing, InvalidRequest, LoopsyError, PathDenied, TooManyJobs
from loopsy.wire.transfer import TransferInfo, TransferRequest, name_to_wire

KEPT = 100
"""Finished ones; each is about a KiB."""
AT_ONCE = 64
"""Running ones: each holds up to 4 MiB of buffers, a connection and a thread now and then."""


@frozen(kw_only=True)
class Progress:
    """How far it is, in the words of TransferInfo."""

    bytes_total: int | None = None
    bytes_done: int = 0
    bytes_sent: int = 0
    files_total: int | None = None
    files_done: int = 0
    files_skipped: int = 0
    files_deleted: int = 0
    current: str | None = None
    checksum: str | None = None


@frozen(kw_only=True)
class Step:
    """What a moment brought. Totals, ``current`` and ``checksum`` replace what was known, where they are set; the
    others add to it (``done`` may take back what a broken connection lost)."""

    bytes_total: int | None = None
    files_total: int | None = None
    done: int = 0
    sent: int = 0
    files: int = 0
    skipped: int = 0
    deleted: int = 0
    current: str | None = None
    checksum: str | None = None


def fold(progress: Progress, step: Step) -> Progress:
    """The progress after a step."""
    return Progress(
        bytes_total=progress.bytes_total if step.bytes_total is None else step.bytes_total,
        files_total=progress.files_total if step.files_total is None else step.files_total,
        bytes_done=max(0, progress.bytes_done + step.done),
        bytes_sent=progress.bytes_sent + step.sent,
        files_done=progress.files_done + step.files,
        files_skipped=progress.files_skipped + step.skipped,
        files_deleted=progress.files_deleted + step.deleted,
        current=progress.current if step.current is None else step.current,
        checksum=progress.checksum if step.checksum is None else step.checksum,
    )


# -- states -----------------------------------------------------------------------------------------------------------
@frozen(kw_only=True)
class Running:
    """Under way."""

    transfer_id: str
    request: TransferRequest
    started_at: int
    progress: Progress = Progress()


@frozen(kw_only=True)
class Completed:
    """All is there."""

    was: Running
    finished_at: int


@frozen(kw_only=True)
class Failed:
    """It could not go on; what had arrived stays for the next try."""

    was: Running
    finished_at: int
    error: LoopsyError


@frozen(kw_only=True)
class Cancelled:
    """Someone ended it; what had arrived stays for the next try."""

    was: Running
    finished_at: int


Finished = Completed | Failed | Cancelled
Transfer = Running | Finished


def info(transfer: Transfer) -> TransferInfo:
    """As the wire shows it."""
    running = transfer if isinstance(transfer, Running) else transfer.was
    error = transfer.error if isinstance(transfer, Failed) else None
    request, progress = running.request, running.progress
    return TransferInfo(
        transfer_id=running.transfer_id,
        direction=request.direction,
        peer=request.peer,
        sources=request.sources,
        destination=request.destination,
        state=type(transfer).__name__.lower(),
        started_at=running.started_at,
        finished_at=None if isinstance(transfer, Running) else transfer.finished_at,
        bytes_total=progress.bytes_total,
        bytes_done=progress.bytes_done,
        bytes_sent=progress.bytes_sent,
        files_total=progress.files_total,
        files_done=progress.files_done,
        files_skipped=progress.files_skipped,
        files_deleted=progress.files_deleted,
        current=None if progress.current is None else name_to_wire(progress.current),
        checksum=progress.checksum,
        error=None if error is None else sayable(error.message),
        error_code=None if error is None else error.code,
        hint=None if error is None or error.hint is None else sayable(error.hint),
        unreadable=request.direction == "send" and is_unreadable(error),
    )


def is_unreadable(error: LoopsyError | None) -> bool:
    """Whether the operating system refused: what the path policy refuses has no such cause, nor what a peer does."""
    cause = error.__cause__ if isinstance(error, PathDenied) else None
    return isinstance(cause, OSError) and cause.errno in (errno.EACCES, errno.EPERM)


def sayable(text: str) -> str:
    """Text that UTF-8 can hold: what isn't UTF-8 in a name is escaped."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


class TransferTable:
    """Those that run, and the last that ended."""

    def __init__(self) -> None:
        self._running: dict[str, Running] = {}
        self._finished: dict[str, Finished] = {}

    def start(self, transfer: Running) -> None:
        """A new one.

        :raises TooManyJobs: AT_ONCE run already.
        """
        if len(self._running) >= AT_ONCE:
            raise TooManyJobs(f"{AT_ONCE} transfers run already", retry_after=1, hint="see: loopsy transfers")
        self._running[transfer.transfer_id] = transfer

    def step(self, transfer_id: str, step: Step) -> None:
        """Progress of one that runs."""
        running = self._running.get(transfer_id)
        if running is not None:
            self._running[transfer_id] = evolve(running, progress=fold(running.progress, step))

    def finish(self, transfer_id: str, error: LoopsyError | None, cancelled: bool, now_ms: int) -> None:
        """It is over: well, unless it failed or was cancelled."""
        was = self._running.pop(transfer_id)
        ended: Finished
        if cancelled:
            ended = Cancelled(was=was, finished_at=now_ms)
        elif error is not None:
            ended = Failed(was=was, finished_at=now_ms, error=error)
        else:
            ended = Completed(was=was, finished_at=now_ms)
        self._finished[transfer_id] = ended
        while len(self._finished) > KEPT:
            del self._finished[next(iter(self._finished))]

    def get(self, transfer_id: str) -> Transfer:
        """One of them.

        :raises FileMissing: there is none of this id, or it is forgotten.
        """
        found = self._running.get(transfer_id) or self._finished.get(transfer_id)
        if found is None:
            raise FileMissing(f"there is no transfer {transfer_id}", hint="see: loopsy transfers")
        return found

    def all(self) -> tuple[Transfer, ...]:
        """All, newest first."""
        both: list[Transfer] = [*self._finished.values(), *self._running.values()]
        return tuple(sorted(both, key=_started, reverse=True))

    def running(self) -> tuple[str, ...]:
        """The ids of those that run."""
        return tuple(self._running)


def _started(transfer: Transfer) -> int:
    return transfer.started_at if isinstance(transfer, Running) else transfer.was.started_at


# -- where things go --------------------------------------------------------------------------------------------------
@frozen
class Move:
    """One source and the name it gets."""

    source: str
    target: str


def needs_look(sources: tuple[str, ...], destination: str) -> bool:
    """Whether one has to know if the destination is a directory."""
    return not destination.endswith("/") and not all(map(is_contents, sources))


def moves(sources: tuple[str, ...], destination: str, is_directory: bool) -> tuple[Move, ...]:
    """As cp has it: into a destination that ends in ``/`` or is a directory, else to that name. ``dir/.`` means what
    is in ``dir``.

    :raises InvalidRequest: several sources need a directory, or would overwrite each other.
    """
    inside = is_directory or destination.endswith("/")
    if not sources:
        raise InvalidRequest("sources: nothing to transfer")
    if len(sources) > 1 and not inside:
        raise InvalidRequest(
            f"several sources need a directory as their destination, and {destination!r} is none",
            hint=f"to make one, end it with a slash: {destination}/",
        )
    found = tuple(_move(source, destination, inside) for source in sources)
    for name in _twice(move.target for move in found):
        raise InvalidRequest(f"two sources would both become {name!r}")
    return found


def _move(source: str, destination: str, inside: bool) -> Move:
    if is_contents(source):
        return Move(source, destination.rstrip("/") or "/")
    name = source.rstrip("/").rpartition("/")[2]
    if not inside:
        return Move(source, destination)
    if name in ("", "~"):
        raise InvalidRequest(f"{source!r} has no name to give at the destination", hint=f"its content: {source}/.")
    return Move(source, f"{destination.rstrip('/')}/{name}")


def is_contents(source: str) -> bool:
    """Whether what is in a directory is meant, not the directory."""
    return source == "." or source.endswith("/.")


def _twice(names: Iterable[str]) -> Iterator[str]:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            yield name
        seen.add(name)
