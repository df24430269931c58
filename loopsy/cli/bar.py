"""The progress bars of transfers, on standard error. Imported only where one is drawn: rich takes its time."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from loopsy.cli.following import title
from loopsy.cli.render import clean


class Bar:
    """Name, bar, bytes, rate and time left, for one transfer or several; goes away when they are over."""

    def __init__(self) -> None:
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f}%"),
            DownloadColumn(binary_units=True),
            TransferSpeedColumn(),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.fields[files]}", markup=False),
            console=Console(stderr=True, highlight=False),
            transient=True,
        )
        self._tasks: dict[str, TaskID] = {}

    def show(self, info: dict[str, Any], name: str = "") -> None:
        """One snapshot. Each ``name`` has a bar of its own; without any, the transfer is named by what is moved."""
        files = info.get("filesTotal") or 0
        done = info.get("filesDone", 0) + info.get("filesSkipped", 0)
        counted = f"{done}/{files} files" if files > 1 else ""
        if name not in self._tasks:
            self._progress.start()
            self._tasks[name] = self._progress.add_task(clean(name) or title(info), total=None, files=counted)
        self._progress.update(
            self._tasks[name], total=info.get("bytesTotal"), completed=info.get("bytesDone", 0), files=counted
        )

    def drop(self, name: str) -> None:
        """That one is over."""
        if name in self._tasks:
            self._progress.remove_task(self._tasks.pop(name))

    def stop(self) -> None:
        """It is over."""
        self._progress.stop()
