"""mDNS by the zeroconf library: blocking, with a thread of its own. Imported (27 ms, 3 MB) only where it is wanted.

Everything that is found goes to ``tell`` in batches, from zeroconf's thread: what was said of one service in between
is one item, so that an announcer that floods us makes no more work for the reactor than a quiet one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from zeroconf import IPVersion, ServiceBrowser, ServiceInfo, ServiceStateChange, Zeroconf

from loopsy.core import discovery as rules
from loopsy.core.discovery import Networks, Service
from loopsy.wire.peers import NodeIdentity

RESOLVE_MS = 3000
AT_ONCE = 16
"""Services whose records are asked for at the same time."""
WAITING_MAX = 2 * rules.FOUND_MAX
"""Services that wait for that, and found ones that wait to be told; whatever comes then is left out."""
TELL_S = 0.1

Batch = Mapping[str, Service | None]
"""By instance; None: it is gone."""


class Mdns:
    """Our announcement, and a browser for those of others. Every method blocks, up to some seconds."""

    def __init__(self, own: NodeIdentity, networks: Networks, tell: Callable[[Batch], None]) -> None:
        """Announce ourselves and look for others.

        :raises OSError: there is no network that takes it.
        """
        self._zeroconf = Zeroconf(interfaces=list(networks.addresses), ip_version=_versions(networks))
        assert self._zeroconf.loop is not None
        self._resolver = Resolver(self._zeroconf, self._zeroconf.loop, tell)
        self._browser: ServiceBrowser | None = None
        self._info = service_info(own, networks)
        try:
            self._browse()
            self._zeroconf.register_service(self._info, allow_name_change=True)
        except BaseException:
            self.close()
            raise

    @property
    def instance(self) -> str:
        """The name of our service; another than asked for, where somebody had that."""
        return self._info.name

    def moved(self, own: NodeIdentity, networks: Networks) -> None:
        """Our networks changed: announce the new addresses, and ask again who is there."""
        self._zeroconf.update_interfaces(list(networks.addresses), _versions(networks))
        self._info = service_info(own, networks, self._info.name)
        self._zeroconf.update_service(self._info)
        self._browse()

    def _browse(self) -> None:
        """A new browser asks at once; an old one would ask once in an hour."""
        if self._browser is not None:
            self._browser.cancel()
        self._browser = ServiceBrowser(self._zeroconf, rules.TYPE, handlers=[self._resolver.heard])

    def close(self) -> None:
        """Say goodbye, and end."""
        self._resolver.end()
        self._zeroconf.close()


class Resolver:
    """Turns names of services into what they are. All but ``heard`` and ``end`` runs in zeroconf's own thread."""

    def __init__(self, zeroconf: Zeroconf, loop: asyncio.AbstractEventLoop, tell: Callable[[Batch], None]) -> None:
        self._zeroconf = zeroconf
        self._loop = loop
        self._tell = tell
        self._waiting: dict[str, None] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._batch: dict[str, Service | None] = {}
        self._is_over = False

    def heard(self, zeroconf: Zeroconf, service_type: str, name: str, state_change: ServiceStateChange) -> None:
        """A service came, changed or went. From the browser's thread."""
        if not self._is_over:
            self._loop.call_soon_threadsafe(self._take, name, state_change is ServiceStateChange.Removed)

    def end(self) -> None:
        """Tell nothing more."""
        self._is_over = True

    def _take(self, name: str, is_gone: bool) -> None:
        if is_gone:
            self._waiting.pop(name, None)
            self._put(name, None)
        elif len(self._waiting) < WAITING_MAX:
            self._waiting[name] = None
            self._pump()

    def _pump(self) -> None:
        for name in [name for name in self._waiting if name not in self._tasks][: AT_ONCE - len(self._tasks)]:
            del self._waiting[name]
            self._tasks[name] = self._loop.create_task(self._resolve(name))

    async def _resolve(self, name: str) -> None:
        try:
            info = ServiceInfo(rules.TYPE, name)
            if await info.async_request(self._zeroconf, RESOLVE_MS):
                self._put(name, found(info))
        except Exception as error:  # a name that is none: whoever announced it made it so
            self._zeroconf.log_warning_once(f"a service could not be looked up: {type(error).__name__}")
        finally:
            del self._tasks[name]
            if not self._is_over:
                self._pump()

    def _put(self, name: str, service: Service | None) -> None:
        if self._is_over or (name not in self._batch and len(self._batch) >= WAITING_MAX):
            return
        if not self._batch:
            self._loop.call_later(TELL_S, self._flush)
        self._batch[name] = service

    def _flush(self) -> None:
        batch, self._batch = self._batch, {}
        if not self._is_over:
            self._tell(batch)


def found(info: Any) -> Service:
    """What was found, as plain data."""
    addresses = tuple(str(address) for address in info.ip_addresses_by_version(IPVersion.All))
    return Service(
        instance=info.name,
        server=info.server or "",
        port=info.port or 0,
        addresses=addresses[: 4 * rules.PLACES_MAX],
        text=info.text or b"",
    )


def service_info(own: NodeIdentity, networks: Networks, name: str | None = None) -> ServiceInfo:
    """Our service."""
    return ServiceInfo(
        rules.TYPE,
        name or rules.instance_of(own.node_id),
        port=own.port,
        properties=rules.text_of(own),
        server=rules.server_of(own),
        parsed_addresses=list(networks.addresses),
    )


def _versions(networks: Networks) -> IPVersion:
    is_six = {":" in address for address in networks.addresses}
    return IPVersion.All if len(is_six) == 2 else IPVersion.V6Only if True in is_six else IPVersion.V4Only
