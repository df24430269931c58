"""The client of this machine's own daemon, for commands and the MCP bridge: blocking, small, quick to import."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from loopsy.client import http1
from loopsy.client.http1 import Response
from loopsy.errors import (
    ConfigError,
    ConnectionBroken,
    DaemonNotRunning,
    DataDirError,
    Forbidden,
    LoopsyError,
    Unauthenticated,
    from_wire,
)
from loopsy.store.layout import Layout, data_dir
from loopsy.wire import urls

CONNECT_S = 5.0
"""Loopback answers at once; a full backlog is the one reason to wait."""
DEFAULT_PORT = 19532
"""The same as ``config.DEFAULT_PORT`` (a test says so): importing config here would cost more than the request."""


class Endpoint(NamedTuple):
    """Where the daemon listens for us, and the key that says it is us."""

    host: str
    port: int
    key: str

    @property
    def authority(self) -> str:
        """For the Host header: an IPv6 address in brackets."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class LocalDaemon:
    """Requests to this machine's daemon, each on a connection of its own. The config is read at the first."""

    def __init__(self, directory: str | os.PathLike[str] | None = None) -> None:
        """``directory`` is the data directory; without it ``LOOPSY_DATA_DIR`` or ``~/.loopsy``."""
        self.layout = Layout(directory if directory is not None else data_dir())
        self._endpoint: Endpoint | None = None
        self._connection: Any = None
        self._broken_off = False

    @property
    def endpoint(self) -> Endpoint:
        """Where the daemon is, by its config file.

        :raises ConfigError: there is none, or it can't be used.
        """
        if self._endpoint is None:
            self._endpoint = read_endpoint(self.layout)
        return self._endpoint

    def another(self) -> LocalDaemon:
        """One more client of the same daemon, for another thread: it need not read the config again."""
        made = LocalDaemon(self.layout.root)
        made._endpoint = self.endpoint
        return made

    def ask(
        self,
        method: str,
        path: str,
        body: object = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> Any:
        """One question; the parsed JSON of its answer. ``body`` is sent as JSON, ``timeout`` is seconds a wait.

        :raises LoopsyError: the daemon's own error. :raises DaemonNotRunning: :raises ConnectionBroken:
        """
        with self.stream(method, path, body, headers, timeout) as response:
            return _parsed(response.read())

    def stream(
        self,
        method: str,
        path: str,
        body: object = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> Response:
        """The same, with the answer's body still to be read.

        :raises LoopsyError: the daemon's own error. :raises DaemonNotRunning: :raises ConnectionBroken:
        """
        endpoint = self.endpoint
        fields = {"Host": endpoint.authority, "Authorization": f"Bearer {endpoint.key}"}
        data = None
        if body is not None:
            fields["Content-Type"] = "application/json"
            data = json.dumps(body, separators=(",", ":")).encode()
        response = http1.request(self._connect(), method, path, {**fields, **(headers or {})}, data, timeout)
        if response.status >= 400:
            with response:
                raise _refusal(response, path)
        return response

    def upload(self, method: str, path: str, headers: Mapping[str, str], pieces: Iterable[bytes]) -> Any:
        """Send a body as it comes; the parsed JSON of the answer.

        :raises LoopsyError: the daemon's own error. :raises DaemonNotRunning: :raises ConnectionBroken:
        """
        endpoint = self.endpoint
        fields = {"Host": endpoint.authority, "Authorization": f"Bearer {endpoint.key}", **headers}
        with http1.upload(self._connect(), method, path, fields, pieces) as response:
            if response.status >= 400:
                raise _refusal(response, path)
            return _parsed(response.read())

    def break_off(self) -> None:
        """From another thread: end the request that is under way, and any that would follow. It fails there with
        ConnectionBroken, and the daemon ends what depends on its reader (a command, a wait)."""
        self._broken_off = True
        if self._connection is not None:
            http1.break_off(self._connection)

    def _connect(self) -> Any:
        self._connection = self._connected()
        if self._broken_off:
            self._connection.close()
            raise ConnectionBroken("the request was broken off")
        return self._connection

    def _connected(self) -> Any:
        host, port, _ = self.endpoint
        try:
            return http1.connect(host, port, CONNECT_S)
        except ConnectionRefusedError:
            raise DaemonNotRunning(f"the daemon is not running (nothing listens on port {port})") from None
        except TimeoutError:
            raise ConnectionBroken(f"port {port} did not take the connection within {CONNECT_S:g} s") from None
        except OSError as error:
            raise ConnectionBroken(f"the daemon can't be reached: {(error.strerror or str(error)).lower()}") from None


def _parsed(data: bytes) -> Any:
    try:
        return json.loads(data)
    except ValueError:
        raise ConnectionBroken("the answer is not JSON, or was cut") from None


def _refusal(response: Response, path: str) -> LoopsyError:
    """The error of an answer, with what helps added where we know better than the daemon."""
    try:
        body = json.loads(response.read())
    except (ValueError, ConnectionBroken):
        body = None
    error = from_wire(response.status, body)
    wait = response.headers.get("retry-after", "")
    if wait.isdigit():
        error.retry_after = int(wait)
        error.hint = error.hint or f"try again in {wait} s"
    if isinstance(error, Unauthenticated | Forbidden) and not path.startswith(f"{urls.PEERS}/"):
        error.hint = error.hint or "the daemon has another key than config.yaml says; try: loopsy restart"
    return error


# -- the config file, as far as a client needs it ---------------------------------------------------------------------
def read_endpoint(layout: Layout) -> Endpoint:
    """Where the daemon of a data directory listens.

    :raises ConfigError: there is no config, or it can't be used. :raises DataDirError: it may not be read.
    """
    try:
        text = layout.config.read_text("utf-8")
    except FileNotFoundError:
        raise ConfigError(f"there is no {layout.config}", hint="make one with: loopsy init") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{layout.config}: not UTF-8 (byte {error.start})") from None
    except OSError as error:
        raise DataDirError(f"{layout.config} can't be read: {(error.strerror or str(error)).lower()}") from None
    return glance(text) or _exact(text, str(layout.config))


# What a config file's line may be for ``glance``: a key, an item, or a comment, whole in itself, so that no line can
# mean something else because of another (block scalars, anchors, flow maps, text over several lines).
_WORD = r"[\w./~](?:[\w./~+@=()-]|:(?=\S))*"
_SCALAR = rf"""(?:"[^"\\]*"|'[^']*'|{_WORD}(?: {_WORD})*)"""
_LIST = rf"\[(?:{_SCALAR}(?:, ?{_SCALAR})*)?\]"
_LINE = rf"( *)(- )*(?:([\w.-]+):(?: +({_SCALAR}|{_LIST}|{{}}))?|(?<=- ){_SCALAR})? *(?:(?:(?<= )|(?<![^\n]))#.*)?"


def glance(text: str) -> Endpoint | None:
    """The endpoint in a file of the plain shape that ``loopsy init`` writes; None: it takes a real reader.

    Importing PyYAML costs as much as starting Python does, for three values. This reads only what has one meaning, line
    by line; a test holds it to the real reader's results.
    """
    found: dict[tuple[str, str], str] = {}
    section, indent = "", 0
    for line in text.split("\n"):
        match = re.fullmatch(_LINE, line)
        if match is None:
            return None
        spaces, item, key, value = len(match[1]), match[2], match[3], match[4] or ""
        if key is None or item:
            continue
        if spaces == 0:
            section, indent, place = key, 0, ("", key)
        else:
            indent = indent or spaces
            place = (section, key if spaces == indent else "")
        if place in found and place[1]:
            return None
        found[place] = value
    return _plain_endpoint(found)


def _plain_endpoint(found: Mapping[tuple[str, str], str]) -> Endpoint | None:
    port, host = found.get(("server", "port"), str(DEFAULT_PORT)), found.get(("server", "host"), "").strip("\"'")
    key = found.get(("auth", "apiKey"), "").strip("\"'")
    sections_only = all(found.get(("", name), "") in ("", "{}") for name in ("server", "auth"))
    if not sections_only or not re.fullmatch("[1-9][0-9]{0,4}", port) or int(port) > 65535:
        return None
    return Endpoint(loopback(host), int(port), key) if re.fullmatch("[!-~]{16,256}", key) else None


def _exact(text: str, source: str) -> Endpoint:
    """By the daemon's own reading of the file, which says what is wrong and where."""
    from loopsy import config

    parsed = config.parse(text, source).config
    return Endpoint(loopback(parsed.server.host), parsed.server.port, parsed.auth.api_key)


def loopback(host: str) -> str:
    """The loopback address under which a daemon that listens on ``host`` is reached from its own machine: it listens on
    127.0.0.1 whatever ``server.host`` says, unless that is an IPv6 address that stands for loopback already."""
    return "::1" if host in ("::", "::1") else "127.0.0.1"
