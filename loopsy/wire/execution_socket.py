"""A command with its standard input, over a WebSocket; without heavy imports, since the command line speaks it."""

from __future__ import annotations

SUBPROTOCOL = "loopsy.exec.1"
EOF = {"type": "eof"}
"""The end of the input."""
