"""What goes without a person: by the task's permission mode."""

from __future__ import annotations

import os
from pathlib import PurePath

from attrs import frozen

from loopsy.agents.adapter import Asked
from loopsy.wire.tasks import ACCEPT_EDITS, BYPASS, DONT_ASK


@frozen
class Settled:
    """An answer that needs no person."""

    approved: bool
    message: str | None = None


ALLOWED = Settled(True)
NOBODY_ASKS = Settled(False, "denied: this task asks nobody (permissionMode dontAsk)")


def settled(mode: str, asked: Asked, cwd: str) -> Settled | None:
    """The answer, or None: a person decides. The CLIs have such modes too, but mean different things by them: with
    Claude's, some commands go through with the edits; Codex's lets commands run in a sandbox."""
    if mode == BYPASS:
        return ALLOWED
    if mode == DONT_ASK:
        return NOBODY_ASKS
    if mode == ACCEPT_EDITS and asked.kind == "edit" and asked.paths:
        return ALLOWED if all(harmless(path, cwd) for path in asked.paths) else None
    return None


def harmless(path: str, cwd: str) -> bool:
    """Whether a file lies in the task's directory, links followed, and no part of its way there is hidden: what lies in
    ``.git``, ``.claude``, ``.vscode`` and their like makes programs run."""
    try:
        root = os.path.realpath(cwd)
        real = os.path.realpath(os.path.join(root, path))
    except ValueError:  # a NUL
        return False
    if os.path.commonpath([root, real]) != root or real == root:
        return False
    return not any(part.startswith(".") for part in PurePath(os.path.relpath(real, root)).parts)
