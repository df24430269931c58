"""Unfinished pulls: parts beside their destination that a later pull of the same source goes on with.

A part's name is made of our key, the destination, the source and the source's version, so it is found again and nobody
else can guess it. A note in the data directory says where it lies, so that it can be swept when nobody comes back.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Callable
from contextlib import suppress
from hashlib import sha256

from loopsy.core.transfer import shown
from loopsy.errors import TransferFailed
from loopsy.store.begun import PREFIX
from loopsy.store.filelock import try_lock
from loopsy.store.files import PART_PREFIX, PART_SUFFIX, Part, digest
from loopsy.store.walk import Place, telling

LIFE_S = 24 * 3600
"""A part that nobody went on with for so long is removed."""
HALF = 16
"""Hex digits for what is pulled, and as many for its version: as long as the names of all parts."""


class Pulls:
    """The parts and their notes."""

    def __init__(self, notes: str, secret: bytes) -> None:
        self._notes, self._secret = notes, secret

    def name(self, place: Place, source: str, version: str) -> str:
        """The name of the part of one version of a source."""
        what = self._digest(shown(place.parts), source)
        return f"{PART_PREFIX}{what}{self._digest(version)}{PART_SUFFIX}"

    def _digest(self, *words: str) -> str:
        text = "\0".join(words).encode("utf-8", "surrogateescape")
        return hmac.new(self._secret, text, sha256).hexdigest()[:HALF]

    def held(self, place: Place, name: str) -> int:
        """Bytes that are there of a part."""
        status = place.directory.status(name)
        return status.st_size if status is not None else 0

    def open(self, place: Place, name: str, start: int, stop: Callable[[], bool]) -> Part:
        """The part of that name with its first ``start`` bytes. Other versions' parts are removed.

        :raises TransferFailed: another transfer writes it now.
        """
        with telling(place.parts):
            self._remove_others(place, name)
            self._note(place, name)
            descriptor = place.directory.open_file(name, os.O_RDWR | os.O_CREAT)
        part = Part(place.directory.copy(), descriptor, name)
        try:
            self._check(part, place)
            part.rewind(start, digest(descriptor, start, stop))
        except BaseException:
            part.close()
            raise
        return part

    def _check(self, part: Part, place: Place) -> None:
        status = os.fstat(part.fd)
        if status.st_nlink != 1 or (hasattr(os, "geteuid") and status.st_uid != os.geteuid()):
            raise TransferFailed(f"{shown(place.parts)}: what lies beside it is no part of ours")
        if not try_lock(part.fd):
            raise TransferFailed(f"{shown(place.parts)} is being written by another transfer")

    def _remove_others(self, place: Place, name: str) -> None:
        same = name[: len(PART_PREFIX) + HALF]
        with suppress(OSError):
            for other in place.directory.names():
                if other.startswith(same) and other.endswith(PART_SUFFIX) and other != name:
                    place.directory.remove(other)
                    self.forget(other)

    # -- notes ------------------------------------------------------------------------------------------------------
    def _note(self, place: Place, name: str) -> None:
        os.makedirs(self._notes, mode=0o700, exist_ok=True)
        directory = os.fsencode("/" + "/".join(place.parts[:-1]))
        descriptor = os.open(os.path.join(self._notes, name), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            os.write(descriptor, directory)
        finally:
            os.close(descriptor)

    def forget(self, name: str) -> None:
        """It is finished."""
        with suppress(OSError):
            os.unlink(os.path.join(self._notes, name))

    def sweep(self, now: float) -> int:
        """Remove the parts that nobody went on with; returns how many. ``now`` is of ``time.time``."""
        try:
            names = os.listdir(self._notes)
        except OSError:
            return 0
        return sum(self._sweep(name, now) for name in names)

    def _sweep(self, name: str, now: float) -> bool:
        note = os.path.join(self._notes, name)
        with suppress(OSError):
            if name.startswith(PREFIX):
                if now - os.lstat(note).st_mtime >= LIFE_S:
                    os.unlink(note)
                return False
            with open(note, "rb") as file:
                part = os.path.join(os.fsdecode(file.read()), name)
            try:
                if now - os.lstat(part).st_mtime < LIFE_S:
                    return False
                os.unlink(part)
            except FileNotFoundError:
                pass
            os.unlink(note)
            return True
        return False
