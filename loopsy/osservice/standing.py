"""What came of enabling a service, and how one stands."""

from __future__ import annotations

from pathlib import Path

from attrs import frozen


@frozen(kw_only=True)
class Done:
    """What was done."""

    files: tuple[Path, ...]
    """Written, or taken away."""
    changed: bool
    """Whether anything was different before."""
    started: bool = False
    next: str | None = None
    """What is left for the user to do."""


@frozen(kw_only=True)
class Standing:
    """How it stands."""

    system: str
    """systemd, launchd, Task Scheduler."""
    name: str
    file: Path
    enabled: bool
    """It is started at login."""
    current: bool
    """What is registered is what would be registered now."""
    pid: int | None
    """Of the daemon that the system started; None: it runs none, or does not say."""
    manager_runs: bool = True
    """Whether the system's own service manager can be asked now."""
    note: str | None = None
    advice: str | None = None
