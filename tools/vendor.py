"""Refreshes the dashboard's vendored files from the npm registry: ``make vendor``. Versions are pinned here.

Preact, its hooks and htm become one module (by esbuild, which runs only here): the page has no build step and so no
resolver, and three small files are three requests. xterm.js and its fit add-on are taken as published.
"""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
import tempfile
from pathlib import Path

TARGET = Path(__file__).parent.parent / "loopsy" / "web" / "pages" / "vendor"
VERSIONS = {"preact": "11.2.0", "htm": "3.1.1", "@xterm/xterm": "6.0.0", "@xterm/addon-fit": "0.11.0"}
ESBUILD = "0.25.0"
TAKEN = {
    "preact": {"LICENSE": "preact.LICENSE.txt"},
    "htm": {"LICENSE": "htm.LICENSE.txt"},
    "@xterm/xterm": {"lib/xterm.mjs": "xterm.js", "css/xterm.css": "xterm.css", "LICENSE": "xterm.LICENSE.txt"},
    "@xterm/addon-fit": {"lib/addon-fit.mjs": "fit.js", "LICENSE": "fit.LICENSE.txt"},
}
ENTRY = """
import { h } from "preact";
import htm from "htm";
export * from "preact";
export * from "preact/hooks";
export const html = htm.bind(h);
"""


def fetched(name: str, version: str) -> tarfile.TarFile:
    """A package as npm has it."""
    with tempfile.TemporaryDirectory() as folder:
        command = ["npm", "pack", "--pack-destination", folder, f"{name}@{version}"]
        subprocess.run(command, check=True, capture_output=True)
        (archive,) = Path(folder).glob("*.tgz")
        return tarfile.open(fileobj=io.BytesIO(archive.read_bytes()))


def take(name: str, version: str) -> None:
    """Write a package's files, without the pointers to source maps that aren't there."""
    archive = fetched(name, version)
    for source, target in TAKEN[name].items():
        member = archive.extractfile(f"package/{source}")
        assert member is not None, f"{name} {version} has no {source}"
        lines = member.read().splitlines(keepends=True)
        (TARGET / target).write_bytes(b"".join(line for line in lines if not line.startswith(b"//# sourceMap")))


def bundle() -> None:
    """Write Preact, its hooks and htm as one module."""
    with tempfile.TemporaryDirectory() as folder:
        packages = [f"{name}@{VERSIONS[name]}" for name in ("preact", "htm")] + [f"esbuild@{ESBUILD}"]
        subprocess.run(["npm", "install", "--prefix", folder, *packages], check=True, capture_output=True)
        (Path(folder) / "entry.js").write_text(ENTRY)
        command = ["npx", "--prefix", folder, "esbuild", f"{folder}/entry.js", "--bundle", "--format=esm", "--minify"]
        subprocess.run([*command, f"--outfile={TARGET / 'preact.js'}"], check=True, capture_output=True, cwd=folder)


def main() -> None:
    """Write every file, and what they are."""
    TARGET.mkdir(parents=True, exist_ok=True)
    for name, version in VERSIONS.items():
        take(name, version)
    bundle()
    (TARGET / "versions.json").write_text(json.dumps(VERSIONS, indent=2) + "\n")


if __name__ == "__main__":
    main()
