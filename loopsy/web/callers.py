"""Who calls: by the key, or from a browser of this machine by the cookie; and whether a page of another site asks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from loopsy.core import hosts
from loopsy.core.dashboard import check_page
from loopsy.core.hosts import is_loopback
from loopsy.core.principals import NEARBY, STRANGER, Local, Principal
from loopsy.errors import Forbidden
from loopsy.wire import urls

if TYPE_CHECKING:
    from loopsy.web.request import EdgeRequest


def identify(request: EdgeRequest) -> Principal:
    """By the key; without one, from this machine, by a cookie, which counts only from our own page.

    :raises Unauthenticated: :raises Forbidden:
    """
    authorization, cookie = request.getHeader(b"authorization"), request.header(b"cookie")
    principal = request.edge.identify(authorization)
    if principal is not STRANGER or not is_loopback(getattr(request.channel.getPeer(), "host", "")):
        return principal
    principal = NEARBY if cookie is None or opens_page(request) else request.edge.by_cookie(cookie)
    if isinstance(principal, Local):
        method = b"UPGRADE" if request.wants_websocket else request.method
        site, origin = request.getHeader(b"sec-fetch-site"), request.header(b"origin")
        check_page(method, site, origin, request.header(b"referer"), f"http://{request.header(b'host')}")
    return principal


def check_site(request: EdgeRequest) -> None:
    """Browsers say which site's page asks; programs don't.

    :raises Forbidden: another site's does.
    """
    origin = request.header(b"origin")
    if origin is not None:
        hosts.check_origin(origin, request.header(b"host"))
    elif request.getHeader(b"sec-fetch-site") in (b"cross-site", b"same-site") and not opens_page(request):
        raise Forbidden("a page of another site can't ask this daemon")


def opens_page(request: EdgeRequest) -> bool:
    """A link leads a person to the dashboard, maybe from a file or another program's page: it is served as to anybody
    here, the cookie unseen, and its files hold nothing. (In a frame it would be another destination.)"""
    how = request.getHeader(b"sec-fetch-mode"), request.getHeader(b"sec-fetch-dest")
    is_page = request.method == b"GET" and request.path.startswith(urls.DASHBOARD.encode())
    return is_page and how == (b"navigate", b"document")
