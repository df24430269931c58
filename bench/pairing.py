"""How long pairing computes on each side: ``python -m bench.pairing`` (target: under 0.5 s a side)."""

from __future__ import annotations

import os
import time
from statistics import median

from loopsy.core import pairing_inviter, pairing_joiner
from loopsy.testing.pairing import CODE, INVITER, JOINER

RUNS = 50


def one() -> tuple[float, float]:
    """Seconds of computing by the inviter and by the joiner, until both have their keys."""
    spent = {"inviter": 0.0, "joiner": 0.0}

    def timed(who: str, work, *args):  # type: ignore[no-untyped-def]
        started = time.perf_counter()
        result = work(*args)
        spent[who] += time.perf_counter() - started
        return result

    state = pairing_inviter.begin(INVITER, CODE, os.urandom)
    joiner = timed("joiner", pairing_joiner.begin, JOINER, CODE, INVITER.fingerprint, os.urandom)
    welcomed = timed("inviter", pairing_inviter.receive, state, joiner.hello)
    opened = timed("joiner", pairing_joiner.receive, joiner, welcomed.say)
    met = timed("inviter", pairing_inviter.receive, welcomed.state, opened.say)
    compared = timed("joiner", pairing_joiner.receive, opened.state, met.say)
    for who, reached in (("inviter", met.state), ("joiner", compared.state)):
        timed(who, lambda reached=reached: (reached.agreement.sas, reached.agreement.key("joiner")))
    return spent["inviter"], spent["joiner"]


def main() -> None:
    """Print the medians."""
    runs = [one() for _ in range(RUNS)]
    for at, who in enumerate(("inviter", "joiner")):
        values = [run[at] for run in runs]
        typical, worst = median(values) * 1000, max(values) * 1000
        print(f"pairing, {who}: {typical:.1f} ms of computing (worst of {RUNS}: {worst:.1f} ms)")


if __name__ == "__main__":
    main()
