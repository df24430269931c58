"""Health and status of a daemon."""

from __future__ import annotations

from attrs import frozen


@frozen(kw_only=True)
class Health:
    """``GET /health``, the one answer that needs no key."""

    status: str
    node_id: str
    uptime: float
    """Seconds."""
    version: str


@frozen(kw_only=True)
class PeerCounts:
    """How many peers are known, by status."""

    total: int
    online: int
    offline: int


@frozen(kw_only=True)
class JobCounts:
    """Jobs now, and since the daemon started."""

    active: int
    total: int


@frozen(kw_only=True)
class TaskCounts:
    """AI tasks that are not over, and all that are remembered."""

    active: int
    total: int


@frozen(kw_only=True)
class ContextCounts:
    """Entries that have not expired."""

    entries: int


@frozen(kw_only=True)
class MessageCounts:
    """Messages that wait: here for a reader, and for a peer."""

    unread: int
    queued: int


@frozen(kw_only=True)
class TlsState:
    """Whether the port speaks TLS."""

    enabled: bool
    fingerprint: str | None = None
    """Of our certificate: what peers pin."""
    expires_at: int | None = None
    """Of our certificate, ms since the epoch."""


@frozen(kw_only=True)
class Status:
    """``GET /status``."""

    node_id: str
    hostname: str
    platform: str
    version: str
    package_version: str
    uptime: float
    """Seconds."""
    pid: int
    peers: PeerCounts
    jobs: JobCounts
    context: ContextCounts
    messages: MessageCounts
    ai_tasks: TaskCounts
    tls: TlsState


@frozen(kw_only=True)
class Reloaded:
    """``POST /reload``: what took effect, and what waits for a restart."""

    applied: tuple[str, ...]
    needs_restart: tuple[str, ...]
    warnings: tuple[str, ...]
