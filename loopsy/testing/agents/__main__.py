"""``python -m loopsy.testing.agents``: installs the agents that tests drive, and says which can't be had, and why.

It ends with 0 either way: tests that need a missing agent are skipped, with the same reason.
"""

from __future__ import annotations

from loopsy.testing.agents.packages import PACKAGES, Unavailable, install


def main() -> None:
    """Install all of them."""
    for agent, package in PACKAGES.items():
        try:
            print(f"{agent} {package.version}: {install(agent)}", flush=True)
        except Unavailable as why:
            print(f"{agent} {package.version}: not here, its tests are skipped: {why}", flush=True)


if __name__ == "__main__":
    main()
