"""Sending: each source as a file or as a tree."""

from __future__ import annotations

import stat

from loopsy.core import transfers as rules
from loopsy.errors import FileMissing
from loopsy.services.sending_files import send_file
from loopsy.services.sending_trees import send_tree
from loopsy.services.transferring import Job, is_a_directory, parts_of
from loopsy.store.walk import find
from loopsy.wire.transfer import DIRECTORY


async def send(job: Job) -> None:
    """Send what the request names.

    :raises LoopsyError: it failed; what has arrived stays for the next try.
    """
    sources, destination = job.sources(), job.destination
    there = await job.files.look(destination) if rules.needs_look(sources, destination) else None
    begun = job.begun()
    is_directory = there is not None and there.type == DIRECTORY and not begun.is_noted()
    moves = rules.moves(sources, destination, is_directory)
    which = await job.turns().run(lambda: [is_tree(job, move.source) for move in moves])
    if there is None and any(which) and not job.request.dry_run:
        begun.note()
    for move, is_a_tree in zip(moves, which, strict=True):
        if is_a_tree:
            await send_tree(job, move)
        else:
            known = there if move.target == destination else await job.files.look(move.target)
            await send_file(job, move, known)
    begun.forget()


def is_tree(job: Job, source: str) -> bool:
    """Whether a source is a directory.

    :raises FileMissing: it isn't there. :raises TransferFailed: it is one, and the request isn't recursive.
    """
    with find(job.policy, parts_of(source)) as place:
        if place.status is None:
            raise FileMissing(f"{source} does not exist")
        if stat.S_ISDIR(place.status.st_mode) and not job.request.recursive:
            raise is_a_directory(source, "send")
        return stat.S_ISDIR(place.status.st_mode)
