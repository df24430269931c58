"""TLS as Twisted and pyOpenSSL have it, with less beside OpenSSL's own work: a person waits for single keys and their
echoes, and for large files (docs/decisions/051)."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from attrs import frozen
from OpenSSL import SSL
from OpenSSL._util import ffi, lib, no_zero_allocator
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from twisted.protocols.tls import TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from loopsy.wire.tls_records import Records

RECORD_BYTES = 16 * 1024
"""What a record holds at most."""
BUFFER_BYTES = 17 * 1024
"""For a record, and what OpenSSL may have to say beside it."""


class Connection(SSL.Connection):
    """pyOpenSSL's on memory BIOs. Its methods look for errors after successes too, and make a buffer for each call: for
    a single key that is a third of the time. These two call the same functions, and look only after failures."""

    _ssl: Any
    _into_ssl: Any
    _from_ssl: Any

    def __init__(self, context: SSL.Context) -> None:
        super().__init__(context, None)
        self._buffer = no_zero_allocator("char[]", BUFFER_BYTES)

    def seal(self, data: bytes) -> tuple[bytes, int]:
        """``data`` as it is to be sent, and how much of it that is: not all, where TLS has to hear something first.

        :raises SSL.Error: the connection is broken.
        """
        sealed, taken = [], 0
        while taken < len(data):
            piece = data[taken : taken + RECORD_BYTES]
            sent = lib.SSL_write(self._ssl, ffi.from_buffer(piece), len(piece))
            if sent <= 0:
                with suppress(SSL.WantReadError):
                    self._raise_ssl_error(self._ssl, sent)
                break
            taken += sent
            size = lib.BIO_read(self._from_ssl, self._buffer, BUFFER_BYTES)
            sealed.append(ffi.unpack(self._buffer, size))
        return b"".join(sealed), taken

    def unseal(self, record: bytes) -> bytes:
        """What a whole record of at most SHORT bytes holds.

        :raises SSL.Error: no data; it was taken in.
        """
        lib.BIO_write(self._into_ssl, record, len(record))
        size = lib.SSL_read(self._ssl, self._buffer, BUFFER_BYTES)
        if size <= 0:
            self._raise_ssl_error(self._ssl, size)
        data: bytes = ffi.unpack(self._buffer, size)
        return data


class Tls(TLSMemoryBIOProtocol):
    """Twisted's, without its gathering of small writes for the reactor's next turn. After the handshake what is
    written, and what comes as one whole short record, go the short way; what fails there is Twisted's to deal with."""

    _tlsConnection: Connection
    transport: Any

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._records = Records()

    def write(self, data: bytes) -> None:
        """To the other side."""
        if self._appSendBuffer or self._lostTLSConnection or self.disconnecting or not self._handshakeDone:
            super().write(data)
            return
        try:
            sealed, taken = self._tlsConnection.seal(data)
        except SSL.Error:
            self._tlsShutdownFinished(Failure())
            return
        if sealed:
            self.transport.write(sealed)
        if taken < len(data):
            super().write(data[taken:])

    def dataReceived(self, data: bytes) -> None:
        """From the other side."""
        is_one = self._records.is_one(data)
        is_busy = self._appSendBuffer or self._lostTLSConnection or self.disconnecting
        if not is_one or is_busy or not self._handshakeDone:
            super().dataReceived(data)
            return
        try:
            plain = self._tlsConnection.unseal(data)
        except (SSL.WantReadError, SSL.ZeroReturnError):
            self._flushReceiveBIO()
        except SSL.Error:
            self._tlsShutdownFinished(Failure())
        else:
            self.wrappedProtocol.dataReceived(plain)


@implementer(IOpenSSLServerConnectionCreator)
@frozen
class ServerConnections:
    """For the side that listens."""

    context: SSL.Context

    def serverConnectionForTLS(self, tlsProtocol: Any) -> SSL.Connection:
        """For one that came in."""
        return Connection(self.context)
