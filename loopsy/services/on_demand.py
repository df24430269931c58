"""A service that is made when it is first asked for: its modules take a while to load, and most runs never need it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from twisted.application.service import MultiService, Service

S = TypeVar("S", bound=Service)


class OnDemand(MultiService, Generic[S]):
    """Holds one service, once it is made."""

    def __init__(self, name: str, make: Callable[[], S], is_needed: Callable[[], bool]) -> None:
        """``is_needed``: an earlier run left it something to do, so it is made at the start."""
        super().__init__()
        self.name = name
        self._make, self._is_needed = make, is_needed
        self._made: S | None = None

    def startService(self) -> None:
        """Make it now, if it has something to do."""
        super().startService()
        if self._is_needed():
            self.get()

    @property
    def made(self) -> S | None:
        """The service, if anybody asked for it yet."""
        return self._made

    def get(self) -> S:
        """The service; running, if this is."""
        if self._made is None:
            self._made = self._make()
            self._made.setServiceParent(self)
        return self._made
