"""The package's version and the version of the wire it speaks."""

VERSION = "0.1.0"
WIRE_VERSION = "1.0.0"
"""What ``GET /health`` says, as Loopsy 1.x nodes expect it."""
