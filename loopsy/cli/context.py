"""``loopsy context``: small named values, here or on a peer."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from loopsy.cli import arguments, render
from loopsy.client.local import LocalDaemon
from loopsy.errors import LoopsyError, UsageError
from loopsy.wire import urls


def fill(parser: arguments.Parser, name: str) -> None:
    """The parser of ``context``."""
    arguments.describe(
        parser,
        "Share small values (up to 1 MiB) between machines.",
        "loopsy context set build/last 4711 --peer kai --ttl 1h\nloopsy context get build/last",
    )
    actions = parser.add_subparsers(metavar="<action>", required=True)
    for fill_one, word, text in (
        (_fill_set, "set", "set a value"),
        (_fill_get, "get", "print a value"),
        (_fill_list, "list", "list the entries"),
        (_fill_delete, "delete", "delete an entry"),
        (_fill_export, "export", "write all entries as JSON"),
        (_fill_import, "import", "read entries from JSON"),
    ):
        action = actions.add_parser(word, help=text)
        fill_one(action)
        arguments.add_peer(action)


def _fill_set(parser: argparse.ArgumentParser) -> None:
    arguments.describe(
        parser,
        "Set a value. It is on disk when the command returns.",
        "loopsy context set greeting 'hello kai'\n"
        "loopsy context set --ttl 90s token - < token.txt     # - reads the value from stdin\n"
        "loopsy context set offset -- -5                      # behind -- a value may start with a dash",
        set_value,
    )
    parser.add_argument("key")
    parser.add_argument("value", help="the value; - reads it from stdin")
    parser.add_argument(
        "--ttl", type=arguments.milliseconds, metavar="TIME", help="gone after 90 (seconds), 5m, 2h, 7d"
    )
    arguments.add_json(parser)


def _fill_get(parser: argparse.ArgumentParser) -> None:
    arguments.describe(parser, "Print a value, byte for byte.", "loopsy context get greeting --peer kai", get)
    parser.add_argument("key")
    arguments.add_json(parser)


def _fill_list(parser: argparse.ArgumentParser) -> None:
    arguments.describe(parser, "List the entries.", "loopsy context list --prefix build/", show)
    parser.add_argument("--prefix", default="", help="only keys that start so")
    arguments.add_json(parser)


def _fill_delete(parser: argparse.ArgumentParser) -> None:
    arguments.describe(parser, "Delete an entry.", "loopsy context delete greeting", delete)
    parser.add_argument("key")
    arguments.add_json(parser)


def _fill_export(parser: argparse.ArgumentParser) -> None:
    arguments.describe(
        parser,
        "Write all entries as one JSON object by key, as context.json of Loopsy 1.x has it.",
        "loopsy context export > context.json\nloopsy context export --prefix build/ build.json",
        export,
    )
    parser.add_argument("file", nargs="?", default="-", help="where to (default: stdout)")
    parser.add_argument("--prefix", default="", help="only keys that start so")


def _fill_import(parser: argparse.ArgumentParser) -> None:
    arguments.describe(
        parser,
        "Set every entry of a JSON file, as export or Loopsy 1.x wrote it. What has expired meanwhile is left out.",
        "loopsy context import context.json --peer kai",
        import_entries,
    )
    parser.add_argument("file", nargs="?", default="-", help="which file (default: stdin)")
    parser.add_argument("--prefix", default="", help="only keys that start so")


# -- one entry --------------------------------------------------------------------------------------------------------
def _address(key: str, args: argparse.Namespace) -> str:
    return urls.on_peer(urls.fill(urls.CONTEXT_ENTRY, key=_utf8(key, "the key")), arguments.peer_of(args.peer))


def _utf8(text: str, what: str) -> str:
    """Text of the command line; bytes that are not UTF-8 come as half characters, which the wire can't carry."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise UsageError(f"{what} is not UTF-8") from None
    return text


def set_value(args: argparse.Namespace) -> int:
    """Set a value."""
    body: dict[str, Any] = {"value": _stdin_text() if args.value == "-" else _utf8(args.value, "the value")}
    if args.ttl is not None:
        body["ttl"] = args.ttl / 1000
    entry = arguments.daemon_of(args).ask("PUT", _address(args.key, args), body)
    if arguments.wants_json(args):
        render.print_json(entry)
    return 0


def _stdin_text() -> str:
    try:
        return sys.stdin.buffer.read().decode("utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(
            f"the value is not UTF-8 (byte {error.start})", hint="encode it, for example with base64"
        ) from None


def get(args: argparse.Namespace) -> int:
    """Print a value: just its bytes, and a line break where a person reads it."""
    entry = arguments.daemon_of(args).ask("GET", _address(args.key, args))
    if arguments.wants_json(args):
        render.print_json(entry)
    elif sys.stdout.isatty():
        print(render.clean_text(entry["value"]))
    else:
        sys.stdout.buffer.write(entry["value"].encode("utf-8"))
    return 0


