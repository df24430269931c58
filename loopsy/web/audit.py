"""The audit log over HTTP, for the dashboard."""

from __future__ import annotations

from attrs import frozen

from loopsy.core.principals import LocalOnly
from loopsy.errors import InvalidRequest
from loopsy.services.daemon import Daemon
from loopsy.web.routes import ANSWERED, Answered, Call, Routes
from loopsy.wire import urls

LIMIT, MOST = 100, 1000
"""Lines of a page, and the most that may be asked for."""


@frozen(eq=False)
class AuditArea:
    """Who asked this machine for what."""

    daemon: Daemon
    routes = Routes()

    @routes.declare("GET", urls.AUDIT, access=LocalOnly())
    async def page(self, call: Call[None]) -> Answered:
        """The newest lines; ``?before=<seq>`` for older ones, ``?word=`` for those that hold it, ``?limit=``."""
        before, limit = number(call, "before"), number(call, "limit") or LIMIT
        if limit > MOST:
            raise InvalidRequest(f"limit: must be from 1 to {MOST}")
        lines = await self.daemon.audit.page(before, call.query("word") or "", limit)
        body = b'{"lines":[' + b",".join(lines) + b"]}"
        call.request.send_json(200, body)
        return ANSWERED


def number(call: Call[None], name: str) -> int | None:
    """A query parameter that is a whole number, None where it is missing.

    :raises InvalidRequest: it is none.
    """
    text = call.query(name)
    if text is None:
        return None
    if not text.isascii() or not text.isdigit() or not 0 < len(text) < 16 or int(text) < 1:
        raise InvalidRequest(f"{name}: must be a whole number above 0")
    return int(text)
