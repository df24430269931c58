"""Discovery over HTTP, for this machine's own user."""

from __future__ import annotations

from attrs import frozen

from loopsy.core.principals import LocalOnly
from loopsy.services.daemon import Daemon
from loopsy.web.routes import Call, Routes
from loopsy.wire import urls
from loopsy.wire.discovery import DiscoveryState


@frozen(eq=False)
class DiscoveryArea:
    """How this machine is found."""

    daemon: Daemon
    routes = Routes()

    @routes.declare("GET", urls.DISCOVERY, access=LocalOnly(), answers=DiscoveryState)
    def state(self, call: Call[None]) -> DiscoveryState:
        """Whether this machine is announced on the LAN, and as what."""
        return self.daemon.discovery.state()
