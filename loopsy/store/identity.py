"""This node's id: made once, the same ever after."""

from __future__ import annotations

import uuid

from loopsy.errors import DataDirError
from loopsy.store import atomic
from loopsy.store.layout import Layout


def node_id(layout: Layout) -> str:
    """The id in the data directory, made if there is none.

    :raises DataDirError: the file holds something else.
    """
    try:
        text = layout.node_id.read_text().strip()
    except FileNotFoundError:
        return _make(layout)
    except (OSError, UnicodeDecodeError) as error:
        raise DataDirError(f"{layout.node_id} can't be read: {error}") from None
    try:
        return str(uuid.UUID(text))
    except ValueError:
        raise DataDirError(
            f"{layout.node_id} should hold this node's id (a UUID)", hint="remove the file to get a new id"
        ) from None


def _make(layout: Layout) -> str:
    made = str(uuid.uuid4())
    try:
        atomic.write(layout.node_id, f"{made}\n".encode(), replace=False)
    except FileExistsError:
        return node_id(layout)
    return made
