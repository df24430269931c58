"""``logs/daemon.log``: Twisted's log as text, rotated, at the configured level."""

from __future__ import annotations

from typing import IO, cast

from twisted.application.service import Service
from twisted.logger import (
    FileLogObserver,
    FilteringLogObserver,
    ILogObserver,
    LogEvent,
    LogLevel,
    LogLevelFilterPredicate,
    eventAsText,
    globalLogPublisher,
)
from twisted.python.logfile import LogFile
from zope.interface import implementer

from loopsy.services.settings import Settings

ROTATE_BYTES = 5 * 1024 * 1024
KEEP_FILES = 5


class DaemonLog(Service):
    """Writes the log from construction on, so that a failing start is told too."""

    name = "log"

    def __init__(self, settings: Settings) -> None:
        path = settings.layout.daemon_log
        self._file = LogFile(
            path.name, str(path.parent), rotateLength=ROTATE_BYTES, defaultMode=0o600, maxRotatedFiles=KEEP_FILES
        )
        self._levels = LogLevelFilterPredicate()
        self._settings = settings
        self._set_level()
        settings.when_changed(self._set_level)
        self._observer = FilteringLogObserver(FileLogObserver(cast("IO[str]", self._file), line), [self._levels])
        globalLogPublisher.addObserver(self._observer)

    def _set_level(self) -> None:
        self._levels.clearLogLevels()
        self._levels.setLogLevelForNamespace("", LogLevel.lookupByName(self._settings.config.logging.level))

    def stopService(self) -> None:
        """Flush; the last lines of Twisted's own shutdown still come here."""
        super().stopService()
        self._file.flush()


def line(event: LogEvent) -> str:
    """One event as its lines; control characters of others can't move the cursor of whoever reads the file."""
    text = eventAsText(event)
    safe = "".join(c if c.isprintable() or c in "\n\t" else f"\\x{ord(c):02x}" for c in text)
    return f"{safe}\n"


@implementer(ILogObserver)
class Silent:
    """For ``twistd --logger``: a daemon in the background writes only its own file."""

    def __call__(self, event: LogEvent) -> None:
        """Nothing."""


def silent() -> Silent:
    """What ``twistd --logger loopsy.services.logs.silent`` calls."""
    return Silent()
