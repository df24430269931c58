"""The URL table: every address, in one place, for the server and for each client.

A rule is in werkzeug's notation; ``fill`` makes an address of it. Parameters are percent-encoded as one segment, so a
context key may hold any character, ``/`` too.
"""

from __future__ import annotations

from urllib.parse import quote

BASE = "/api/v1"

HEALTH = f"{BASE}/health"
IDENTITY = f"{BASE}/identity"
STATUS = f"{BASE}/status"
OPENAPI = f"{BASE}/openapi.json"
RELOAD = f"{BASE}/reload"

PEERS = f"{BASE}/peers"
PEER = f"{BASE}/peers/<node_id>"
PEER_LABELS = f"{BASE}/peers/<node_id>/labels"
HANDSHAKE = f"{BASE}/peers/handshake"
GATEWAY = f"{BASE}/peers/<peer>/<path:rest>"

DISCOVERY = f"{BASE}/discovery"

TRUST = f"{BASE}/trust"
TRUST_PROBE = f"{BASE}/trust/probe"
TRUST_CERTIFICATE = f"{BASE}/trust/certificate"
TRUST_REVOKE = f"{BASE}/trust/<peer>/revoke"
TRUST_ROTATE = f"{BASE}/trust/<peer>/rotate"
TRUST_ROTATION = f"{BASE}/trust/rotation"
TRUST_SCOPES = f"{BASE}/trust/<peer>/scopes"

PAIR = f"{BASE}/pair"
PAIR_START = f"{BASE}/pair/start"
PAIR_JOIN = f"{BASE}/pair/join"
PAIR_STATUS = f"{BASE}/pair/status"
PAIR_CONFIRM = f"{BASE}/pair/confirm"
PAIR_INITIATE = f"{BASE}/pair/initiate"
PAIR_MESSAGES = f"{BASE}/pair/messages"

EXECUTE = f"{BASE}/execute"
EXECUTE_STREAM = f"{BASE}/execute/stream"
EXECUTE_SOCKET = f"{BASE}/execute/socket"
JOBS = f"{BASE}/execute/jobs"
JOB = f"{BASE}/execute/<job_id>"
JOB_RECORD = f"{BASE}/execute/jobs/<job_id>"
JOB_OUTPUT = f"{BASE}/execute/jobs/<job_id>/output"
JOB_WAIT = f"{BASE}/execute/jobs/<job_id>/wait"

CONTEXT = f"{BASE}/context"
CONTEXT_ENTRY = f"{BASE}/context/<key>"

TRANSFER_PUSH = f"{BASE}/transfer/push"
TRANSFER_PULL = f"{BASE}/transfer/pull"
TRANSFER_LIST = f"{BASE}/transfer/list"
TRANSFER_FILE = f"{BASE}/transfer/file"
TRANSFER_MANIFEST = f"{BASE}/transfer/manifest"
TRANSFER_APPLY = f"{BASE}/transfer/apply"
TRANSFER_FETCH = f"{BASE}/transfer/fetch"
UPLOADS = f"{BASE}/transfer/uploads"
UPLOAD = f"{BASE}/transfer/uploads/<upload_id>"

TRANSFERS = f"{BASE}/transfers"
TRANSFER_JOB = f"{BASE}/transfers/<transfer_id>"
TRANSFER_EVENTS = f"{BASE}/transfers/<transfer_id>/events"

TERMINALS = f"{BASE}/terminals"
TERMINAL = f"{BASE}/terminals/<terminal_id>"
TERMINAL_ATTACH = f"{BASE}/terminals/<terminal_id>/attach"

EVENTS = f"{BASE}/events"
AUDIT = f"{BASE}/audit"
METRICS = f"{BASE}/metrics"

DASHBOARD = "/dashboard/"
DASHBOARD_FILE = "/dashboard/<path:file>"
DASHBOARD_LAUNCH = f"{BASE}/dashboard/launch"
DASHBOARD_SESSION = f"{BASE}/dashboard/session"

MESSAGES = f"{BASE}/messages"
MESSAGE = f"{BASE}/messages/<message_id>"
MESSAGE_READ = f"{BASE}/messages/<message_id>/read"
MESSAGE_ACK = f"{BASE}/messages/<message_id>/ack"
MESSAGE_THREAD = f"{BASE}/messages/threads/<thread>"
INBOX = f"{BASE}/messages/inbox"
OUTBOX = f"{BASE}/messages/outbox"
TAKE = f"{BASE}/messages/take"
DELIVER = f"{BASE}/messages/deliver"
RECEIPTS = f"{BASE}/messages/receipts"

TASKS = f"{BASE}/ai-tasks"
TASK = f"{BASE}/ai-tasks/<task_id>"
TASK_EVENTS = f"{BASE}/ai-tasks/<task_id>/events"
TASK_STREAM = f"{BASE}/ai-tasks/<task_id>/stream"
TASK_APPROVE = f"{BASE}/ai-tasks/<task_id>/approve"
TASK_RESUME = f"{BASE}/ai-tasks/<task_id>/resume"
TASK_PATCH = f"{BASE}/ai-tasks/<task_id>/patch"
TASK_APPROVALS = f"{BASE}/ai-tasks/approvals"
TASK_RULES = f"{BASE}/ai-tasks/rules"


def fill(rule: str, **parameters: str) -> str:
    """The address that a rule has for these parameters, each percent-encoded whole."""
    for name, value in parameters.items():
        rule = rule.replace(f"<{name}>", segment(value))
    return rule


def segment(text: str) -> str:
    """``text`` as one path segment. Dots are encoded too where clients or proxies would fold them away."""
    quoted = quote(text, safe="")
    return quoted.replace(".", "%2E") if text in (".", "..") else quoted


def on_peer(path: str, peer: str | None) -> str:
    """The same address, asked of another machine through the local daemon's gateway (``None``: this machine)."""
    return path if peer is None else f"{PEERS}/{segment(peer)}{path[len(BASE):]}"
