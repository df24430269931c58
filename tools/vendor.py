"""Refreshes the dashboard's vendored files from the npm registry: ``make vendor``. Versions are pinned here.

Files are taken as published; the one change is that a bare ``"preact"`` import becomes a file's name, since a
page without a build step has no resolver.
"""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
import tempfile
from pathlib import Path

TARGET = Path(__file__).parent.parent / "loopsy" / "web" / "pages" / "vendor"
PACKAGES: dict[str, tuple[str, dict[str, str]]] = {
    "preact": ("11.2.0", {"dist/preact.mjs": "preact.js", "hooks/dist/hooks.mjs": "hooks.js", "LICENSE": "preact.txt"}),
    "htm": ("3.1.1", {"dist/htm.module.js": "htm.js", "LICENSE": "htm.txt"}),
    "@xterm/xterm": ("6.0.0", {"lib/xterm.mjs": "xterm.js", "css/xterm.css": "xterm.css", "LICENSE": "xterm.txt"}),
    "@xterm/addon-fit": ("0.11.0", {"lib/addon-fit.mjs": "fit.js", "LICENSE": "fit.txt"}),
}


def fetched(name: str, version: str) -> tarfile.TarFile:
    """A package as npm has it."""
    with tempfile.TemporaryDirectory() as folder:
        command = ["npm", "pack", "--json", "--pack-destination", folder, f"{name}@{version}"]
        subprocess.run(command, check=True, capture_output=True)
        (archive,) = Path(folder).glob("*.tgz")
        return tarfile.open(fileobj=io.BytesIO(archive.read_bytes()))


def taken(text: bytes) -> bytes:
    """A file as it is served: without the pointer to a source map that isn't there."""
    lines = [line for line in text.splitlines(keepends=True) if not line.startswith(b"//# sourceMappingURL")]
    return b"".join(lines).replace(b'from"preact"', b'from"./preact.js"').replace(b"from'preact'", b"from'./preact.js'")


def main() -> None:
    """Write every file, and what they are."""
    TARGET.mkdir(parents=True, exist_ok=True)
    for name, (version, wanted) in PACKAGES.items():
        archive = fetched(name, version)
        for source, target in wanted.items():
            member = archive.extractfile(f"package/{source}")
            assert member is not None, f"{name} {version} has no {source}"
            (TARGET / target).write_bytes(taken(member.read()))
    versions = {name: version for name, (version, _) in PACKAGES.items()}
    (TARGET / "versions.json").write_text(json.dumps(versions, indent=2) + "\n")


if __name__ == "__main__":
    main()
