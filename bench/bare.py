"""The yardstick of requests: a bare Resource behind twisted.web's own Site. ``python -m bench.bare PORT BYTES``."""

from __future__ import annotations

import sys
from typing import Any

from twisted.internet import reactor
from twisted.web import http, resource, server


class Bare(resource.Resource):
    """Answers every GET with the same bytes."""

    isLeaf = True

    def __init__(self, length: int) -> None:
        super().__init__()
        self._body = b"x" * length

    def render_GET(self, request: http.Request) -> bytes:
        """Those bytes."""
        request.setHeader(b"content-type", b"application/json")
        return self._body


def main(port: int, length: int) -> None:
    """Serve on loopback until ended. Its access log is off: that is a favour to the yardstick."""
    site: Any = server.Site(Bare(length))
    site.log = lambda request: None
    reactor.listenTCP(port, site, interface="127.0.0.1")
    reactor.run()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
