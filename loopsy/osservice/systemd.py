"""A user unit of systemd. https://www.freedesktop.org/software/systemd/man/latest/systemd.service.html"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from loopsy.osservice.calls import Call, ServiceFailed, told
from loopsy.osservice.standing import Done, Standing
from loopsy.osservice.unit import RETRY_S, STOP_S, Unit
from loopsy.store import atomic

SYSTEM = "systemd"
TARGET = "default.target"
LINGER = Path("/var/lib/systemd/linger")
TEMPLATE = """\
# Written by `loopsy enable`; `loopsy disable` takes it away.

[Unit]
Description=loopsy: commands, files, context and messages between your machines ({name})
# A configuration that keeps the daemon from starting is not tried again and again.
StartLimitIntervalSec=60
StartLimitBurst=5

[Service]
Type=exec
ExecStart={command}
ExecReload=/bin/kill -HUP $MAINPID
WorkingDirectory={home}
# That of the shell which enabled it: the commands that the daemon runs are looked for there.
Environment="PATH={path}"

# `loopsy stop` is no failure.
Restart=on-failure
RestartSec={retry}
# TERM goes to the daemon alone, which ends its jobs and writes what is left; what is still there then is killed.
KillMode=mixed
TimeoutStopSec={stop}
# A job that takes too much memory is killed alone, not the daemon with all others.
OOMPolicy=continue

# The daemon runs commands as you, so it can be shut in only as far as you would be.
# Keys are in its memory: no core files. (A soft limit: a job may raise its own.)
LimitCORE=0:infinity
# Left out on purpose, each with what it would break:
#   NoNewPrivileges=            sudo, ping, and whatever else is set-uid
#   SystemCallFilter=, SystemCallArchitectures=, LockPersonality=, RestrictNamespaces=, RestrictRealtime=,
#   RestrictSUIDSGID=, RestrictAddressFamilies=, MemoryDenyWriteExecute=
#                               all imply NoNewPrivileges in a user's unit; some break debuggers, JITs or containers
#   ProtectSystem=, ProtectHome=, PrivateTmp=, PrivateDevices=, ReadWritePaths=
#                               need a user namespace in a user's unit, in which sudo and other users' files are gone;
#                               and what a peer may touch is said in config.yaml (transfer, execution, scopes)
#   PrivateNetwork=, IPAddressDeny=   it is there for the network
#   UMask=                      would be that of every file that a job makes
# Whoever needs none of that can add it: systemctl --user edit {name}

[Install]
WantedBy={target}
"""


def render(unit: Unit) -> str:
    """The unit's text."""
    return TEMPLATE.format(
        name=unit.name,
        command=" ".join(map(_word, unit.argv)),
        home=_percent(unit.home),
        path=_quoted(unit.path),
        retry=RETRY_S,
        stop=STOP_S,
        target=TARGET,
    )


def _word(text: str) -> str:
    """One word of ``ExecStart``. There ``$`` begins a variable too."""
    return f'"{_quoted(text).replace("$", "$$")}"' if not text or set(text) - SAFE else text


SAFE = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_=./:,+@")


def _quoted(text: str) -> str:
    """Between double quotes."""
    return _percent(text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n"))


def _percent(text: str) -> str:
    """``%`` begins a specifier."""
    return text.replace("%", "%%")


# -- where it lies ----------------------------------------------------------------------------------------------------
def folder(environment: Mapping[str, str]) -> Path:
    """Where a user's own units lie."""
    home = environment.get("XDG_CONFIG_HOME") or os.path.join(os.path.expanduser("~"), ".config")
    return Path(home) / "systemd" / "user"


def files(unit: Unit, environment: Mapping[str, str]) -> tuple[Path, Path]:
    """The unit, and the link by which it is started at login (what ``systemctl enable`` makes)."""
    units = folder(environment)
    return units / f"{unit.name}.service", units / f"{TARGET}.wants" / f"{unit.name}.service"


# -- doing it ---------------------------------------------------------------------------------------------------------
def install(unit: Unit, environment: Mapping[str, str], call: Call, *, start: bool) -> Done:
    """Write the files; where a systemd of the user runs, let it take them up, and ``start``.

    :raises ServiceFailed: a file can't be written, or systemd refuses.
    """
    path, link = files(unit, environment)
    changed = not path.exists() or path.read_text("utf-8") != render(unit) or not link.is_symlink()
    try:
        link.parent.mkdir(parents=True, exist_ok=True)
        atomic.write(path, render(unit).encode(), 0o644)
        with suppress(FileNotFoundError):
            link.unlink()
        link.symlink_to(path)
    except OSError as error:
        raise ServiceFailed(f"{error.filename} can't be written: {(error.strerror or str(error)).lower()}") from None
    if not _is_there(environment):
        return Done(files=(path, link), changed=changed, next=_by_hand(unit, start))
    told(call, "systemctl", "--user", "daemon-reload")
    if start:
        told(call, "systemctl", "--user", "start", path.name)
    return Done(files=(path, link), changed=changed, started=start)


def _is_there(environment: Mapping[str, str]) -> bool:
    """Whether a systemd of this user runs and can be spoken to."""
    runtime = environment.get("XDG_RUNTIME_DIR")
    return bool(runtime) and (Path(runtime or "") / "systemd" / "private").exists()


def _by_hand(unit: Unit, start: bool) -> str:
    steps = ["systemctl --user daemon-reload", *([f"systemctl --user start {unit.name}"] if start else [])]
    return f"no systemd of yours runs here; it starts at your next login. Or now, where one runs: {' && '.join(steps)}"


def uninstall(unit: Unit, environment: Mapping[str, str], call: Call) -> Done:
    """Take the files away. A daemon that runs goes on until it is stopped."""
    gone = []
    for path in reversed(files(unit, environment)):
        with suppress(FileNotFoundError):
            path.unlink()
            gone.append(path)
    if gone and _is_there(environment):
        told(call, "systemctl", "--user", "daemon-reload")
    return Done(files=tuple(gone), changed=bool(gone))


def standing(unit: Unit, environment: Mapping[str, str], call: Call) -> Standing:
    """How it stands."""
    path, link = files(unit, environment)
    try:
        text: str | None = path.read_text("utf-8")
    except OSError:
        text = None
    pid = _main_pid(call, path.name) if _is_there(environment) else None
    lingers = (LINGER / user_name(environment)).exists()
    return Standing(
        system=SYSTEM,
        name=unit.name,
        file=path,
        enabled=text is not None and link.is_symlink(),
        current=text == render(unit),
        pid=pid,
        manager_runs=_is_there(environment),
        note="it starts with the machine and outlives your logout (linger is on)" if lingers else None,
        advice=None if lingers else "it runs while you are logged in; to let it run always: loginctl enable-linger",
    )


def user_name(environment: Mapping[str, str]) -> str:
    """Whose linger it is."""
    import getpass

    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return environment.get("USER", "")


def _main_pid(call: Call, unit: str) -> int | None:
    status, text = call(["systemctl", "--user", "show", "--property=MainPID", "--value", unit])
    return int(text) if status == 0 and text.strip().isdigit() and int(text) else None
