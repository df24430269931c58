"""What only this process can read or write (standard input and output, pipes, devices, files that the operating system
keeps from the daemon) goes through it."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

from loopsy.cli import arguments
from loopsy.cli.transfer import PIPE, path_for_people, wire_name
from loopsy.errors import ChecksumMismatch, LoopsyError, UsageError
from loopsy.wire import urls

PIECE = 256 * 1024
BOUNDARY = "loopsy-" + "".join(f"{byte:02x}" for byte in os.urandom(16))
"""Nobody can put it into a file before it is made."""


def pipe(args: argparse.Namespace, source: str, destination: str) -> int:
    """Send one stream, or pull into one.

    :raises LoopsyError: it failed.
    """
    began = time.monotonic()
    if args.direction == "send":
        if args.dry_run:
            raise UsageError("what a stream will bring can't be said before it is read")
        result = send(args, source, destination)
    else:
        result = pull(args, source, destination)
    if arguments.wants_json(args):
        seconds = round(time.monotonic() - began, 3)
        stream = sys.stderr if args.direction == "pull" and destination == PIPE else sys.stdout
        print(json.dumps({**result, "files": 1, "skipped": 0, "seconds": seconds}), file=stream)
    return 0


def send(args: argparse.Namespace, source: str, destination: str) -> dict[str, Any]:
    """Send a stream as one file, which appears when it is whole.

    :raises ChecksumMismatch: something else arrived.
    """
    from hashlib import sha256

    peer = arguments.peer_of(args.peer)
    found = sha256()
    descriptor = 0 if source == PIPE else os.open(source, os.O_RDONLY)
    name = "stdin" if source == PIPE else os.path.basename(source)

    def pieces() -> Iterator[bytes]:
        yield head(wire_name(destination), name)
        while piece := os.read(descriptor, PIECE):
            found.update(piece)
            yield piece
        yield f"\r\n--{BOUNDARY}--\r\n".encode()

    headers = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
    answer = arguments.daemon_of(args).upload("POST", urls.on_peer(urls.TRANSFER_PUSH, peer), headers, pieces())
    if answer["checksum"] != found.hexdigest():
        raise ChecksumMismatch(f"{path_for_people(answer['path'])} there is not what was sent; send it again")
    return {"path": answer["path"], "bytes": answer["size"], "sha256": answer["checksum"]}


def head(destination: str, name: str) -> bytes:
    """The multipart body before the content."""
    safe = "".join(c if c.isprintable() and c not in '"\\' else "_" for c in name) or "stream"
    lines = (
        f"--{BOUNDARY}",
        'Content-Disposition: form-data; name="destPath"',
        "",
        destination,
        f"--{BOUNDARY}",
        f'Content-Disposition: form-data; name="file"; filename="{safe}"',
        "Content-Type: application/octet-stream",
        "",
        "",
    )
    return "\r\n".join(lines).encode()


def pull(args: argparse.Namespace, source: str, destination: str) -> dict[str, Any]:
    """Pull one file into a stream, byte for byte.

    :raises LoopsyError: it failed; what had come is written.
    """
    from hashlib import sha256

    from loopsy.cli.exec import write_all

    peer, found, size = arguments.peer_of(args.peer), sha256(), 0
    descriptor = 1 if destination == PIPE else os.open(destination, os.O_WRONLY)
    path = f"{urls.on_peer(urls.TRANSFER_FILE, peer)}?path={quote(wire_name(source), safe='')}"
    with arguments.daemon_of(args).stream("GET", path) as response:
        whole = response.headers.get("x-loopsy-file-size", "")
        for piece in response.stream():
            found.update(piece)
            size += len(piece)
            write_all(descriptor, piece)
    if whole.isdigit() and size != int(whole):
        raise LoopsyError(f"the stream was cut: {size} of {whole} bytes came")
    return {"path": source, "bytes": size, "sha256": found.hexdigest()}
