"""A stand-in for Claude Code: a small script that speaks its lines of JSON and does what the prompt says, for tests
that must not wait for the real one. ``install`` puts it on a PATH, as ``claude``."""

from __future__ import annotations

import os
import sys
from pathlib import Path

SCRIPT = Path(__file__).with_name("claude.py")


def install(directory: str | os.PathLike[str]) -> str:
    """Make ``directory/claude``; the directory, for PATH."""
    place = Path(directory)
    place.mkdir(parents=True, exist_ok=True)
    command = place / "claude"
    command.write_text(f"#!/bin/sh\nexec {sys.executable} -S -E {SCRIPT} \"$@\"\n")
    command.chmod(0o755)
    return str(place)
