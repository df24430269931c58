"""Machines that run an older version."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from loopsy.errors import UnknownRoute, VersionMismatch


@contextlib.contextmanager
def there(label: str, what: str) -> Iterator[None]:
    """A machine that knows no such address runs an older version.

    :raises VersionMismatch: so it is.
    """
    try:
        yield
    except UnknownRoute:
        raise VersionMismatch(f"{label} runs a version of loopsy without {what}", hint="update it there") from None
