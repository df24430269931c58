"""``loopsy session``: further daemons on this machine, each a peer of its own."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple

from loopsy.cli import arguments, render
from loopsy.client.local import LocalDaemon
from loopsy.errors import ConfigError, LoopsyError, UsageError
from loopsy.store import pidfile, sessions
from loopsy.store.layout import Layout
from loopsy.store.sessions import Session
from loopsy.wire import urls

if TYPE_CHECKING:
    from loopsy.store.acquaintance import Node

NOT_RUNNING = 3
"""As ``loopsy status``."""
MOST = 50
"""Each takes some 60 MB and one of the ports right above the main daemon's."""
PORTS = 1000
"""So many are tried for a free one."""
ASK_S = 5.0
COLUMNS = ("session", "state", "pid", "port", "hostname", "up for")

START = """Start one more daemon on this machine, with its own data, port, keys and host name (<host>-<name>).
It, this machine's daemon and its other sessions know each other. One that runs already is left as it is."""
FLEET = """Start several sessions at once: worker-1, worker-2 … Those that run already are left as they are; one that
can't be started is named, and the others run."""
REMOVE = """Stop a session, take its keys out of this machine's other daemons, and delete its data directory.
(stop leaves all that: a stopped session comes back as the same peer.)"""


# -- the parsers ------------------------------------------------------------------------------------------------------
def fill(parser: arguments.Parser, name: str) -> None:
    """The parser of ``session``."""
    arguments.describe(
        parser,
        "Run more daemons on this machine, each a peer of its own. Speak to one with: loopsy --session NAME …",
        "loopsy session start-fleet --count 3\nloopsy session list\nloopsy --session worker-1 status",
    )
    actions = parser.add_subparsers(metavar="<action>", required=True)
    _fill_starts(actions)
    one = (
        ("stop", "stop one", "Stop a session. Its data, port and keys stay.", stop),
        ("restart", "stop one and start it again", "Stop a session and start it again.", restart),
        ("remove", "stop one and delete all of it", REMOVE, remove),
        ("status", "show one", "Show a session. Exit status 3: it is not running.", status),
    )
    for word, text, more, run in one:
        action = actions.add_parser(word, help=text)
        arguments.describe(action, more, f"loopsy session {word} worker-1", run)
        _add_name(action)
        if word == "status":
            arguments.add_json(action)
        if word == "remove":
            action.add_argument("--yes", action="store_true", help="don't ask")
    for word, text, run in (("stop-all", "Stop all sessions.", stop_all), ("list", "List the sessions.", show)):
        action = actions.add_parser(word, help=text.lower().rstrip("."))
        arguments.describe(action, text, f"loopsy session {word}", run)
        if word == "list":
            arguments.add_json(action)


def _fill_starts(actions: Any) -> None:
    one = actions.add_parser("start", help="start one")
    arguments.describe(one, START, "loopsy session start builds\nloopsy --session builds exec kai -- make", start)
    _add_name(one)
    fleet = actions.add_parser("start-fleet", help="start several: worker-1, worker-2 …")
    arguments.describe(fleet, FLEET, "loopsy session start-fleet --count 3", start_fleet)
    fleet.add_argument("-c", "--count", type=_number, default=3, metavar="N", help="how many (%(default)s)")
    for parser in (one, fleet):
        parser.add_argument(
            "--port",
            type=arguments.port_number,
            default=sessions.FIRST_PORT,
            help="a new session takes the first free port from here on (%(default)s)",
        )


def _add_name(parser: argparse.ArgumentParser) -> None:
    action = parser.add_argument("name", help="the session's name: letters, digits, - and _")
    setattr(action, "completer", arguments.session_names)  # noqa: B010 - argcomplete's way to say it


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= MOST):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to {MOST}")
    return int(text)


def _main(args: argparse.Namespace) -> Layout:
    return sessions.main_of(arguments.layout_of(args))


# -- start ------------------------------------------------------------------------------------------------------------
class Outcome(NamedTuple):
    """What came of starting one."""

    name: str
    words: str
    error: LoopsyError | None = None


def start(args: argparse.Namespace) -> int:
    """One."""
    main = _main(args)
    return _tell(bring_up(main, [sessions.find(main, args.name)], args.port))


def start_fleet(args: argparse.Namespace) -> int:
    """Several."""
    main = _main(args)
    names = [f"worker-{number}" for number in range(1, args.count + 1)]
    return _tell(bring_up(main, [sessions.find(main, name) for name in names], args.port))


