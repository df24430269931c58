"""The configuration as it stands now; everything else asks here each time, so a reload reaches it at once."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import DeferredLock
from twisted.logger import Logger

from loopsy.config import Config, compare
from loopsy.core.principals import Keyring
from loopsy.store import configfile
from loopsy.store.layout import Layout
from loopsy.wire.status import Reloaded


class Settings:
    """The current Config and what is made from it."""

    log = Logger()

    def __init__(self, layout: Layout, config: Config) -> None:
        self.layout = layout
        self.config = config
        self._pending: dict[str, str] = {}
        self.keyring = Keyring.of(config.auth)
        self._started_with = config
        self.editing = DeferredLock()
        """Held by whoever changes the file: each change reads all of it first."""
        self._listeners: list[Callable[[], None]] = []

    def when_changed(self, listener: Callable[[], None]) -> None:
        """Call ``listener`` after each reload that changed something."""
        self._listeners.append(listener)

    def set_pending(self, name: str, key: str | None) -> None:
        """Take a key that waits for its first use (None: no longer)."""
        self._pending.pop(name, None)
        if key is not None:
            self._pending[name] = key
        self.keyring = Keyring.of(self.config.auth, self._pending)

    def reload(self) -> Reloaded:
        """Read the file again and take up what can be taken up.

        :raises ConfigError: it can't be used; all stays as it was.
        """
        parsed = configfile.load(self.layout.config)
        changes = compare(self.config, parsed.config)
        waiting = compare(self._started_with, parsed.config).needs_restart
        self.config = parsed.config
        self.keyring = Keyring.of(parsed.config.auth, self._pending)
        for listener in self._listeners:
            listener()
        self.log.info("configuration reloaded: {keys}", keys=", ".join(changes.applied) or "nothing changed")
        return Reloaded(applied=changes.applied, needs_restart=waiting, warnings=parsed.warnings)
