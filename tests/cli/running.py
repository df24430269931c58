"""Running the command as a user does: a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

from tests.waiting import PATIENCE_S

# a cancel, which has five seconds, may take longer on a busy machine
PATIENT = "import loopsy.cli.interrupts as interrupts; interrupts.CANCEL_S = 120.0; "
KEY = "0123456789abcdef" * 4
COMMAND = (sys.executable, "-c", "import sys; from loopsy.cli.main import main; sys.exit(main())")


def environment(directory: Path) -> dict[str, str]:
    """Ours, with another data directory and no key in it."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("LOOPSY_")}
    return {**kept, "LOOPSY_DATA_DIR": str(directory)}


def configured(directory: Path, port: int) -> Path:
    """A data directory whose daemon would listen on ``port``."""
    (directory / "config.yaml").write_text(f"server:\n  port: {port}\nauth:\n  apiKey: {KEY}\n")
    return directory


def loopsy(directory: Path, *words: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """One command, to its end."""
    return subprocess.run(
        [*COMMAND, *words],
        input=stdin,
        capture_output=True,
        env=environment(directory),
        timeout=PATIENCE_S,
        check=False,
    )


def popen(directory: Path, *words: str) -> subprocess.Popen[bytes]:
    """One command, running; patient."""
    return subprocess.Popen(
        [*COMMAND[:-1], PATIENT + COMMAND[-1], *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(directory),
    )