def _tell(outcomes: Sequence[Outcome]) -> int:
    from loopsy.cli.main import complain

    for outcome in outcomes:
        if outcome.error is None:
            print(f"{outcome.name} {outcome.words}")
    sys.stdout.flush()
    failures = [outcome for outcome in outcomes if outcome.error is not None]
    for outcome in failures:
        assert outcome.error is not None
        complain(LoopsyError(f"{outcome.name}: {outcome.error.message}", hint=outcome.error.hint))
    return 1 if failures else 0


def bring_up(main: Layout, wanted: Sequence[Session], port: int) -> list[Outcome]:
    """Make those that are new, let all know each other, and start those that don't run; all that can be.

    :raises ConfigError: the main daemon's config can't be used.
    """
    from loopsy.cli import launch

    failed = _make_new(main, wanted, port)
    failed.update(acquaint(main, [session for session in wanted if session.name not in failed]))
    running = {session.name: pidfile.running(session.layout.pid) for session in wanted}
    due = [session for session in wanted if session.name not in failed and running[session.name] is None]
    started = dict(zip((session.name for session in due), launch.start_all([s.layout for s in due]), strict=True))
    outcomes = []
    for name, pid in running.items():
        found = failed.get(name) or started.get(name)
        if found is None:
            outcomes.append(Outcome(name, f"runs already (pid {pid})"))
        elif isinstance(found, LoopsyError):
            outcomes.append(Outcome(name, "failed", found))
        else:
            outcomes.append(Outcome(name, f"runs (pid {found.pid}, port {found.port})"))
    return outcomes


def _make_new(main: Layout, wanted: Sequence[Session], port: int) -> dict[str, LoopsyError]:
    """The data directories that aren't there yet; what could not be made, by name.

    :raises ConfigError: the main daemon's config can't be used.
    """
    from loopsy.store import configfile

    config = configfile.load(main.config).config
    taken = {config.server.port, *sessions.ports(sessions.every(main))}
    failed: dict[str, LoopsyError] = {}
    for session in wanted:
        if session.layout.config.exists():
            continue
        try:
            free = _free_port(config.server.host, port, taken)
            sessions.create(main, session, free)
            taken.add(free)
        except LoopsyError as error:
            failed[session.name] = error
    return failed


def _free_port(host: str, first: int, taken: set[int]) -> int:
    from loopsy.cli import launch

    for port in range(first, min(first + PORTS, 65536)):
        if port not in taken and launch.is_free(host, port):
            return port
    raise LoopsyError(f"no port from {first} on is free", hint="give another one to begin with: --port")


def acquaint(main: Layout, wanted: Sequence[Session]) -> dict[str, LoopsyError]:
    """Let the main daemon and all sessions know each other; those that run take it up. What failed, by name.

    :raises ConfigError: the main daemon's config can't be used.
    """
    from loopsy.store import acquaintance

    nodes, broken = _readable(main)
    _take_up(acquaintance.introduce(nodes))
    return {session.name: broken[session.name] for session in wanted if session.name in broken}


def _take_up(changed: Sequence[Layout]) -> None:
    """Let the daemons that run read their configs again."""
    from loopsy.cli.main import complain

    for layout in changed:
        if pidfile.running(layout.pid) is None:
            continue
        try:
            LocalDaemon(layout.root).ask("POST", urls.RELOAD, timeout=ASK_S)
        except LoopsyError as error:
            hint = f"it will with: loopsy --data-dir {layout.root} restart"
            complain(LoopsyError(f"the daemon in {layout.root} did not take it up: {error.message}", hint=hint))


# -- stop -------------------------------------------------------------------------------------------------------------
def stop(args: argparse.Namespace) -> int:
    """One."""
    print(_stop(sessions.existing(_main(args), args.name)))
    return 0


def stop_all(args: argparse.Namespace) -> int:
    """Every one, all at the same time, whether the main daemon runs or not."""
    from loopsy.cli.main import complain

    running = [session for session in sessions.every(_main(args)) if pidfile.running(session.layout.pid) is not None]
    if not running:
        print("no session is running")
        return 0
    with ThreadPoolExecutor(max_workers=len(running)) as pool:
        results = list(pool.map(_try_stop, running))
    for result in results:
        if isinstance(result, LoopsyError):
            complain(result)
        else:
            print(result)
    return 1 if any(isinstance(result, LoopsyError) for result in results) else 0


def _try_stop(session: Session) -> str | LoopsyError:
    try:
        return _stop(session)
    except LoopsyError as error:
        return LoopsyError(f"{session.name}: {error.message}", hint=error.hint)


def _stop(session: Session) -> str:
    from loopsy.cli import launch

    pid = pidfile.running(session.layout.pid)
    if pid is None:
        return f"{session.name} is not running"
    launch.stop(session.layout, pid)
    return f"{session.name} is stopped (it was pid {pid})"


