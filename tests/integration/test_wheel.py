"""The wheel in a fresh venv: all that is needed is in it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from loopsy._version import VERSION
from loopsy.testing.nodes import free_port

ROOT = Path(__file__).parent.parent.parent
SOURCES = ("loopsy", "twisted", "setup.cfg", "pyproject.toml", "LICENSE", "README.md", "CHANGELOG.md")


def call(argv: list[object], cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """A program that knows nothing of this tree."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "LOOPSY_", "VIRTUAL"))}
    return subprocess.run(
        [str(word) for word in argv],
        cwd=cwd,
        env={**kept, **env},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def test_a_wheel_installed_into_a_fresh_venv_works(tmp_path: Path) -> None:
    tree, elsewhere, home = tmp_path / "tree", tmp_path / "elsewhere", tmp_path / "home"
    for directory in (tree, elsewhere, home):
        directory.mkdir()
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__", "dropin.cache"))
        elif (ROOT / name).exists():
            shutil.copy(ROOT / name, tree)
    venv.create(tmp_path / "venv", with_pip=True)
    bin_ = tmp_path / "venv" / "bin"
    pip = [bin_ / "python", "-m", "pip", "--disable-pip-version-check", "--retries", "1", "--timeout", "20"]
    reachable = call([*pip, "download", "--no-deps", "--dest", tmp_path / "trial", "incremental"], elsewhere)
    if reachable.returncode != 0:
        pytest.skip(f"the package registry can't be reached: {reachable.stderr.strip()[-200:]}")
    built = call([*pip, "wheel", "--no-deps", "--wheel-dir", tmp_path / "dist", tree], elsewhere)
    assert built.returncode == 0, built.stderr
    (wheel,) = (tmp_path / "dist").glob("loopsy-*.whl")
    installed = call([*pip, "install", wheel], elsewhere)
    assert installed.returncode == 0, installed.stderr

    (package,) = (tmp_path / "venv").glob("lib/python*/site-packages/loopsy")
    source = {path.relative_to(tree / "loopsy") for path in (tree / "loopsy").rglob("*") if path.is_file()}
    there = {path.relative_to(package) for path in package.rglob("*") if "__pycache__" not in path.parts}
    assert source - there == set()
    assert (package / "py.typed").exists()
    assert not [path for path in (package.parent / "twisted").glob("**/__init__.py") if "loopsy" in path.read_text()]

    assert call([bin_ / "loopsy", "--version"], elsewhere).stdout == f"loopsy {VERSION}\n"
    assert "\n    loopsy " in call([bin_ / "twistd", "--help"], elsewhere).stdout
    steps = (
        ("init", "--no-mcp", "--host", "127.0.0.1", "--port", free_port()),
        ("start",),
        ("exec", ".", "true"),
        ("context", "set", "k", "v"),
        ("stop",),
    )
    for step in steps:
        done = call([bin_ / "loopsy", *step], elsewhere, HOME=str(home))
        assert done.returncode == 0, (step, done.stdout, done.stderr)
    assert list(elsewhere.iterdir()) == []
    assert sys.executable not in (home / ".loopsy" / "logs" / "daemon.log").read_text()
    shutil.rmtree(tmp_path / "venv")  # pytest keeps what tests leave, and disks are small
