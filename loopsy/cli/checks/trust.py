"""Certificates, keys, and the peers that they are for."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from loopsy.cli import render
from loopsy.cli.checks.finding import ASK_S, FAIL, PASS, WARN, Check, Patient
from loopsy.client.local import LocalDaemon
from loopsy.errors import LoopsyError
from loopsy.wire import urls

LAST_DAYS = 7
KEY_DAYS = 365
"""Older keys should give way to new ones, which takes one command."""
SKEW_S = 30.0
"""Deadlines and lifetimes are told in wall-clock time; beyond this they are felt to be wrong."""
AT_ONCE = 8
"""Peers that are looked at at the same time."""


def tls(patient: Patient) -> Iterator[Check]:
    if patient.config is None:
        return
    if not patient.config.tls.enabled:
        remedy = "set tls.enabled: true in config.yaml, and: loopsy restart"
        yield Check("tls", WARN, "off: keys and data cross the network in clear", remedy)
        return
    if not patient.layout.tls_certificate.exists():
        yield Check("tls", PASS, "on; the certificate is made when the daemon starts")
        return
    if not patient.layout.tls_key.exists():
        remedy = "restore it from a backup; else remove tls/cert.pem too, and pair again with every peer"
        yield Check("tls", FAIL, f"there is no {patient.layout.tls_key}", remedy)
        return
    from loopsy.store import certificate

    own, now = certificate.ensure(patient.layout, patient.config.server.hostname or "loopsy"), datetime.now(UTC)
    days, age = (own.expires - now).days, (now - own.certificate.not_valid_before_utc - certificate.SKEW).days
    text = f"on, the certificate is {render.count(age, 'day')} old and good for {days} more"
    remedy = "let the daemon run, which renews it, then: loopsy restart"
    if days < 0:
        yield Check("tls", FAIL, f"the certificate ended {-days} days ago", remedy)
    elif days < LAST_DAYS:
        yield Check("tls", WARN, text, remedy)
    elif age < 0:
        yield Check("tls", WARN, "the certificate is from the future", "is this machine's clock right?")
    else:
        yield Check("tls", PASS, text)


def keys(patient: Patient) -> Iterator[Check]:
    """Who shares one, and how old they are."""
    if patient.config is None:
        return
    auth = patient.config.auth
    faults = [*_shared(auth.api_key, auth.allowed_keys), *_old(_made(patient), set(auth.allowed_keys))]
    for text, remedy in faults:
        yield Check("keys", WARN, text, remedy)
    if not faults:
        yield Check(
            "keys", PASS, f"{render.count(len(auth.allowed_keys), 'peer has', 'peers have')} a key of their own"
        )


def _shared(own: str, allowed: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """A key that several present: whoever of them it is, it gets the same name."""
    for name, key in allowed.items():
        others = [other for other, theirs in allowed.items() if theirs == key and other < name]
        if key == own:
            yield (
                f"{name} has this machine's own key: it may do all that you may",
                "loopsy key generate; then pair again",
            )
        elif others:
            yield f"{name} and {', '.join(others)} have the same key", f"make new ones: loopsy peers rotate {name}"


def _made(patient: Patient) -> dict[str, int]:
    """When the keys of each peer were made (ms since the epoch), as far as the daemon wrote it down."""
    from loopsy.cli import logs

    if not patient.layout.database.exists():
        return {}
    prefix = "keys-made:"
    try:
        with logs.open_read_only(patient.layout) as connection:
            rows = connection.execute("SELECT name, value FROM facts WHERE name GLOB ?", (f"{prefix}*",)).fetchall()
    except sqlite3.Error:
        return {}  # the database's own check says why
    return {name.removeprefix(prefix): int(value) for name, value in rows}


def _old(made: Mapping[str, int], names: Collection[str]) -> Iterator[tuple[str, str]]:
    for name, at in made.items():
        days = round((time.time() - at / 1000) / 86400)
        if name in names and days > KEY_DAYS:
            yield f"the keys with {name} are {days} days old", f"make new ones: loopsy peers rotate {name}"


def peers(patient: Patient) -> Iterator[Check]:
    if patient.pid is None or patient.config is None:
        return
    from loopsy.cli.peers import is_stranger

    everyone = patient.daemon.ask("GET", urls.PEERS, timeout=ASK_S)["peers"]
    peers = [peer for peer in everyone if not is_stranger(peer)]
    if not peers:
        yield Check("peers", WARN, "none are known", "add one with: loopsy peers add <address> --name <name>")
    with ThreadPoolExecutor(max_workers=AT_ONCE) as pool:
        shown = list(pool.map(lambda peer: _certificate(patient.daemon, peer), peers))
    for peer, fingerprint in zip(peers, shown, strict=True):
        yield _peer(peer, fingerprint)


def _certificate(daemon: LocalDaemon, peer: dict[str, Any]) -> str | None:
    """The fingerprint that is shown at the address of one that has a pin and isn't reached."""
    if peer.get("status") == "online" or not peer.get("pin"):
        return None
    try:
        where = {"address": peer["address"], "port": peer["port"]}
        found: str | None = daemon.ask("POST", urls.TRUST_PROBE, where, timeout=ASK_S).get("fingerprint")
    except LoopsyError:
        return None  # its status says so
    return found


