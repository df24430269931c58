"""Files of this machine, read and written for those who may: the daemon's side of a transfer."""

from __future__ import annotations

import os
import secrets
import stat
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from attrs import define, field
from twisted.application.service import Service

from loopsy.core import transfer as rules
from loopsy.core import uploads as upload_rules
from loopsy.core.principals import Local, Principal
from loopsy.core.transfer import Parts, PathPolicy
from loopsy.errors import InvalidRequest
from loopsy.services.settings import Settings
from loopsy.services.threads import Threads
from loopsy.store import trees, walk
from loopsy.store.apply import Applying
from loopsy.store.files import OpenFile, Part, check_plain, moved, open_plain, version
from loopsy.store.walk import Place
from loopsy.wire import codec, entries
from loopsy.wire.transfer import Applied, FetchRequest, ManifestEntry, ManifestRequest, Pushed, name_to_wire

REMEMBERED = 4096
"""Checksums known for files that were not changed since; some 400 KiB."""
TICKETS, TICKET_S = 4096, 24 * 3600.0
"""Trees under way: their further requests are not counted as transfers."""
SPOOL = "spool"
Sendable = OpenFile
"""A file on its way out, as the edge sees it."""


class Tickets:
    """Which requests belong to a transfer that was counted already."""

    def __init__(self) -> None:
        self._given: OrderedDict[str, tuple[str, float]] = OrderedDict()

    def give(self, principal: Principal) -> str:
        """A new one."""
        ticket = secrets.token_hex(16)
        self._given[ticket] = (principal.name, time.monotonic() + TICKET_S)
        if len(self._given) > TICKETS:
            self._given.popitem(last=False)
        return ticket

    def holds(self, principal: Principal, ticket: str | None) -> bool:
        """Whether this is one of this caller's."""
        name, until = self._given.get(ticket or "", ("", 0.0))
        return name == principal.name and time.monotonic() < until


class Transfer(Service):
    """Opens, lists and writes. Every function named ``…_now`` blocks and belongs into a thread."""

    name = "transfer"

    def __init__(self, reactor: Any, settings: Settings) -> None:
        self._settings = settings
        self._threads = Threads(reactor, "transfer")
        self.in_thread, self.in_background = self._threads.quick, self._threads.bulk
        self._checksums: OrderedDict[str, str] = OrderedDict()
        self._home = os.path.expanduser("~")
        self._data_dir = str(settings.layout.root)
        self._stopping = False
        self.tickets = Tickets()

    def startService(self) -> None:
        """Start the threads, make room for spooled files."""
        super().startService()
        spool = os.path.join(self._data_dir, SPOOL)
        os.makedirs(spool, mode=0o700, exist_ok=True)
        for left in os.listdir(spool):  # of a run that was killed, where files can't go without a name
            with suppress(OSError):
                os.unlink(os.path.join(spool, left))
        self._threads.start()

    def stopService(self) -> None:
        """Wait for what the threads have in hand."""
        super().stopService()
        self._stopping = True
        self._threads.stop()

    @property
    def max_file_size(self) -> int:
        """Bytes."""
        return self._settings.config.transfer.max_file_size

    # -- where ------------------------------------------------------------------------------------------------------
    def parts(self, text: str) -> Parts:
        """A path of the wire.

        :raises InvalidRequest: it isn't one.
        """
        return rules.from_wire(text, self._home)

    def policy_now(self, principal: Principal) -> PathPolicy:
        """What this caller may touch."""
        everywhere = isinstance(principal, Local)
        return walk.policy(self._settings.config.transfer, self._home, self._data_dir, everywhere=everywhere)

    def find_now(self, principal: Principal, path: str, *, make: bool = False) -> Place:
        """The place of a path; close it."""
        return walk.find(self.policy_now(principal), self.parts(path), make=make)

    def destination_now(self, principal: Principal, path: str, filename: str | None) -> Place:
        """Where a file is to be written: in the directory that ``path`` is, under its own name, or at ``path``.

        :raises TransferFailed: there is a directory, or a fifo, device or socket.
        """
        parts, policy = self.parts(path), self.policy_now(principal)
        into = path.endswith("/")
        if not into:
            place = walk.find(policy, parts, make=True)
            if not place.is_directory:
                return _checked(place)
            place.close()
        return _checked(walk.find(policy, (*parts, rules.file_name(filename)), make=True))

    # -- reading ----------------------------------------------------------------------------------------------------
    def open_now(self, principal: Principal, path: str) -> OpenFile:
        """A file to send."""
        with self.find_now(principal, path) as place:
            return OpenFile(open_plain(place.directory, place.name, place.parts), place.parts)

    def list_now(self, principal: Principal, path: str) -> Iterator[bytes]:
        """The JSON of a FileList, in pieces."""
        policy = self.policy_now(principal)
        with walk.find(policy, self.parts(path)) as place:
            found = trees.listing(place.open_directory(), place.parts, policy)
        return trees.gathered(_listing(codec.dump(entry) for entry in found))

    def manifest_now(self, principal: Principal, request: ManifestRequest) -> Iterator[bytes]:
        """The NDJSON of a tree, in pieces."""
        policy = self.policy_now(principal)
        with walk.find(policy, self.parts(request.path)) as place:
            survey = trees.Survey(
                policy=policy,
                parts=place.parts,
                checksum=request.checksum,
                exclude=request.exclude,
                depth=request.depth,
                remembered=lambda status: self._checksums.get(version(status)),
                stop=lambda: self._stopping,
            )
            if place.status is None:
                place.open_directory()  # which says that it is missing
            found = trees.manifest(place.directory.copy(), place.name, survey)
        return trees.gathered(entries.head(entry) for entry in found)

    def fetch_now(self, principal: Principal, request: FetchRequest) -> Iterator[bytes]:
        """Small files as entries with content, in pieces."""
        policy = self.policy_now(principal)
        with walk.find(policy, self.parts(request.path)) as place:
            root = place.open_directory()
            return trees.gathered(trees.contents(root, place.parts, policy, request.paths))

    # -- checksums --------------------------------------------------------------------------------------------------
    def known_checksum(self, status: os.stat_result) -> str | None:
        """The SHA-256 of a file whose content we have hashed, and which has not changed since."""
        return self._checksums.get(version(status))

    def remember(self, status: os.stat_result, checksum: str) -> None:
        """Know a checksum from now on."""
        self._checksums[version(status)] = checksum
        if len(self._checksums) > REMEMBERED:
            self._checksums.popitem(last=False)

    def published(self, status: os.stat_result, parts: Parts, checksum: str, started: float) -> Pushed:
        """A file is in its place. ``started`` of ``time.monotonic``."""
        self.remember(status, checksum)
        return Pushed(
            path=name_to_wire("/" + "/".join(parts)),
            size=status.st_size,
            checksum=checksum,
            duration=round((time.monotonic() - started) * 1000),
        )

    # -- writing ----------------------------------------------------------------------------------------------------
    def spool_now(self) -> Part:
        """A part whose destination is not known yet."""
        return Part.unnamed(walk.open_directory(os.path.join(self._data_dir, SPOOL)))

    def apply_now(self, principal: Principal, path: str) -> Applier:
        """A root to write entries below, made where it is missing."""
        policy = self.policy_now(principal)
        with walk.find(policy, self.parts(path), make=True) as place:
            if place.status is None:
                with walk.telling(place.parts):
                    place.directory.make_directory(place.name)
                place.status = place.directory.status(place.name)
            return Applier(Applying(policy, place.open_directory(), place.parts, self.max_file_size))


