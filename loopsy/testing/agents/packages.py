"""The agent CLIs that tests drive: which versions, where they lie, and how they get there.

They come from the npm registry into a cache folder outside of the project, about 850 MB for all three: each into a
folder of its own that carries its version, put in place whole, so that what is there is complete. Nothing of it is
installed for the user.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from attrs import frozen

CACHE_VARIABLE = "LOOPSY_TEST_AGENTS"
INSTALL_S = 900.0
"""400 MB each, over a slow line."""


class Unavailable(Exception):
    """An agent can't be had on this machine; says why."""


@frozen(kw_only=True)
class Package:
    """One agent CLI on the npm registry."""

    agent: str
    """Also the command's name."""
    name: str
    version: str
    node: int
    """The least major version of node that runs it."""
    script: str | None = None
    """What has to be run once after unpacking, under ``node_modules``. npm 11 asks for approval of install scripts and
    npm 10 runs those of all packages; we run this one, by name, with either."""


PACKAGES = {
    package.agent: package
    for package in (
        Package(
            agent="claude", name="@anthropic-ai/claude-code", version="2.1.330", node=18,
            script="@anthropic-ai/claude-code/install.cjs",
        ),
        Package(agent="codex", name="@openai/codex", version="0.169.0", node=16),
        Package(agent="gemini", name="@google/gemini-cli", version="0.61.0", node=20),
    )
}  # fmt: skip
"""The one place where versions are pinned."""


def cache() -> Path:
    """The folder for all of it: ``$LOOPSY_TEST_AGENTS``, or ``loopsy-tests/agents`` under the user's cache folder."""
    if chosen := os.environ.get(CACHE_VARIABLE):
        return Path(chosen).absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")) / "loopsy-tests" / "agents"


def folder(package: Package) -> Path:
    """Where this version lies, or would."""
    return cache() / f"{package.agent}-{package.version}"


def find(agent: str) -> Path:
    """The folder with the command of an agent.

    :raises Unavailable: it isn't installed, or can't run here.
    """
    package = PACKAGES[agent]
    _check_node(package)
    commands = folder(package) / "node_modules" / ".bin"
    if not (commands / agent).exists():
        raise Unavailable(f"{agent} {package.version} is not in {cache()} (make test-agents installs it)")
    return commands


def install(agent: str) -> Path:
    """Make sure that an agent is there; the folder with its command.

    :raises Unavailable: it can't be installed, or can't run here.
    """
    package = PACKAGES[agent]
    _check_node(package)
    if not folder(package).exists():
        _fetch(package)
    return find(agent)


def _fetch(package: Package) -> None:
    npm = shutil.which("npm")
    if npm is None:
        raise Unavailable(f"{package.agent} needs npm to be installed, which is not here")
    cache().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="installing-", dir=cache(), ignore_cleanup_errors=True) as made:
        target = Path(made) / "whole"
        target.mkdir()
        (target / "package.json").write_text('{"private": true}')
        _run([npm, "install", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error",
              f"{package.name}@{package.version}"], target)  # fmt: skip
        if package.script:
            _run([node(), str(target / "node_modules" / package.script)], target)
        try:
            target.rename(folder(package))
        except OSError:
            if not folder(package).exists():  # else another run was quicker
                raise


def _run(argv: list[str], cwd: Path) -> None:
    try:
        done = subprocess.run(argv, cwd=cwd, capture_output=True, text=True, timeout=INSTALL_S, check=False)
    except subprocess.TimeoutExpired:
        raise Unavailable(f"{argv[0]} did not end within {INSTALL_S:g} s") from None
    if done.returncode:
        raise Unavailable(f"{' '.join(argv[:2])} failed: {(done.stderr or done.stdout).strip()[-2000:]}")


def node() -> str:
    """The path of node.

    :raises Unavailable: there is none.
    """
    found = shutil.which("node")
    if found is None:
        raise Unavailable("node is not installed")
    return found


def _check_node(package: Package) -> None:
    said = subprocess.run([node(), "--version"], capture_output=True, text=True, timeout=30, check=False).stdout
    match = re.match(r"v(\d+)\.", said)
    if match is None or int(match[1]) < package.node:
        raise Unavailable(f"{package.agent} needs node {package.node} or newer; here it is {said.strip() or 'unknown'}")
