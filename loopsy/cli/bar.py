"""The progress bar of a transfer, on standard error. Imported only where one is drawn: rich takes its time."""

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


class Bar:
    """Name, bar, bytes, rate and time left; goes away when the transfer is over."""

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
        self._task: TaskID | None = None

    def show(self, info: dict[str, Any]) -> None:
        """One snapshot."""
        files = info.get("filesTotal") or 0
        done = info.get("filesDone", 0) + info.get("filesSkipped", 0)
        counted = f"{done}/{files} files" if files > 1 else ""
        if self._task is None:
            self._progress.start()
            self._task = self._progress.add_task(title(info), total=None, files=counted)
        self._progress.update(
            self._task, total=info.get("bytesTotal"), completed=info.get("bytesDone", 0), files=counted
        )

    def stop(self) -> None:
        """It is over."""
        self._progress.stop()
