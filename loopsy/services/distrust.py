"""What goes on without its caller (detached jobs, terminals, begun uploads) ends when that caller may no longer.

Requests are cut by the site, and AI tasks look for themselves.
"""

from __future__ import annotations

from functools import partial

from twisted.application.service import Service
from twisted.logger import Logger

from loopsy.core.principals import LOCAL, Scope, still_may
from loopsy.services.detached import Detached
from loopsy.services.execution import Execution
from loopsy.services.settings import Settings
from loopsy.services.storage import Storage
from loopsy.services.terminals import Terminals
from loopsy.services.uploads import Uploads
from loopsy.store import tasks
from loopsy.wire.terminals import ENDED, Terminal


class Distrust(Service):
    """Looks at each change of keys and scopes, and at the start: the file may have been changed meanwhile."""

    name = "distrust"
    log = Logger()

    def __init__(
        self,
        settings: Settings,
        storage: Storage,
        execution: Execution,
        detached: Detached,
        terminals: Terminals,
        uploads: Uploads,
    ) -> None:
        self._settings, self._storage = settings, storage
        self._execution, self._detached, self._terminals, self._uploads = execution, detached, terminals, uploads
        settings.when_changed(self._look)

    def startService(self) -> None:
        """Look once."""
        super().startService()
        self._look()

    def _look(self) -> None:
        if not self.running:
            return
        self._execution.end_of(lambda owner: not self._still(owner, Scope.EXECUTE))
        for terminal in self._terminals.list(LOCAL):
            if not self._still(terminal.from_, Scope.TERMINAL):
                self._end(terminal)
        self._detached.disown(self._is_unknown)
        self._uploads.disown(self._is_unknown)
        done = self._storage.write(partial(tasks.disown, known=(LOCAL.name, *self._settings.config.auth.allowed_keys)))
        done.addErrback(lambda failure: self.log.failure("tasks of peers that are gone stay theirs", failure))

    def _end(self, terminal: Terminal) -> None:
        if terminal.status != ENDED:
            self._terminals.end(terminal.terminal_id, LOCAL)
        if self._is_unknown(terminal.from_):  # what is left on its screen is no heir's either
            self._terminals.get(terminal.terminal_id, LOCAL).note(from_=LOCAL.name)

    def _still(self, owner: str, scope: Scope) -> bool:
        return still_may(self._settings.config.auth, owner, scope)

    def _is_unknown(self, owner: str) -> bool:
        return owner != LOCAL.name and owner not in self._settings.config.auth.allowed_keys
