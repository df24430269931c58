"""Signals that come in the worst moment."""

from __future__ import annotations

import signal
import socket
import threading

from loopsy.cli.interrupts import catch, put_back
from tests.waiting import PATIENCE_S


def test_a_signal_that_comes_just_before_a_wait_is_heard_during_it() -> None:
    """Another thread takes it: that interrupts nothing in this one, just as if it had come a moment too early."""
    ours, theirs = socket.socketpair()
    ours.settimeout(None)
    heard = threading.Event()
    waits = threading.Event()

    def send() -> None:
        assert waits.wait(PATIENCE_S)
        signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
        theirs.sendall(b"before" if heard.wait(PATIENCE_S / 4) else b"after")

    before = catch(lambda *_: heard.set())
    sender = threading.Thread(target=send)
    try:
        sender.start()
        waits.set()
        assert ours.recv(10) == b"before"
    finally:
        put_back(before)
        sender.join()
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)
    assert signal.getsignal(signal.SIGTERM) == before[signal.SIGTERM]
    ours.close()
    theirs.close()
