"""axe-core, which finds faults of accessibility in a page: fetched from npm into the tests' cache folder.

``python -m loopsy.testing.axe`` fetches it; where it can't be had, that says why and ends with 0.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
import tempfile
from functools import cache
from pathlib import Path

VERSION = "4.10.2"
MEMBER = "package/axe.min.js"
FETCH_S = 120.0
"""A megabyte, over a slow line."""


class Unavailable(Exception):
    """It can't be had; says why."""


def place() -> Path:
    """Where it lies, or would."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"))
    return base / "loopsy-tests" / f"axe-core-{VERSION}.js"


@cache
def source() -> str:
    """Its script.

    :raises Unavailable: it isn't there.
    """
    if not place().exists():
        raise Unavailable(f"axe-core {VERSION} is not at {place()} (make test-browser installs it)")
    return place().read_text()


def install() -> None:
    """Make sure that it is there.

    :raises Unavailable: it can't be fetched.
    """
    if place().exists():
        return
    npm = shutil.which("npm")
    if npm is None:
        raise Unavailable("axe-core comes from npm, which is not here")
    place().parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place().parent) as folder:
        command = [npm, "pack", "--silent", "--pack-destination", folder, f"axe-core@{VERSION}"]
        ran = subprocess.run(command, capture_output=True, text=True, timeout=FETCH_S, check=False)
        archives = list(Path(folder).glob("*.tgz"))
        if ran.returncode or not archives:
            raise Unavailable(f"npm could not fetch axe-core: {ran.stderr.strip()[-500:]}")
        with tarfile.open(archives[0]) as archive:
            script = archive.extractfile(MEMBER)
            assert script is not None
            whole = Path(folder) / "axe.js"
            whole.write_bytes(script.read())
        whole.replace(place())


def main() -> None:
    """Fetch it."""
    try:
        install()
    except (Unavailable, subprocess.TimeoutExpired) as why:
        print(f"accessibility is not tested: {why}")


if __name__ == "__main__":
    main()
