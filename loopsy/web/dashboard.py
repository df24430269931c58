"""The dashboard: its door, and its files (docs/protocol/dashboard.md)."""

from __future__ import annotations

import gzip
from base64 import urlsafe_b64encode
from functools import cache
from hashlib import sha256
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import PurePosixPath

from attrs import frozen

from loopsy.core.dashboard import SESSION_S, check_page, cookie_of
from loopsy.core.principals import LocalOnly, ThisMachine
from loopsy.errors import FileMissing
from loopsy.services.daemon import Daemon
from loopsy.web.request import EdgeRequest
from loopsy.web.routes import ANSWERED, Answered, Call, Routes
from loopsy.wire import urls
from loopsy.wire.dashboard import Enter, Launch, SessionChanged

TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
}
PAGES = {"": "index.html", "enter": "enter.html"}
POLICY = (
    b"default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self'; "
    b"connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Inline styles are the terminal's (it writes its colours and cell sizes into one); scripts are files of ours alone."""
PROTECTION = {
    b"content-security-policy": POLICY,
    b"referrer-policy": b"no-referrer",
    b"cross-origin-opener-policy": b"same-origin",
    b"cross-origin-resource-policy": b"same-origin",
    b"cache-control": b"no-cache",
}


@frozen(eq=False)
class DashboardArea:
    """The page for the person at this machine."""

    daemon: Daemon
    routes = Routes()

    @routes.declare("POST", urls.DASHBOARD_LAUNCH, access=LocalOnly(), answers=Launch)
    def launch(self, call: Call[None]) -> Launch:
        """An address that opens the dashboard once, within a minute."""
        return self.daemon.dashboard.launch()

    @routes.declare(
        "POST", urls.DASHBOARD_SESSION, access=ThisMachine(), takes=Enter, answers=SessionChanged, body_limit=4096
    )
    async def enter(self, call: Call[Enter]) -> SessionChanged:
        """A launch token for a cookie."""
        request, dashboard = call.request, self.daemon.dashboard
        site, origin = request.getHeader(b"sec-fetch-site"), request.header(b"origin")
        check_page(b"POST", site, origin, None, f"http://{request.header(b'host')}")
        cookie = await dashboard.enter(call.body.token)
        set_cookie(request, dashboard.cookie_name, cookie, round(SESSION_S))
        return SessionChanged(success=True)

    @routes.declare("DELETE", urls.DASHBOARD_SESSION, access=LocalOnly(), answers=SessionChanged)
    async def leave(self, call: Call[None]) -> SessionChanged:
        """This browser's session ends."""
        request, name = call.request, self.daemon.dashboard.cookie_name
        await self.daemon.dashboard.leave(cookie_of(request.header(b"cookie") or "", name) or "")
        request.notifyFinish().addBoth(lambda _: self.daemon.dashboard.left())
        set_cookie(request, name, "", 0)
        return SessionChanged(success=True)

    @routes.declare(("GET", "HEAD"), urls.DASHBOARD, access=ThisMachine())
    def page(self, call: Call[None]) -> Answered:
        """The page."""
        return send(call.request, "")

    @routes.declare(("GET", "HEAD"), urls.DASHBOARD_FILE, access=ThisMachine())
    def file(self, call: Call[None], file: str) -> Answered:
        """Its files."""
        return send(call.request, file)


def set_cookie(request: EdgeRequest, name: str, value: str, seconds: int) -> None:
    """Give the browser a cookie that only our own pages send, and no script reads."""
    cookie = f"{name}={value}; Max-Age={seconds}; Path=/; HttpOnly; SameSite=Strict"
    request.responseHeaders.setRawHeaders(b"set-cookie", [cookie.encode()])


# -- files ------------------------------------------------------------------------------------------------------------
@frozen
class Asset:
    """A file as it is sent."""

    content_type: bytes
    tag: bytes
    plain: bytes
    packed: bytes
    """gzip."""


def send(request: EdgeRequest, name: str) -> Answered:
    """Send a file, unless the browser has it.

    :raises FileMissing: there is none of this name.
    """
    found = assets().get(PAGES.get(name, name))
    if found is None:
        raise FileMissing("the dashboard has no such file")
    if request.getHeader(b"if-none-match") == found.tag:
        _begin(request, 304, found, None)
    else:
        packs = b"gzip" in (request.getHeader(b"accept-encoding") or b"")
        if packs:
            request.responseHeaders.setRawHeaders(b"content-encoding", [b"gzip"])
        body = found.packed if packs else found.plain
        _begin(request, 200, found, len(body))
        request.write(b"" if request.method == b"HEAD" else body)
    request.finish()
    return ANSWERED


def _begin(request: EdgeRequest, status: int, asset: Asset, length: int | None) -> None:
    request.begin(status, asset.content_type, length)
    headers = request.responseHeaders
    for header, value in PROTECTION.items():
        headers.setRawHeaders(header, [value])
    headers.setRawHeaders(b"etag", [asset.tag])
    headers.setRawHeaders(b"vary", [b"accept-encoding"])


@cache
def assets() -> dict[str, Asset]:
    """Every file of the dashboard, by its path: under a MiB together, read once, when the first browser comes."""
    return dict(_below(files("loopsy.web") / "pages", PurePosixPath()))


def _below(folder: Traversable, at: PurePosixPath) -> list[tuple[str, Asset]]:
    found: list[tuple[str, Asset]] = []
    for item in folder.iterdir():
        path = at / item.name
        if item.is_dir():
            found += _below(item, path)
        elif path.suffix in TYPES:
            found.append((str(path), _asset(item.read_bytes(), TYPES[path.suffix])))
    return found


def _asset(data: bytes, content_type: str) -> Asset:
    tag = urlsafe_b64encode(sha256(data).digest()[:12]).decode()
    return Asset(content_type.encode(), f'"{tag}"'.encode(), data, gzip.compress(data, 6, mtime=0))
