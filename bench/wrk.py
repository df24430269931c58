"""Load by wrk."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from bench.table import BenchError


def command(port: int, path: str, connections: int, seconds: int, script: Path | None, key: str) -> list[str]:
    """wrk's command line: one thread, so that the other core is the server's.

    :raises BenchError: there is no wrk here.
    """
    if shutil.which("wrk") is None:
        raise BenchError("wrk is missing here (Debian: wrk)")
    argv = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}", "--timeout", "10s"]
    argv += ["-s", str(script)] if script is not None else []
    argv += ["-H", f"Authorization: Bearer {key}"] if key else []
    return [*argv, f"http://127.0.0.1:{port}{path}"]


def rate(port: int, path: str, *, connections: int, seconds: int, script: Path | None = None, key: str = "") -> float:
    """Requests a second.

    :raises BenchError: some of them failed.
    """
    argv = command(port, path, connections, seconds, script, key)
    done = subprocess.run(argv, capture_output=True, text=True, timeout=seconds + 20)
    if done.returncode != 0:
        raise BenchError(f"wrk on {path}: {done.stderr.strip() or done.stdout.strip()[:200]}")
    output = done.stdout
    failed = re.search(r"(Non-2xx or 3xx responses|Socket errors):.*", output)
    if failed:
        raise BenchError(f"wrk on {path}: {failed[0]}")
    found = re.search(r"Requests/sec:\s+([\d.]+)", output)
    if found is None or float(found[1]) == 0:
        raise BenchError(f"wrk on {path} got no answers")
    return float(found[1])


def json_script(path: Path, method: str, body: str, keys: Mapping[str, int] | None = None) -> Path:
    """A wrk script that sends a JSON body; with ``keys`` ({prefix: n}) to prefix0 … prefix<n-1> in turn."""
    lines = [f'wrk.method = "{method}"', f"wrk.body = '{body}'", 'wrk.headers["Content-Type"] = "application/json"']
    for prefix, count in (keys or {}).items():
        lines += [
            "local at = -1",
            "function request()",
            f"  at = (at + 1) % {count}",
            f'  return wrk.format(nil, "{prefix}" .. at)',
            "end",
        ]
    path.write_text("\n".join(lines) + "\n")
    return path