def clock(patient: Patient) -> Iterator[Check]:
    """Ours beside those of the peers that answer."""
    from loopsy.cli.peers import label

    if patient.pid is None or patient.config is None:
        return
    everyone = patient.daemon.ask("GET", urls.PEERS, timeout=ASK_S)["peers"]
    online = [peer for peer in everyone if peer.get("trusted") and peer.get("status") == "online"]
    with ThreadPoolExecutor(max_workers=AT_ONCE) as pool:
        skews = list(pool.map(lambda peer: _skew(patient.daemon, peer["nodeId"]), online))
    known = [(label(peer), skew) for peer, skew in zip(online, skews, strict=True) if skew is not None]
    wrong = [(name, skew) for name, skew in known if abs(skew) > SKEW_S]
    for name, skew in wrong:
        text = f"that of {name} is {render.span(round(abs(skew)))} {'ahead of' if skew > 0 else 'behind'} ours"
        yield Check("clock", WARN, text, "set both by the network: timedatectl set-ntp true, or as your system does it")
    if known and not wrong:
        yield Check("clock", PASS, f"within {SKEW_S:g} s of {render.count(len(known), 'peer')}")


def _skew(daemon: LocalDaemon, node_id: str) -> float | None:
    """How far a peer's clock is ahead of ours (s); None: it does not say."""
    before = time.time()
    try:
        with daemon.stream("GET", urls.on_peer(urls.HEALTH, node_id), timeout=ASK_S) as response:
            said, after = response.headers.get("x-loopsy-peer-date"), time.time()
        theirs = parsedate_to_datetime(said or "").timestamp() + 0.5  # whole seconds are told
    except (LoopsyError, ValueError):
        return None
    return theirs - (before + after) / 2


def _peer(peer: dict[str, Any], shown: str | None) -> Check:
    from loopsy.cli.peers import endpoint, label

    name, called, where = f"peer {render.clean(label(peer))}", render.clean(label(peer)), endpoint(peer)
    if not peer.get("trusted"):
        remedy = "pair with it: loopsy pair"
        return Check(name, WARN, f"{peer.get('status')} at {where}, but there is no key for it", remedy)
    if shown is not None and shown not in str(peer.get("pin")).split(","):
        remedy = (
            f"if it was set up anew: loopsy peers revoke {called}, and pair again; else somebody else answers there"
        )
        return Check(name, FAIL, f"{where} shows another certificate than the pinned one", remedy)
    if peer.get("status") != "online":
        remedy = (
            f"is its daemon running there (loopsy status), and does a firewall let port {peer.get('port')} through?"
        )
        return Check(name, WARN, f"{peer.get('status')} at {where}", remedy)
    if not peer.get("pin"):
        text = f"online at {where}, in plain HTTP: what passes can be read"
        return Check(name, WARN, text, "pair with it: loopsy pair")
    return Check(name, PASS, f"online at {where}, its certificate pinned")
