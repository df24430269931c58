"""``python -m bench [row …]``: measures, prints the table."""

from __future__ import annotations

import argparse
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence

from attrs import frozen

from bench import (
    rows_commands,
    rows_dashboard,
    rows_fleet,
    rows_idle,
    rows_mcp,
    rows_messages,
    rows_requests,
    rows_sessions,
    rows_streams,
    rows_tasks,
    rows_terminals,
    rows_tls,
    rows_transfers,
)
from bench.rig import Rig
from bench.table import BenchError, Result, markdown

FAILURES = (BenchError, OSError, subprocess.SubprocessError)


@frozen
class Row:
    """A name for the command line and the function that measures."""

    name: str
    measure: Callable[[Rig], Iterator[Result]]

    @property
    def about(self) -> str:
        """The first line of its docstring."""
        return (self.measure.__doc__ or "").partition("\n")[0]


ROWS = (
    Row("exec", rows_commands.exec_true),
    Row("status", rows_commands.status),
    Row("get", rows_requests.context_get),
    Row("put", rows_requests.context_put),
    Row("execute", rows_requests.execute),
    Row("output", rows_streams.output_speed),
    Row("memory", rows_streams.output_memory),
    Row("flood", rows_streams.flood),
    Row("idle", rows_idle.idle),
    Row("sessions", rows_sessions.sessions),
    Row("file", rows_transfers.one_file),
    Row("files", rows_transfers.transfer_memory),
    Row("tree", rows_transfers.tree),
    Row("messages", rows_messages.messages),
    Row("tasks", rows_tasks.tasks),
    Row("tls", rows_tls.requests),
    Row("tlsfile", rows_tls.file),
    Row("pairing", rows_tls.pairing),
    Row("terminal", rows_terminals.terminal),
    Row("mcp", rows_mcp.bridge),
    Row("dashboard", rows_dashboard.dashboard),
    Row("many", rows_fleet.many),
    Row("fleet", rows_fleet.idle_fleet),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure the chosen rows, or all; 1 with ``--strict`` when a goal was missed."""
    options = parser().parse_args(argv)
    if options.list:
        print("\n".join(f"{row.name:<9}{row.about}" for row in ROWS))
        return 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is ended too
    results: list[Result] = []
    begin = time.monotonic()
    for row in ROWS:
        if not options.rows or row.name in options.rows:
            results += measured(row)
    print(markdown(results))
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    print(
        f"\nPython {platform.python_version()}, {os.cpu_count()} cores, {time.monotonic() - begin:.0f} s;"
        f" load at the end {load:.1f}. Figures are medians, ratios medians of pairs taken in turns."
    )
    return int(options.strict and not all(result.ok for result in results))


def measured(row: Row) -> list[Result]:
    """A row's results; one that can't be measured says why."""
    print(f"{row.name}: {row.about}", file=sys.stderr, flush=True)
    results: list[Result] = []
    try:
        with Rig() as rig:
            for result in row.measure(rig):
                results.append(result)
                print(f"  {' | '.join(result.cells())}", file=sys.stderr, flush=True)
    except FAILURES as error:
        print(f"  {error}", file=sys.stderr, flush=True)
        results.append(Result(row=row.name, remarks=str(error)))
    return results


def parser() -> argparse.ArgumentParser:
    """The options."""
    options = argparse.ArgumentParser(
        prog="python -m bench", description="Side-by-side benchmarks; see bench/README.md."
    )
    options.add_argument(
        "rows", nargs="*", metavar="row", choices=[[], *(row.name for row in ROWS)], help="default: all"
    )
    options.add_argument("--list", action="store_true", help="name the rows")
    options.add_argument("--strict", action="store_true", help="exit 1 when a goal was missed")
    return options


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
