"""The yardstick of executions: posix_spawn and wait of ``true`` from some threads. ``python -m bench.spawns N SECONDS``
prints how many a second."""

from __future__ import annotations

import os
import shutil
import sys
import threading
import time


def spawn_until(deadline: float, counts: list[int]) -> None:
    """Start ``true`` and wait for it, again and again."""
    program, count = shutil.which("true") or "/bin/true", 0
    while time.monotonic() < deadline:
        pid = os.posix_spawn(program, ["true"], {})
        os.waitpid(pid, 0)
        count += 1
    counts.append(count)


def main(threads: int, seconds: float) -> None:
    """Run them all, print the sum."""
    counts: list[int] = []
    begin = time.monotonic()
    running = [threading.Thread(target=spawn_until, args=(begin + seconds, counts)) for _ in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    print(sum(counts) / (time.monotonic() - begin))


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]))
