"""Whether this machine is announced on the LAN."""

from __future__ import annotations

from collections.abc import Iterator

from loopsy.cli import render
from loopsy.cli.checks.finding import ASK_S, FAIL, PASS, WARN, Check, Patient
from loopsy.wire import urls


def mdns(patient: Patient) -> Iterator[Check]:
    """The daemon's own announcement, and whether it comes back to it."""
    if patient.pid is None or patient.config is None:
        return
    state = patient.daemon.ask("GET", urls.DISCOVERY, timeout=ASK_S)
    if not state["enabled"]:
        yield Check("mdns", PASS, "off: nobody finds this machine by itself, and it finds nobody")
    elif not state["published"]:
        remedy = "see whether another program holds port 5353/udp, and: loopsy logs"
        yield Check("mdns", FAIL, f"not announced on the LAN: {state.get('error') or 'it has just begun'}", remedy)
    elif not state["seesItself"]:
        remedy = "let a firewall pass 5353/udp to 224.0.0.251; pairing by address works without it"
        yield Check("mdns", WARN, f"announced at {', '.join(state['addresses'])}, but it does not hear itself", remedy)
    else:
        found = render.count(state["found"], "other machine")
        yield Check("mdns", PASS, f"announced at {', '.join(state['addresses'])}; {found} found")
