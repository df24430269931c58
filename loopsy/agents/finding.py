"""Where an agent's CLI lies on this machine, and which version it is."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

USUAL = (
    "~/.local/bin",
    "~/.claude/local",
    "~/.npm-global/bin",
    "~/.volta/bin",
    "~/.bun/bin",
    "~/.yarn/bin",
    "~/.local/share/pnpm",
    "~/Library/pnpm",
    "/opt/homebrew/bin",
    "/home/linuxbrew/.linuxbrew/bin",
    "/usr/local/bin",
    "/usr/bin",
)
"""Where installers put commands. A daemon that the system started has a short PATH that lacks most of these."""
MANAGED = (".nvm/versions/node", ".local/share/fnm/node-versions", ".local/share/mise/installs/node")
"""Below the home, one folder per version of node."""
VERSION_S = 20.0
"""Gemini takes 2 s on an idle machine."""


def find(agent: str, environment: Mapping[str, str]) -> str | None:
    """The absolute path of an agent's command; None: it isn't here. Only absolute entries of PATH count: a command that
    lies in whatever directory one happens to be in is nobody's installation."""
    for directory in _directories(environment):
        if found := shutil.which(agent, path=directory):
            return found
    return None


def _directories(environment: Mapping[str, str]) -> Iterator[str]:
    yield from filter(os.path.isabs, environment.get("PATH", "").split(os.pathsep))
    home = Path(environment.get("HOME") or os.path.expanduser("~"))
    yield from (str(home / place[2:]) if place.startswith("~/") else place for place in USUAL)
    for manager in MANAGED:
        for folder in sorted((home / manager).glob("v*" if "nvm" in manager else "*"), key=_order, reverse=True):
            yield from (str(folder / "bin"), str(folder / "installation" / "bin"))


def _order(folder: Path) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", folder.name)))


def with_neighbours(environment: Mapping[str, str], executable: str) -> dict[str, str]:
    """The environment with the folder of the executable at the end of PATH: one that node runs finds node there."""
    folder, path = os.path.dirname(executable), environment.get("PATH", os.defpath)
    if folder in path.split(os.pathsep):
        return dict(environment)
    return {**environment, "PATH": f"{path}{os.pathsep}{folder}"}


def version(executable: str, environment: Mapping[str, str]) -> str | None:
    """What ``--version`` says, as numbers; None: nothing of the kind. Blocks for seconds: call it in a thread."""
    try:
        done = subprocess.run(
            [executable, "--version"],
            env=with_neighbours(environment, executable),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=VERSION_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    said = re.search(rb"\d+\.\d+(?:\.\d+)*(?:-[\w.]+)?", done.stdout)
    return said[0].decode() if said else None
