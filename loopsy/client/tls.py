"""TLS as Twisted and pyOpenSSL have it, with a short way for short records: on some connections a person waits for
single keys and their echoes (docs/decisions/051)."""

from __future__ import annotations

from typing import Any

from attrs import frozen
from OpenSSL import SSL
from OpenSSL._util import ffi, lib, no_zero_allocator
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from twisted.protocols.tls import TLSMemoryBIOProtocol
from zope.interface import implementer

from loopsy.wire.tls_records import SHORT, Records

BUFFER_BYTES = 4096
"""For the record of SHORT bytes, and what OpenSSL may have to say beside it."""


class Connection(SSL.Connection):
    """pyOpenSSL's on memory BIOs. Its methods look for errors after successes too, and make a buffer for each call: for
    a single key that is half of the time. These two call the same functions of OpenSSL, and look only after failures.
    """

    _ssl: Any
    _into_ssl: Any
    _from_ssl: Any

    def __init__(self, context: SSL.Context) -> None:
        super().__init__(context, None)
        self._buffer = no_zero_allocator("char[]", BUFFER_BYTES)

    def seal(self, data: bytes) -> bytes:
        """``data``, of at most SHORT bytes, as it is to be sent.

        :raises SSL.Error: nothing of it was taken.
        """
        sent = lib.SSL_write(self._ssl, data, len(data))
        if sent <= 0:
            self._raise_ssl_error(self._ssl, sent)
        size = lib.BIO_read(self._from_ssl, self._buffer, BUFFER_BYTES)
        sealed: bytes = ffi.unpack(self._buffer, size)
        return sealed

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
    """Twisted's, without its gathering of small writes for the reactor's next turn. After the handshake a short write,
    and what comes as one whole short record, go the short way; what fails there is Twisted's to deal with."""

    _tlsConnection: Connection
    transport: Any

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._records = Records()

    def write(self, data: bytes) -> None:
        """To the other side."""
        is_busy = self._appSendBuffer or self._lostTLSConnection or self.disconnecting
        if is_busy or not self._handshakeDone or not 0 < len(data) <= SHORT:
            super().write(data)
            return
        try:
            sealed = self._tlsConnection.seal(data)
        except SSL.Error:
            super().write(data)
        else:
            self.transport.write(sealed)

    def dataReceived(self, data: bytes) -> None:
        """From the other side."""
        is_one = self._records.is_one(data)
        if not is_one or self._appSendBuffer or self.disconnecting or not self._handshakeDone:
            super().dataReceived(data)
            return
        try:
            plain = self._tlsConnection.unseal(data)
        except SSL.Error:
            self._flushReceiveBIO()
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
