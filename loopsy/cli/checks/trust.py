"""Certificates, keys, and the peers that they are for."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from loopsy.cli import render
from loopsy.cli.checks.finding import ASK_S, PASS, WARN, Check, Patient
from loopsy.wire import urls

LAST_DAYS = 7


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
    from loopsy.store import certificate

    own = certificate.ensure(patient.layout, patient.config.server.hostname or "loopsy")
    days = (own.expires - datetime.now(UTC)).days
    if days < LAST_DAYS:
        remedy = "let the daemon run, which renews it, then: loopsy restart"
        yield Check("tls", WARN, f"the certificate ends in {days} days", remedy)
    else:
        yield Check("tls", PASS, f"on, the certificate is good for {days} days")


def peers(patient: Patient) -> Iterator[Check]:
    if patient.pid is None or patient.config is None:
        return
    from loopsy.cli.peers import is_stranger

    everyone = patient.daemon.ask("GET", urls.PEERS, timeout=ASK_S)["peers"]
    peers = [peer for peer in everyone if not is_stranger(peer)]
    if not peers:
        yield Check("peers", WARN, "none are known", "add one with: loopsy peers add <address> --name <name>")
    for peer in peers:
        yield _peer(peer)


def _peer(peer: dict[str, Any]) -> Check:
    from loopsy.cli.peers import endpoint, label

    name, where = f"peer {render.clean(label(peer))}", endpoint(peer)
    if not peer.get("trusted"):
        remedy = "pair with it: loopsy pair"
        return Check(name, WARN, f"{peer.get('status')} at {where}, but there is no key for it", remedy)
    if peer.get("status") != "online":
        remedy = (
            f"is its daemon running there (loopsy status), and does a firewall let port {peer.get('port')} through?"
        )
        return Check(name, WARN, f"{peer.get('status')} at {where}", remedy)
    if not peer.get("pin"):
        text = f"online at {where}, in plain HTTP: what passes can be read"
        return Check(name, WARN, text, "pair with it: loopsy pair")
    return Check(name, PASS, f"online at {where}, its certificate pinned")
