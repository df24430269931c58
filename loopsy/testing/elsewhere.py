"""A platform that isn't POSIX, as far as Linux can play it: ``python -m loopsy.testing.elsewhere MODULE WORD…`` runs a
module with the POSIX-only modules, functions, flags and signals hidden.

Libraries choose their own Windows halves by ``sys.platform``, which can't be played: they are loaded before, and what
Twisted and the standard library use stays. What is shown is that *our* code asks for nothing that is missing there. Nor
may anything of ours but a socket be handed to the reactor: elsewhere it takes nothing else.
"""

from __future__ import annotations

import importlib
import os
import runpy
import signal
import stat
import sys
import types
from typing import Any

MODULES = ("crypt", "curses", "fcntl", "grp", "nis", "posix", "pty", "pwd", "readline", "resource", "spwd", "syslog",
           "termios", "tty")  # fmt: skip
FUNCTIONS = (
    "chown", "fchmod", "fchown", "fdatasync", "fork", "forkpty", "getegid", "geteuid", "getgid", "getlogin",
    "getloadavg", "getpgid", "getpgrp", "getsid", "getuid", "initgroups", "killpg", "lchown", "mkfifo",
    "mknod", "nice", "openpty", "pidfd_open", "posix_fadvise", "posix_fallocate", "posix_spawn", "pread", "preadv",
    "pwrite", "pwritev", "readv", "sched_getaffinity", "sendfile", "set_blocking", "setpgid", "setsid",
    "sync", "tcgetpgrp", "ttyname", "uname", "waitid", "writev",
)  # fmt: skip
FLAGS = ("O_CLOEXEC", "O_DIRECTORY", "O_NOCTTY", "O_NOFOLLOW", "O_TMPFILE", "RWF_NOWAIT", "WEXITED",
         "WNOHANG", "WNOWAIT", "P_PID")  # fmt: skip
SIGNALS = ("SIGALRM", "SIGCONT", "SIGHUP", "SIGKILL", "SIGPIPE", "SIGQUIT", "SIGSTOP", "SIGTSTP", "SIGTTIN",
           "SIGUSR1", "SIGUSR2", "SIGWINCH", "alarm", "pthread_sigmask", "setitimer", )  # fmt: skip
LIBRARIES = (
    "anyio._backends._asyncio", "argcomplete", "asyncio", "cryptography.x509", "getpass", "http.server", "klein._app",
    "logging.handlers", "mcp.server", "multipart", "prometheus_client", "psutil", "pyte", "redis", "rich.progress",
    "ruamel.yaml", "spake2", "subprocess", "tempfile", "twisted.internet.process", "twisted.scripts._twistd_unix",
    "zeroconf",
)  # fmt: skip


def hide() -> None:
    """From now on this process is elsewhere."""
    from twisted.internet import selectreactor

    selectreactor.install()
    _only_sockets(selectreactor.SelectReactor)
    for name in LIBRARIES:
        importlib.import_module(name)
    sys.modules["msvcrt"] = _msvcrt()
    for name in MODULES:
        sys.modules[name] = None  # type: ignore[assignment]
    for place, names in ((os, (*FUNCTIONS, *FLAGS)), (signal, SIGNALS)):
        for name in names:
            if hasattr(place, name):
                delattr(place, name)
    os.supports_dir_fd = os.supports_fd = os.supports_follow_symlinks = set()


def _msvcrt() -> Any:
    """Windows' module, as far as we use it."""
    import fcntl

    def locking(descriptor: int, mode: int, count: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)

    return types.SimpleNamespace(locking=locking, LK_NBLCK=2)


def _only_sockets(kind: Any) -> None:
    for name in ("addReader", "addWriter"):
        setattr(kind, name, _checked(getattr(kind, name)))


def _checked(add: Any) -> Any:
    def added(reactor: Any, descriptor: Any) -> Any:
        is_ours = type(descriptor).__module__.startswith("loopsy.")
        if is_ours and not stat.S_ISSOCK(os.fstat(descriptor.fileno()).st_mode):
            raise AssertionError(f"{descriptor!r} is no socket: elsewhere a reactor can't wait for it")
        return add(reactor, descriptor)

    return added


def main(module: str, words: list[str]) -> None:
    """Run a module as if by ``python -m``; ``twistd`` is Twisted's command."""
    hide()
    if module == "twistd":
        from twisted.scripts import twistd

        sys.argv = ["twistd", *words]
        twistd.run()
    else:
        sys.argv = [module, *words]
        runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
