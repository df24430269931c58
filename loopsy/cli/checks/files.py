"""The configuration, who may read our files, and room for more."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

from loopsy.cli import render
from loopsy.cli.checks.finding import FAIL, PASS, WARN, Check, Patient
from loopsy.config import Config
from loopsy.errors import LoopsyError
from loopsy.store import configfile
from loopsy.store.layout import Layout

LOW_DISK = 100 * 1024 * 1024
"""Below this the database and the logs may soon not be written."""


def config(layout: Layout) -> tuple[Config | None, Check]:
    try:
        parsed = configfile.load(layout.config)
    except LoopsyError as error:
        return None, Check("config", FAIL, error.message, error.hint or "mend that line")
    if parsed.warnings:
        return parsed.config, Check("config", WARN, "; ".join(parsed.warnings), "nobody reads these keys")
    return parsed.config, Check("config", PASS, str(layout.config))


def permissions(patient: Patient) -> Iterator[Check]:
    layout = patient.layout
    if patient.fix and (mended := layout.mend()):
        yield Check("permissions", PASS, f"mended: {', '.join(map(str, mended))}")
    elif too_open := layout.too_open():
        names = ", ".join(map(str, too_open))
        yield Check("permissions", FAIL, f"others may read or write {names}", "mend them with: loopsy doctor --fix")
    else:
        yield Check("permissions", PASS, "only you may read what is under the data directory")


def disk(patient: Patient) -> Iterator[Check]:
    free = shutil.disk_usage(os.fspath(patient.layout.root)).free
    if free < LOW_DISK:
        yield Check("disk", FAIL, f"only {render.size(free)} are left", "make room: what can't be written is refused")
    else:
        yield Check("disk", PASS, f"{render.size(free)} are free")
