"""``twistd loopsy``: options, and the one place that knows the global reactor."""

from __future__ import annotations

import gc
import signal
from contextlib import suppress
from typing import Any

from twisted.application.service import IService
from twisted.internet.error import ReactorNotRunning
from twisted.logger import Logger
from twisted.python import usage

from loopsy.config import Parsed
from loopsy.errors import LoopsyError
from loopsy.store import configfile
from loopsy.store.layout import Layout, data_dir


class Options(usage.Options):
    """Commands, files, context and messages between your machines. Runs one daemon over one data directory."""

    optParameters = [
        ["data-dir", "d", None, "The data directory [LOOPSY_DATA_DIR, or ~/.loopsy]"],
    ]

    layout: Layout
    parsed: Parsed

    def postOptions(self) -> None:
        """Read the config, so that a bad one is a usage error with its place, not a traceback."""
        self.layout = Layout(data_dir(self["data-dir"]))
        try:
            self.parsed = configfile.load(self.layout.config)
        except LoopsyError as error:
            raise usage.UsageError(f"{error}\n  {error.hint}" if error.hint else str(error)) from None


def makeService(options: Options) -> IService:
    """The whole daemon as one service."""
    gc.disable()  # what is imported stays: looking through it again and again would take a tenth of the start
    with suppress(ImportError):  # there is no epoll
        from loopsy.reactor import install

        install()
    from twisted.internet import reactor

    from loopsy.services.daemon import build
    from loopsy.web.listener import Listener

    gc.freeze()
    gc.enable()
    try:
        root, daemon = build(reactor, options.layout, options.parsed.config)
    except LoopsyError as error:
        raise SystemExit(f"loopsy: {error}" + (f"\n  {error.hint}" if error.hint else "")) from None
    log = Logger(namespace="loopsy")
    for warning in options.parsed.warnings:
        log.warn("{warning}", warning=warning)
    Listener(reactor, daemon).setServiceParent(root)
    reload_on_hangup(reactor, daemon.settings.reload, log)
    reactor.callWhenRunning(succeed_on_term, reactor)
    return root


def reload_on_hangup(reactor: Any, reload: Any, log: Logger) -> None:
    """SIGHUP reads the config again, where there is such a signal."""

    def take_up() -> None:
        try:
            reload()
        except LoopsyError as error:
            log.error("the configuration stays as it was: {error}", error=error)

    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, lambda *_: reactor.callFromThread(take_up))


def succeed_on_term(reactor: Any) -> None:
    """A stop that was asked for ends with status 0: ended by the signal, as is twistd's way, it would be a failure to
    launchd, which starts those again."""

    def stop() -> None:
        with suppress(ReactorNotRunning):  # it is stopping
            reactor.stop()

    signal.signal(signal.SIGTERM, lambda *_: reactor.callFromThread(stop))
