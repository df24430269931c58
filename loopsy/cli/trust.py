"""``loopsy peers revoke``, ``scope`` and ``rotate``: who is trusted with what."""

from __future__ import annotations

import argparse

from loopsy.cli import arguments, render
from loopsy.errors import UsageError
from loopsy.wire import urls

DEFAULT_SCOPES = ("execute", "transfer", "context", "messages", "ai-tasks", "terminal")
SCOPES = (*DEFAULT_SCOPES, "approve")
"""The same as in ``wire.trust`` (a test says so): importing that would cost more than the request."""


def fill_revoke(parser: argparse.ArgumentParser) -> None:
    """The parser of ``peers revoke``."""
    arguments.describe(
        parser,
        "Trust a peer no longer, at once: its key opens nothing here, what runs for it is cut, and our key for it is\n"
        "forgotten. To let it in again, pair again.",
        "loopsy peers revoke kai",
        revoke,
    )
    arguments.complete_peers(parser.add_argument("peer", help="its name, hostname or node id"))
    arguments.add_json(parser)


def fill_scope(parser: argparse.ArgumentParser) -> None:
    """The parser of ``peers scope``."""
    arguments.describe(
        parser,
        "Let a peer into just these areas of this machine, at once; all lets it into every one, none into nothing.\n"
        f"Areas: {', '.join(DEFAULT_SCOPES)}. Beside them, and not in all: approve, so that the person there answers\n"
        "what the AI tasks ask which that machine starts here.",
        "loopsy peers scope kai execute,transfer\nloopsy peers scope kai all,approve",
        scope,
    )
    arguments.complete_peers(parser.add_argument("peer", help="its name, hostname or node id"))
    parser.add_argument("scopes", type=scope_words, help="areas with commas between them, or all, or none")
    arguments.add_json(parser)


def fill_rotate(parser: argparse.ArgumentParser) -> None:
    """The parser of ``peers rotate``."""
    arguments.describe(
        parser,
        "Make new keys with a peer, over the link between you. What runs between the two with the old keys is cut.",
        "loopsy peers rotate kai",
        rotate,
    )
    arguments.complete_peers(parser.add_argument("peer", help="its name, hostname or node id"))
    arguments.add_json(parser)


def scope_words(text: str) -> list[str]:
    """The areas that a word names."""
    if text == "none":
        return []
    words = [word.strip() for word in text.split(",") if word.strip()]
    if "all" in words:
        words = [*DEFAULT_SCOPES, *(word for word in words if word != "all" and word not in DEFAULT_SCOPES)]
    unknown = [word for word in words if word not in SCOPES]
    if unknown or not words:
        raise UsageError(f"no area is called {(unknown or [text])[0]!r}", hint=f"there are: {', '.join(SCOPES)}")
    return words


def revoke(args: argparse.Namespace) -> int:
    """Trust it no longer."""
    answer = arguments.daemon_of(args).ask("POST", urls.fill(urls.TRUST_REVOKE, peer=args.peer))
    if arguments.wants_json(args):
        render.print_json(answer)
    elif answer.get("success"):
        print(f"revoked {render.clean(answer['name'])}: its key opens nothing here any more")
    else:
        print(f"{render.clean(answer['name'])} had no key here")
    return 0


def rotate(args: argparse.Namespace) -> int:
    """Make new keys."""
    answer = arguments.daemon_of(args).ask("POST", urls.fill(urls.TRUST_ROTATE, peer=args.peer))
    if arguments.wants_json(args):
        render.print_json(answer)
        return 0
    name = render.clean(answer["name"])
    print(f"{name} and this machine have new keys")
    if not answer["confirmed"]:
        print(f"  {name} takes them into use when it is next reached")
    return 0


def scope(args: argparse.Namespace) -> int:
    """Change what it may do."""
    path = urls.fill(urls.TRUST_SCOPES, peer=args.peer)
    answer = arguments.daemon_of(args).ask("PUT", path, {"scopes": args.scopes})
    if arguments.wants_json(args):
        render.print_json(answer)
    else:
        print(f"{render.clean(answer['name'])} may use: {', '.join(answer['scopes']) or 'nothing'}")
    return 0
