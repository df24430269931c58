"""``config.yaml`` on disk: reading it, writing the first one, and changing single keys without touching the rest."""

from __future__ import annotations

import io
import os
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from attrs import frozen

from loopsy import config
from loopsy.errors import ConfigError
from loopsy.store import atomic
from loopsy.store.filelock import try_lock

HEADING = """\
# loopsy's configuration for this machine. Every key and its default: the sample in etc/config.yaml.
# After a change run: loopsy reload
"""

LOCK_S, LOCK_LOOK_S = 10.0, 0.01
"""A change takes some 50 ms."""


@frozen
class Added:
    """As a key's new value: its list with one more item."""

    item: str


@frozen
class Removed:
    """As a key's new value: its list without this item."""

    item: str


@frozen
class Entry:
    """As a key's new value: its list of maps, in which ``item`` takes the place of those whose ``by`` is ``value``.
    Without an item they are only taken out."""

    by: str
    value: Any
    item: Mapping[str, Any] | None = None


def load(path: Path) -> config.Parsed:
    """Read and check the file.

    :raises ConfigError: there is none, it can't be read, or it can't be used (says where and why).
    """
    return config.parse(_read(path), str(path))


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except FileNotFoundError:
        raise ConfigError(f"there is no {path}", hint="make one with: loopsy init") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 (byte {error.start})") from None
    except OSError as error:
        raise ConfigError(f"{path} can't be read: {error.strerror}") from None


def new_key() -> str:
    """A key: 32 random bytes as 64 hex digits."""
    return secrets.token_hex(32)


def create(path: Path, values: Mapping[str, Any], *, replace: bool = False) -> None:
    """Write a first config file. ``values`` are sections of keys, as in the file.

    :raises FileExistsError: there is one and ``replace`` is false. :raises ConfigError: the values can't be used.
    """
    out = io.StringIO(HEADING)
    out.seek(0, io.SEEK_END)
    _round_trip().dump(dict(values), out)
    config.parse(out.getvalue(), str(path))
    atomic.write(path, out.getvalue().encode(), replace=replace)


def change(path: Path, keys: Sequence[str], value: Any) -> None:
    """Set the key under ``keys`` (``("auth", "apiKey")``); None removes it. Comments, order and all else stay.

    :raises ConfigError: the file, or what it would become, can't be used.
    """
    change_all(path, [(keys, value)])


def change_all(path: Path, edits: Sequence[tuple[Sequence[str], Any]]) -> None:
    """Several at once: all of them or none. The text is checked before it replaces the old one, whole.

    :raises ConfigError: the file, or what it would become, can't be used.
    """
    with _alone(path):
        _change_all(path, edits)


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """The daemon and a command may change the file at the same time: each reads all of it before it writes all of it.

    :raises ConfigError: another holds it for longer than any change takes.
    """
    if not path.exists():
        yield  # whoever reads it will say so
        return
    descriptor = os.open(path.with_name(f".{path.name}.lock"), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        deadline = time.monotonic() + LOCK_S
        while not try_lock(descriptor):
            if time.monotonic() > deadline:
                raise ConfigError(f"{path} is being changed by another process for more than {LOCK_S:g} s")
            time.sleep(LOCK_LOOK_S)
        yield
    finally:
        os.close(descriptor)


def _change_all(path: Path, edits: Sequence[tuple[Sequence[str], Any]]) -> None:
    text = _read(path)
    config.compose(text, str(path))  # says in our own words where it is not YAML; the next takes long to find that out
    yaml = _round_trip()
    try:
        document = yaml.load(text)
    except Exception as error:
        raise ConfigError(f"{path} can't be edited: {error}") from None
    document = {} if document is None else document
    for keys, value in edits:
        _set(document, keys, value, path)
    out = io.StringIO()
    yaml.dump(document, out)
    config.parse(out.getvalue(), str(path))
    atomic.write(path, out.getvalue().encode(), path.stat().st_mode & 0o777 & ~0o077)


def _set(document: Any, keys: Sequence[str], value: Any, path: Path) -> None:
    section = document
    for at, key in enumerate(keys):
        if not isinstance(section, dict):
            raise ConfigError(f"{path}: {'.'.join(keys)} can't be set: {'.'.join(keys[:at]) or 'it'} is no section")
        if at == len(keys) - 1:
            break
        if section.get(key) is None:
            if value is None:
                return  # it isn't there
            section[key] = {}
        section = section[key]
    if value is None:
        section.pop(keys[-1], None)
    elif isinstance(value, Added | Removed):
        _set_item(section, keys[-1], value)
    elif isinstance(value, Entry):
        _set_entry(section, keys[-1], value)
    else:
        section[keys[-1]] = value


def _set_item(section: Any, key: str, value: Added | Removed) -> None:
    """In place, so that the comments beside the other items stay."""
    if section.get(key) is None:
        section[key] = []
    items = section[key]
    found = [at for at, item in enumerate(items) if str(item) == value.item]
    if isinstance(value, Added) and not found:
        items.append(value.item)
    if isinstance(value, Removed):
        for at in reversed(found):
            del items[at]


def _set_entry(section: Any, key: str, value: Entry) -> None:
    if section.get(key) is None:
        section[key] = []
    items = section[key]
    for at in reversed([at for at, item in enumerate(items) if item.get(value.by) == value.value]):
        del items[at]
    if value.item is not None:
        items.append(dict(value.item))


def _round_trip() -> Any:
    from ruamel.yaml import YAML  # only edits need it

    yaml = YAML(typ="rt")
    yaml.preserve_quotes = True
    yaml.width = 4096
    yaml.indent(mapping=2, sequence=4, offset=2)
    return yaml