def delete(args: argparse.Namespace) -> int:
    """Delete an entry."""
    answer = arguments.daemon_of(args).ask("DELETE", _address(args.key, args))
    if arguments.wants_json(args):
        render.print_json(answer)
    return 0


# -- all of them ------------------------------------------------------------------------------------------------------
def _fetch(args: argparse.Namespace, daemon: LocalDaemon) -> Any:
    query = f"?prefix={urls.segment(_utf8(args.prefix, 'the prefix'))}" if args.prefix else ""
    return daemon.ask("GET", urls.on_peer(urls.CONTEXT, arguments.peer_of(args.peer)) + query)


def show(args: argparse.Namespace) -> int:
    """The list."""
    daemon = arguments.daemon_of(args)
    answer = _fetch(args, daemon)
    if arguments.wants_json(args):
        render.print_json(answer)
    elif not answer["entries"]:
        print("no entries" + (f" start with {render.clean(args.prefix)!r}" if args.prefix else ""))
    else:
        names, now = _names(daemon), time.time() * 1000
        rows = [_row(entry, names, now) for entry in answer["entries"]]
        print(render.table(("key", "size", "changed", "expires", "from"), rows))
    return 0


def _names(daemon: LocalDaemon) -> dict[str, str]:
    """What to call the nodes that set values; a list is worth showing without."""
    from loopsy.cli.peers import label

    try:
        names = {str(peer["nodeId"]): label(peer) for peer in daemon.ask("GET", urls.PEERS)["peers"]}
        own = daemon.layout.node_id.read_text().strip()
    except (LoopsyError, OSError, KeyError, UnicodeDecodeError):
        return {}
    return {**names, own: "this machine"}


def _row(entry: dict[str, Any], names: dict[str, str], now_ms: float) -> tuple[object, ...]:
    node_id, expires = str(entry.get("fromNodeId", "")), entry.get("expiresAt")
    left = f"in {render.span((expires - now_ms) / 1000)}" if expires else "never"
    length = render.size(len(entry["value"].encode("utf-8", "replace")))
    return entry["key"], length, render.ago(entry.get("updatedAt") or 0, now_ms), left, names.get(node_id, node_id[:8])


def export(args: argparse.Namespace) -> int:
    """All entries as one JSON object."""
    entries = {entry["key"]: entry for entry in _fetch(args, arguments.daemon_of(args))["entries"]}
    if args.file == "-":
        render.print_json(entries)
        return 0
    from loopsy.store import atomic

    try:
        atomic.write(Path(args.file), (json.dumps(entries, ensure_ascii=False, indent=2) + "\n").encode())
    except OSError as error:
        raise _file_error(args.file, error, "written") from None
    print(f"wrote {render.count(len(entries), 'entry', 'entries')} to {render.clean(args.file)}")
    return 0


def import_entries(args: argparse.Namespace) -> int:
    """Set each entry of a file, for as long as it had left to live."""
    daemon, now = arguments.daemon_of(args), time.time() * 1000
    entries = [entry for entry in _read_entries(args.file) if entry.key.startswith(args.prefix)]
    live = [entry for entry in entries if entry.expires_at is None or entry.expires_at > now]
    for number, entry in enumerate(live):
        body = {"value": entry.value, "ttl": _ttl_left(entry, now)}
        try:
            daemon.ask("PUT", _address(entry.key, args), {name: v for name, v in body.items() if v is not None})
        except LoopsyError as error:
            error.message = f"{entry.key!r}, after {number} of {len(live)} were set: {error.message}"
            raise
    gone = len(entries) - len(live)
    print(f"set {render.count(len(live), 'entry', 'entries')}" + (f"; {gone} had expired" if gone else ""))
    return 0


def _ttl_left(entry: Any, now_ms: float) -> float | None:
    """Seconds. An entry with a TTL but without its end starts anew."""
    ttl: float | None = entry.ttl
    return ttl if entry.expires_at is None else max((entry.expires_at - now_ms) / 1000, 0.001)


def _read_entries(name: str) -> list[Any]:
    """The entries of a file in any of the shapes that Loopsy 1.x wrote.

    :raises UsageError: it can't be read, or holds something else.
    """
    from loopsy.errors import InvalidRequest
    from loopsy.store import older
    from loopsy.wire import codec

    try:
        data = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
        value = codec.read_json(data)
        if not isinstance(value, dict | list):
            raise InvalidRequest("must hold an object or a list of entries")
        return older.entries(value)
    except OSError as error:
        raise _file_error(name, error, "read") from None
    except InvalidRequest as error:
        what = "standard input" if name == "-" else name
        raise UsageError(f"{what}: {error.message.replace('the body', 'the file')}") from None


def _file_error(name: str, error: OSError, done: str) -> LoopsyError:
    return LoopsyError(f"{os.fspath(name)} can't be {done}: {(error.strerror or str(error)).lower()}")