def restart(args: argparse.Namespace) -> int:
    """One; a broken config is found before anything is stopped."""
    from loopsy.cli import launch

    main = _main(args)
    session = sessions.existing(main, args.name)
    launch.check_config(session.layout)
    print(_stop(session))
    return _tell(bring_up(main, [session], sessions.FIRST_PORT))


def remove(args: argparse.Namespace) -> int:
    """One, with all that is known of it."""
    import shutil

    from loopsy.store import acquaintance

    main = _main(args)
    session = sessions.existing(main, args.name)
    if not args.yes and not _agrees(session):
        return 1
    print(_stop(session))
    nodes, broken = _readable(main)
    own = next((node.name for node in nodes if node.layout.root == session.layout.root), None)
    others = [node for node in nodes if node.layout.root != session.layout.root]
    _take_up(acquaintance.part(others, own or f"{others[0].name}-{session.name}"))
    shutil.rmtree(session.layout.root)
    print(f"{session.name} is removed")
    for name in broken.keys() - {session.name}:
        print(f"  {name} may still have keys for it: its config can't be used", file=sys.stderr)
    return 0


def _readable(main: Layout) -> tuple[list[Node], dict[str, LoopsyError]]:
    """The main daemon and the sessions whose configs can be used; the errors of the others, by name.

    :raises ConfigError: the main daemon's can't be used.
    """
    from loopsy.store import acquaintance

    nodes, broken = [acquaintance.read(main)], {}
    for session in sessions.every(main):
        try:
            nodes.append(acquaintance.read(session.layout))
        except LoopsyError as error:
            broken[session.name] = error
    return nodes, broken


def _agrees(session: Session) -> bool:
    if not sys.stdin.isatty():
        raise UsageError("there is no terminal to ask on", hint="to remove it all the same: --yes")
    word = input(f"delete {render.clean(session.layout.root)} with all its messages, tasks and logs? [y/n] ")
    return word.strip().lower() in ("y", "yes")


# -- list and status --------------------------------------------------------------------------------------------------
def look(session: Session) -> dict[str, Any]:
    """How one is; what its daemon says of itself is under ``status``."""
    from loopsy.store import configfile

    pid = pidfile.running(session.layout.pid)
    found: dict[str, Any] = {"name": session.name, "state": "stopped", "pid": pid, "dataDir": str(session.layout.root)}
    try:
        found["port"] = configfile.load(session.layout.config).config.server.port
    except ConfigError as error:
        return {**found, "state": "broken", "error": error.message}
    if pid is None:
        return {**found, "state": "died"} if was_killed(session.layout) else found
    try:
        answer = LocalDaemon(session.layout.root).ask("GET", urls.STATUS, timeout=ASK_S)
    except LoopsyError as error:
        return {**found, "state": "silent", "error": error.message}
    return {**found, "state": "running", "status": answer}


def was_killed(layout: Layout) -> bool:
    """Whether a daemon that does not run left its process id: one that stops takes it away."""
    try:
        return bool(layout.pid.read_text().strip())
    except OSError:
        return False


def show(args: argparse.Namespace) -> int:
    """All of them."""
    every = sessions.every(_main(args))
    with ThreadPoolExecutor(max_workers=max(len(every), 1)) as pool:
        found = list(pool.map(look, every))
    if arguments.wants_json(args):
        render.print_json({"sessions": found})
    elif not found:
        print("no sessions; start one with: loopsy session start <name>")
    else:
        print(render.table(COLUMNS, [_row(one) for one in found]))
    return 0


def _row(one: dict[str, Any]) -> tuple[object, ...]:
    said = one.get("status", {})
    up_for = render.span(said["uptime"]) if said else ""
    return one["name"], one["state"], one["pid"] or "", one.get("port", ""), said.get("hostname", ""), up_for


def status(args: argparse.Namespace) -> int:
    """One, in full."""
    from loopsy.cli import daemon

    session = sessions.existing(_main(args), args.name)
    found = look(session)
    if arguments.wants_json(args):
        render.print_json(found)
    elif "status" not in found:
        pairs = [(name, found[name]) for name in ("port", "dataDir", "error") if name in found]
        print(f"{session.name}: {found['state']}\n{render.facts(pairs)}")
    else:
        peers = LocalDaemon(session.layout.root).ask("GET", urls.PEERS, timeout=ASK_S)["peers"]
        print(daemon.summary(found["status"], peers, found["port"]))
        print(render.facts([("data", session.layout.root)]))
    return 0 if found["state"] == "running" else NOT_RUNNING