def _checked(place: Place) -> Place:
    """A place that a file may be put at."""
    try:
        if place.status is not None and not stat.S_ISREG(place.status.st_mode):
            check_plain(place.status, place.parts)
    except BaseException:
        place.close()
        raise
    return place


def _listing(files: Iterator[bytes]) -> Iterator[bytes]:
    lead = b'{"files":['
    for file in files:
        yield lead + file
        lead = b","
    yield b"]}" if lead == b"," else lead + b"]}"


@define
class Incoming:
    """One pushed file: written where it goes as soon as that is known, and spooled until then. Lives in a thread."""

    transfer: Transfer
    principal: Principal
    expected: int | None = None
    """Bytes, as far as the head of the request tells."""
    path: str | None = None
    filename: str | None = None
    checksum: str | None = None
    part: Part | None = None
    place: Place | None = None

    def write(self, chunks: list[bytes]) -> None:
        """Some of the file."""
        self._open()
        assert self.part is not None
        rules.check_size(self.part.size + sum(map(len, chunks)), self.transfer.max_file_size)
        with walk.telling(self.place.parts if self.place else ("…",)):
            self.part.write(chunks)

    def _open(self) -> None:
        if self.place is None and self.path is not None:
            self.place = self.transfer.destination_now(self.principal, self.path, self.filename)
        if self.part is not None:
            return
        if self.place is not None:
            rules.check_room(self.expected or 0, self.place.directory.free())
            with walk.telling(self.place.parts):
                self.part = Part.unnamed(self.place.directory.copy())
        else:
            self.part = self.transfer.spool_now()
            rules.check_room(self.expected or 0, self.part.directory.free())

    def publish(self, started: float) -> Pushed:
        """All is here.

        :raises ChecksumMismatch: it is not what was announced.
        """
        self._open()
        if self.place is None:
            raise InvalidRequest("the field destPath is missing")
        assert self.part is not None
        upload_rules.check_content(self.checksum, self.part.checksum)
        with walk.telling(self.place.parts):
            if walk.identity(self.part.directory.own_status()) != walk.identity(self.place.directory.own_status()):
                rules.check_room(self.part.size, self.place.directory.free())
                self.part = moved(self.part, Place(self.place.directory.copy(), "", (), None))
            checksum = self.part.checksum
            status = self.part.publish(self.place.name, None, None)
        self.part = None
        return self.transfer.published(status, self.place.parts, checksum, started)

    def close(self) -> None:
        """Whatever was reached: what is not in its place is gone."""
        if self.part is not None:
            self.part.discard()
            self.part = None
        if self.place is not None:
            self.place.close()
            self.place = None


@define
class Applier:
    """A stream of entries on its way into a tree. Lives in a thread."""

    applying: Applying
    decoder: entries.Decoder = field(factory=entries.Decoder)

    def write(self, chunks: list[bytes]) -> None:
        """Some of the stream."""
        for chunk in chunks:
            for item in self.decoder.feed(chunk):
                if isinstance(item, ManifestEntry):
                    self.applying.entry(item)
                else:
                    self.applying.content(item)

    def finish(self) -> Applied:
        """That was all.

        :raises InvalidRequest: it wasn't.
        """
        self.decoder.end()
        return self.applying.finish()

    def close(self) -> None:
        """Whatever was reached."""
        self.applying.close()
