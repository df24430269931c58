"""Which kind of service this machine has."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Protocol

from loopsy.osservice.calls import Call
from loopsy.osservice.standing import Done, Standing
from loopsy.osservice.unit import Unit


class Kind(Protocol):
    """What each of the modules offers."""

    SYSTEM: str

    def render(self, unit: Unit) -> str:
        """The text that the system reads."""

    def install(self, unit: Unit, environment: Mapping[str, str], call: Call, *, start: bool) -> Done:
        """Let it start at login, and now."""

    def uninstall(self, unit: Unit, environment: Mapping[str, str], call: Call) -> Done:
        """Take that back."""

    def standing(self, unit: Unit, environment: Mapping[str, str], call: Call) -> Standing:
        """How it stands."""


def chosen(platform: str = sys.platform) -> Kind:
    """The one of a platform."""
    if platform == "darwin":
        from loopsy.osservice import launchd

        return launchd
    if platform == "win32":
        from loopsy.osservice import task_scheduler

        return task_scheduler
    from loopsy.osservice import systemd

    return systemd
