"""Twisted's transports, for those whose every write somebody waits for."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any
from weakref import proxy

from twisted.internet.abstract import FileDescriptor
from twisted.internet.tcp import Connection
from twisted.protocols.tls import TLSMemoryBIOProtocol


def be_prompt(transport: Any) -> None:
    """From here on what is written to a connection leaves at once. By itself Twisted waits for the reactor's next turn,
    and the kernel for the other side's receipt, so that many small writes leave as one: a key and its echo are one
    write each, and pass four connections on their way (docs/decisions/051). Does nothing to what is no TCP connection.
    """
    lowest = transport.transport if isinstance(transport, TLSMemoryBIOProtocol) else transport
    if isinstance(lowest, Connection) and lowest.connected and not lowest.TLS:
        lowest.setTcpNoDelay(True)
        # (a proxy: by a reference to itself it would outlive its end until the collector's next round)
        lowest.write = partial(write_now, proxy(lowest), lowest.socket.send)  # type: ignore[method-assign]


def write_now(descriptor: FileDescriptor, send: Callable[[bytes], int], data: bytes) -> None:
    """As much as ``send`` takes; the rest, and the news of a broken connection, is the reactor's."""
    waits = descriptor.dataBuffer or descriptor._tempDataLen
    is_ending = descriptor.disconnecting or not descriptor.connected or getattr(descriptor, "_aborting", False)
    if not (waits or is_ending):
        try:
            sent = send(data)
        except OSError:
            sent = 0
        if sent == len(data):
            return
        data = data[sent:]
    FileDescriptor.write(descriptor, data)
