"""A task of Windows' Task Scheduler.
https://learn.microsoft.com/windows/win32/taskschd/task-scheduler-schema"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree as ET

from loopsy.osservice.calls import Call, told
from loopsy.osservice.standing import Done, Standing
from loopsy.osservice.unit import Unit

SYSTEM = "Task Scheduler"
NAMESPACE = "http://schemas.microsoft.com/windows/2004/02/mit/task"
SETTINGS = {
    "MultipleInstancesPolicy": "IgnoreNew",
    # The defaults are for chores: they end with the mains, or after three days.
    "DisallowStartIfOnBatteries": "false",
    "StopIfGoingOnBatteries": "false",
    "ExecutionTimeLimit": "PT0S",
    "AllowHardTerminate": "true",
    "StartWhenAvailable": "true",
    "Hidden": "false",
    "Enabled": "true",
    # Below 7, the usual, it would be held back as background work, and its jobs with it.
    "Priority": "5",
}
RESTARTS = {"Interval": "PT1M", "Count": "5"}
"""A minute is the least that is taken."""


def render(unit: Unit) -> str:
    """The task as XML, in whichever encoding it is written: its byte order mark tells."""
    task = ET.Element("Task", {"version": "1.2", "xmlns": NAMESPACE})
    _add(
        task,
        "RegistrationInfo",
        {"Description": f"loopsy: commands, files and messages between your machines ({unit.name})"},
    )
    triggers = ET.SubElement(task, "Triggers")
    _add(triggers, "LogonTrigger", {"Enabled": "true", "UserId": unit.user})
    principals = ET.SubElement(task, "Principals")
    least = {"UserId": unit.user, "LogonType": "InteractiveToken", "RunLevel": "LeastPrivilege"}
    _add(principals, "Principal", least).set("id", "Author")
    settings = _add(task, "Settings", SETTINGS)
    _add(settings, "RestartOnFailure", RESTARTS)
    actions = ET.SubElement(task, "Actions", {"Context": "Author"})
    program, *arguments = unit.argv
    words = {"Command": program, "Arguments": subprocess.list2cmdline(arguments), "WorkingDirectory": unit.home}
    _add(actions, "Exec", words)
    ET.indent(task)
    return f'<?xml version="1.0"?>\n{ET.tostring(task, encoding="unicode")}\n'


def _add(parent: ET.Element, name: str, values: Mapping[str, str]) -> ET.Element:
    element = ET.SubElement(parent, name)
    for key, value in values.items():
        ET.SubElement(element, key).text = value
    return element


def install(unit: Unit, environment: Mapping[str, str], call: Call, *, start: bool) -> Done:
    """Register the task; with ``start``, run it.

    :raises ServiceFailed: Windows refuses.
    """
    before = _registered(unit, call)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "task.xml"
        path.write_text(render(unit), "utf-16")
        told(call, "schtasks", "/Create", "/TN", unit.name, "/XML", str(path), "/F")
    if start:
        told(call, "schtasks", "/Run", "/TN", unit.name)
    return Done(files=(), changed=not before, started=start)


def uninstall(unit: Unit, environment: Mapping[str, str], call: Call) -> Done:
    """Take the task away. A daemon that runs goes on until it is stopped.

    :raises ServiceFailed: Windows refuses.
    """
    if not _registered(unit, call):
        return Done(files=(), changed=False)
    told(call, "schtasks", "/Delete", "/TN", unit.name, "/F")
    return Done(files=(), changed=True)


def standing(unit: Unit, environment: Mapping[str, str], call: Call) -> Standing:
    """How it stands."""
    status, text = call(["schtasks", "/Query", "/TN", unit.name, "/XML"])
    command = subprocess.list2cmdline(unit.argv[1:])
    return Standing(
        system=SYSTEM,
        name=unit.name,
        file=Path(unit.name),
        enabled=status == 0 and "<Enabled>false</Enabled>" not in text,
        current=status == 0 and command in _plain(text),
        pid=None,
        note="it runs while you are logged in",
    )


def _plain(text: str) -> str:
    return text.replace("&quot;", '"').replace("&amp;", "&").replace("&lt;", "<").replace("&gt;", ">")


def _registered(unit: Unit, call: Call) -> bool:
    return call(["schtasks", "/Query", "/TN", unit.name])[0] == 0
