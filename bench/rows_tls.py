"""What TLS and pinning cost: a pooled request beside plain HTTP, the first one to a cold peer, and files."""

from __future__ import annotations

import time
from collections.abc import Iterator

from bench.measure import Pairs, in_turns, ms, process_time
from bench.pairing import one
from bench.rig import TWISTD, Daemon, Rig, end
from bench.rows_transfers import GIB, big_file
from bench.table import BenchError, Result, at_least, at_most

ROUNDS, REQUESTS = 9, 200
FILE_ROUNDS = 5


def requests(rig: Rig) -> Iterator[Result]:
    """A request over the gateway's warm connection: TLS beside plain, and the first to a cold peer beside ssh."""
    ssh = rig.sshd()
    plain, secure = rig.pair(), rig.pair(tls=True)
    ours, theirs = in_turns(ROUNDS, lambda: many(*secure), lambda: many(*plain))
    pairs = Pairs(ours, theirs)
    yield Result(
        row="pooled request to a peer, TLS : plain", measured=ms(ours), yardstick=ms(theirs), value=pairs.ratio,
        goal=at_most(2), older="–", remarks=f"{pairs.spread}; of {REQUESTS} in a row, each",
    )  # fmt: skip
    here, there = secure
    cold, fresh = in_turns(
        ROUNDS,
        lambda: first(rig, here, there),
        lambda: process_time(ssh.command("true"), rig.env),
    )
    pairs = Pairs(cold, fresh)
    yield Result(
        row="first exec to a cold peer over TLS : fresh ssh", measured=ms(cold), yardstick=ms(fresh),
        value=pairs.ratio, goal=at_most(1), older="–", remarks=pairs.spread,
    )  # fmt: skip


def many(here: Daemon, there: Daemon) -> float:
    """Seconds for one of many small requests through the gateway."""
    begin = time.perf_counter()
    for _ in range(REQUESTS):
        here.ask("GET", f"/peers/{there.name}/health")
    return (time.perf_counter() - begin) / REQUESTS


def first(rig: Rig, here: Daemon, there: Daemon) -> float:
    """``exec`` after the peer's daemon was restarted, so that no connection to it is left."""
    end(there.process)
    argv = [*TWISTD, "loopsy", "--data-dir", str(there.data_dir)]
    served = rig.serve(argv, there.name, there.port, "/api/v1/health")
    object.__setattr__(there, "process", served.process)
    return process_time(rig.loopsy(here, "exec", there.name, "true"), rig.env)


def pairing(rig: Rig) -> Iterator[Result]:
    """What pairing computes, on each side."""
    one()
    sides = [max(one()) for _ in range(ROUNDS)]
    yield Result(
        row="pairing's computing, the slower side", measured=ms(sides), yardstick="–",
        value=sorted(sides)[ROUNDS // 2], goal=at_most(0.5, "s"), older="–", remarks=f"n={ROUNDS}",
    )  # fmt: skip


def file(rig: Rig) -> Iterator[Result]:
    """1 GiB sent and pulled over TLS, beside scp."""
    ssh, source = rig.sshd(), big_file(rig)
    here, there = rig.pair(tls=True)
    target = rig.root / "arrived"

    def run(argv: list[str]) -> float:
        target.unlink(missing_ok=True)
        taken = process_time(argv, rig.env)
        if target.stat().st_size != GIB:
            raise BenchError(f"{target} has {target.stat().st_size} bytes")
        return taken

    scp = ["scp", "-q", "-F", str(ssh.config)]
    sent, put, pulled, got = in_turns(
        FILE_ROUNDS,
        lambda: run(rig.loopsy(here, "send", there.name, str(source), str(target))),
        lambda: run([*scp, str(source), f"bench:{target}"]),
        lambda: run(rig.loopsy(here, "pull", there.name, str(source), str(target))),
        lambda: run([*scp, f"bench:{source}", str(target)]),
    )
    for label, ours, rival in (("send", sent, put), ("pull", pulled, got)):
        pairs = Pairs(rival, ours)
        yield Result(
            row=f"1 GiB {label} over TLS : scp", measured=ms(ours), yardstick=ms(rival), value=pairs.ratio,
            goal=at_least(0.8), older="its CLI can't", remarks=f"{pairs.spread}; aim 1",
        )  # fmt: skip
