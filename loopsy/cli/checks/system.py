"""The service by which the daemon starts, and this machine's sessions."""

from __future__ import annotations

from collections.abc import Iterator

from loopsy.cli import render
from loopsy.cli.checks.finding import FAIL, PASS, WARN, Check, Patient
from loopsy.store import sessions as on_disk


def service(patient: Patient) -> Iterator[Check]:
    """Whether it starts at login."""
    from loopsy.cli import service

    found = service.look(patient.layout)
    told = ". ".join(text for text in (found.note, found.advice) if text)
    if not found.enabled:
        yield Check("service", PASS, "the daemon is started by hand; to start it at login: loopsy enable")
    elif not found.current:
        text = f"{found.file} is not as it would be written now: loopsy, Python or PATH moved since"
        yield Check("service", WARN, text, "renew it: loopsy enable")
    elif patient.pid is not None and found.manager_runs and found.pid is None and found.system == "systemd":
        text = "the daemon starts at login, but the one that runs was started by hand"
        yield Check("service", PASS, f"{text}. {told}")
    else:
        yield Check("service", PASS, f"the daemon starts at login, by {found.system}. {told}")


def sessions(patient: Patient) -> Iterator[Check]:
    """Each that died or can't be used; and whether the others and this machine's daemon know each other."""
    from loopsy.cli import session

    main = on_disk.main_of(patient.layout)
    found = [session.look(one) for one in on_disk.every(main)]
    for one in found:
        name, again = f"session {one['name']}", f"loopsy session start {one['name']}"
        if one["state"] == "broken":
            yield Check(name, FAIL, one["error"], f"mend that line, and: {again}")
        elif one["state"] == "died":
            yield Check(name, WARN, "it was killed, or crashed", f"start it again: {again}")
        elif one["state"] == "silent":
            restart = f"loopsy session restart {one['name']}"
            yield Check(name, FAIL, f"runs (pid {one['pid']}), but does not serve us: {one['error']}", restart)
    yield from _strangers(patient)
    running = sum(one["state"] == "running" for one in found)
    if found:
        yield Check("sessions", PASS, f"{running} of {len(found)} running")


def _strangers(patient: Patient) -> Iterator[Check]:
    """Those that the main daemon has no keys, pin or address for, or other ones."""
    from loopsy.errors import LoopsyError
    from loopsy.store import acquaintance

    main = on_disk.main_of(patient.layout)
    if patient.config is None or main.root != patient.layout.root:
        return
    every = on_disk.every(main)
    if not every:
        return
    own = acquaintance.read(main)
    for one in every:
        try:
            node = acquaintance.read(one.layout)
        except LoopsyError:
            continue  # told above
        if not (acquaintance.knows(own, node) and acquaintance.knows(node, own)):
            text = f"{render.clean(node.name)} and this machine's daemon don't know each other (any more)"
            yield Check(f"session {one.name}", WARN, text, f"introduce them: loopsy session start {one.name}")
