"""The import contracts of setup.cfg hold, and would say so if they didn't."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.waiting import PATIENCE_S

ROOT = Path(__file__).parent.parent
LINT = "import sys; from importlinter.cli import lint_imports_command; sys.exit(lint_imports_command())"


def linted(root: Path) -> subprocess.CompletedProcess[str]:
    """What import-linter says of the copy in ``root``."""
    return subprocess.run(
        [sys.executable, "-c", LINT, "--no-cache"],
        cwd=root,
        env={"PYTHONPATH": str(root), "PATH": "", "HOME": str(root)},
        capture_output=True,
        text=True,
        timeout=3 * PATIENCE_S,
        check=False,
    )


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The package and its contracts, to be spoilt."""
    shutil.copytree(ROOT / "loopsy", tmp_path / "loopsy", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "setup.cfg", tmp_path)
    return tmp_path


def test_they_hold(copy: Path) -> None:
    done = linted(copy)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("module", "line", "contract"),
    [
        ("core/peers.py", "from twisted.internet import defer", "core and wire decide without I/O"),
        ("core/rates.py", "import time", "core and wire decide without I/O"),
        ("wire/urls.py", "from loopsy.core import peers", "layers: errors"),
        ("web/status.py", "from loopsy.store import older", "web reaches what is stored only through services"),
        ("client/http1.py", "from loopsy.services import clock", "the clients know the wire"),
        ("cli/jobs.py", "from loopsy.services import clock", "the command line asks the daemon"),
    ],
)
def test_a_forbidden_import_breaks_one_that_is_named(copy: Path, module: str, line: str, contract: str) -> None:
    with open(copy / "loopsy" / module, "a") as file:
        file.write(f"\n{line}\n")
    done = linted(copy)
    assert done.returncode == 1, done.stdout + done.stderr
    told = " ".join(done.stdout.split())  # its lines are as wide as the terminal
    assert contract in told.partition("Broken contracts")[2], done.stdout
