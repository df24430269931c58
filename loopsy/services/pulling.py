"""Pulling: each source as a file or as a tree."""

from __future__ import annotations

from loopsy.core import transfers as rules
from loopsy.errors import FileMissing
from loopsy.services.pulling_files import pull_file
from loopsy.services.pulling_trees import pull_tree
from loopsy.services.transferring import Job, is_a_directory, parts_of
from loopsy.store.walk import find
from loopsy.wire.transfer import DIRECTORY


async def pull(job: Job) -> None:
    """Pull what the request names.

    :raises LoopsyError: it failed; what has arrived stays for the next try.
    """
    sources, destination = job.sources(), job.destination
    begun = job.begun()
    is_directory = await job.turns().run(lambda: leads_to_directory(job, destination)) and not begun.is_noted()
    for move in rules.moves(sources, destination, is_directory):
        found = await job.files.look(move.source)
        if found is None:
            raise FileMissing(f"{move.source} does not exist on {job.peer}")
        if found.type == DIRECTORY:
            if not job.request.recursive:
                raise is_a_directory(move.source, "pull")
            if not is_directory and not job.request.dry_run:
                begun.note()
            await pull_tree(job, move)
        else:
            await pull_file(job, move, found)
    begun.forget()


def leads_to_directory(job: Job, path: str) -> bool:
    """Whether a path of ours is a directory."""
    try:
        with find(job.policy, parts_of(path)) as place:
            return place.is_directory
    except FileMissing:
        return False
