"""Whether the user has told Claude Code that a directory is his to trust.

In a terminal it asks before it takes settings, hooks and servers from a directory; headless it takes them unasked, and
whoever could put files there would run commands. So a session looks at what the user answered in the terminal.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

READ_MAX = 64 * 1024 * 1024
"""Bytes of its record, which also keeps histories: some have grown to 20 MB."""


def trusted(directory: str, environment: Mapping[str, str]) -> bool:
    """Whether the directory, or one above it, is trusted."""
    home = environment.get("HOME") or os.path.expanduser("~")
    record = Path(environment.get("CLAUDE_CONFIG_DIR") or home) / ".claude.json"
    try:
        with record.open("rb") as file:
            projects = json.loads(file.read(READ_MAX))["projects"]
        real = Path(os.path.realpath(directory))
        return any(
            projects.get(str(place), {}).get("hasTrustDialogAccepted") is True for place in (real, *real.parents)
        )
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return False
