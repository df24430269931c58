"""A launch agent of macOS. See launchd.plist(5)."""

from __future__ import annotations

import os
import plistlib
import re
from collections.abc import Mapping
from pathlib import Path

from loopsy.osservice.calls import Call, ServiceFailed, told
from loopsy.osservice.standing import Done, Standing
from loopsy.osservice.unit import RETRY_S, STOP_S, Unit
from loopsy.store import atomic

SYSTEM = "launchd"


def render(unit: Unit) -> str:
    """The property list."""
    return plistlib.dumps(
        {
            "Label": unit.name,
            "ProgramArguments": list(unit.argv),
            "WorkingDirectory": unit.home,
            "EnvironmentVariables": {"PATH": unit.path},
            "RunAtLoad": True,
            # Started again when it fails, not after `loopsy stop`.
            "KeepAlive": {"SuccessfulExit": False},
            "ThrottleInterval": RETRY_S,
            "ExitTimeOut": STOP_S,
            # Else the jobs would be held back as background work.
            "ProcessType": "Interactive",
            "StandardOutPath": unit.output,
            "StandardErrorPath": unit.output,
        },
        sort_keys=False,
    ).decode()


def file(unit: Unit) -> Path:
    """Where a user's own agents lie."""
    return Path(os.path.expanduser("~")) / "Library" / "LaunchAgents" / f"{unit.name}.plist"


def install(unit: Unit, environment: Mapping[str, str], call: Call, *, start: bool) -> Done:
    """Write the file; with ``start``, load it, which starts the daemon.

    :raises ServiceFailed: it can't be written, or launchd refuses.
    """
    path = file(unit)
    changed = not path.exists() or path.read_text("utf-8") != render(unit)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic.write(path, render(unit).encode(), 0o644)
    except OSError as error:
        raise ServiceFailed(f"{path} can't be written: {(error.strerror or str(error)).lower()}") from None
    if not start:
        return Done(files=(path,), changed=changed)
    if _is_loaded(unit, call):
        call(["launchctl", "bootout", _target(unit)])
    told(call, "launchctl", "bootstrap", _domain(), str(path))
    return Done(files=(path,), changed=changed, started=True)


def uninstall(unit: Unit, environment: Mapping[str, str], call: Call) -> Done:
    """Take the file away. A daemon that runs goes on until it is stopped; launchd forgets the agent at logout."""
    path = file(unit)
    try:
        path.unlink()
    except FileNotFoundError:
        return Done(files=(), changed=False)
    return Done(files=(path,), changed=True)


def standing(unit: Unit, environment: Mapping[str, str], call: Call) -> Standing:
    """How it stands."""
    path = file(unit)
    text = path.read_text("utf-8") if path.exists() else None
    status, said = call(["launchctl", "print", _target(unit)])
    found = re.search(r"^\s*pid = (\d+)", said, re.MULTILINE) if status == 0 else None
    return Standing(
        system=SYSTEM,
        name=unit.name,
        file=path,
        enabled=text is not None,
        current=text == render(unit),
        pid=None if found is None else int(found[1]),
        note="it runs while you are logged in",
    )


def _is_loaded(unit: Unit, call: Call) -> bool:
    return call(["launchctl", "print", _target(unit)])[0] == 0


def _domain() -> str:
    """The user's graphical session, where agents live."""
    return f"gui/{os.getuid()}"


def _target(unit: Unit) -> str:
    return f"{_domain()}/{unit.name}"
