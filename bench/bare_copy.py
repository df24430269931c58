"""The floor: a file through a loopback socket, hashed and written by the receiver, in bare Python; two processes.

``python -m bench.bare_copy SOURCE TARGET``
"""

from __future__ import annotations

import hashlib
import os
import socket
import sys

PIECE = 1 << 20


def send(path: str, connection: socket.socket) -> None:
    """Read and send."""
    buffer = bytearray(PIECE)
    with open(path, "rb", buffering=0) as file:
        while count := file.readinto(buffer):
            connection.sendall(memoryview(buffer)[:count])


def receive(path: str, connection: socket.socket) -> str:
    """Receive, hash, write, and make it durable, as we do."""
    digest = hashlib.sha256()
    buffer = bytearray(PIECE)
    with open(path, "wb", buffering=0) as file:
        while count := connection.recv_into(buffer):
            piece = memoryview(buffer)[:count]
            digest.update(piece)
            file.write(piece)
        os.fsync(file.fileno())
    return digest.hexdigest()


def main(source: str, target: str) -> None:
    """Both ends."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = server.getsockname()
        pid = os.fork()
        if pid == 0:
            with socket.create_connection(address) as connection:
                send(source, connection)
            os._exit(0)
        connection, _ = server.accept()
        with connection:
            receive(target, connection)
        os.waitpid(pid, 0)


if __name__ == "__main__":
    main(*sys.argv[1:])
