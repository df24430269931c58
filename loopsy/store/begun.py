"""Notes of trees that were begun under a new name.

``send -r site kai www`` makes www a copy of site where there is no www, and www/site where there is one. A run that was
broken off has made www already, so what the name meant at first is noted until the copy is whole.
"""

from __future__ import annotations

import os
from contextlib import suppress
from hashlib import sha256

PREFIX = "begun-"


class Begun:
    """The note of one request."""

    def __init__(self, notes: str, *words: str) -> None:
        """``words`` are what makes a request the same one."""
        name = PREFIX + sha256("\0".join(words).encode("utf-8", "surrogateescape")).hexdigest()[:32]
        self._directory, self._path = notes, os.path.join(notes, name)

    def is_noted(self) -> bool:
        """Whether it was begun, and not finished."""
        return os.path.exists(self._path)

    def note(self) -> None:
        """It begins."""
        os.makedirs(self._directory, mode=0o700, exist_ok=True)
        os.close(os.open(self._path, os.O_WRONLY | os.O_CREAT, 0o600))

    def forget(self) -> None:
        """It is whole."""
        with suppress(FileNotFoundError):
            os.unlink(self._path)
