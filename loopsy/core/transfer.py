"""Which paths may be touched, and what fits: decisions over component lists that the store has resolved.

A path is a tuple of components (``/home/kai`` is ``("home", "kai")``), so ``/home/a`` never admits ``/home/ab``.
"""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Mapping
from hashlib import sha256

from attrs import field, frozen

from loopsy.errors import FileTooLarge, InvalidRequest, PathDenied, StorageFull
from loopsy.wire.transfer import name_from_wire

Parts = tuple[str, ...]
Identity = tuple[int, int]
"""Device and inode."""

MODE_BITS = 0o777
"""What a sender may set. Set-user-id and its kin are never taken over from another machine."""
SPARE = 16 * 1024 * 1024
"""Bytes of a file system that a transfer leaves free, so that the database and the logs can go on."""
_SHA256 = re.compile(r"[0-9a-f]{64}")
_METADATA_KEY = re.compile(r"[\x21-\x2b\x2d-\x7e]+")


# -- paths ------------------------------------------------------------------------------------------------------------
@frozen(kw_only=True)
class PathPolicy:
    """Where one caller may read and write."""

    allowed: tuple[Parts, ...] | None
    """Roots; None: everywhere but the denied ones (the machine's own user)."""
    denied: tuple[Parts, ...]
    """Roots, our data directory among them."""
    denied_identities: frozenset[Identity] = frozenset()
    """The same as directories, under whatever name (another case, another mount) one arrives there."""

    def admits(self, parts: Parts) -> bool:
        """Whether a resolved path may be touched."""
        inside = self.allowed is None or any(lies_in(root, parts) for root in self.allowed)
        return inside and not any(lies_in(root, parts) for root in self.denied)

    def check(self, parts: Parts, *, through_denied: bool = False) -> None:
        """Let a resolved path pass.

        :raises PathDenied: it may not be touched, whether or not it exists.
        """
        if through_denied or not self.admits(parts):
            raise PathDenied(
                f"{shown(parts)} may not be touched from outside",
                hint="see transfer.allowedPaths and transfer.deniedPaths in that machine's config.yaml",
            )


def lies_in(root: Parts, parts: Parts) -> bool:
    """Whether ``parts`` is ``root`` or below it."""
    return parts[: len(root)] == root


def shown(parts: Parts) -> str:
    """A path for people; what isn't UTF-8 is escaped."""
    return ("/" + "/".join(parts)).encode("utf-8", "backslashreplace").decode("utf-8")


def split(path: str) -> Parts:
    """The components of a path. ``..`` stays: what it means is known only where links are resolved."""
    return tuple(part for part in path.split("/") if part not in ("", "."))


def absolute(path: str, home: str) -> Parts:
    """The components of a path as people write it: ``~`` is ``home``, and a relative path begins there."""
    if path.startswith("/"):
        return split(path)
    rest = path[1:] if path == "~" or path.startswith("~/") else path
    return split(home) + split(rest)


def from_wire(text: str, home: str) -> Parts:
    """A path of the wire.

    :raises InvalidRequest: it holds a NUL.
    """
    path = name_from_wire(text)
    if "\0" in path or not path:
        raise InvalidRequest("a path must not be empty, and must not hold a NUL character")
    return absolute(path, home)


def below(path: str) -> Parts:
    """The components of an entry's path below its root. ``""`` is the root.

    :raises PathDenied: it leaves the root, or is not written as such a path is.
    """
    parts = tuple(path.split("/")) if path else ()
    if any(part in ("", ".", "..") or "\0" in part for part in parts):
        raise PathDenied("an entry's path must lie below the root, without '.', '..' or empty steps")
    return parts


def file_name(name: str | None) -> str:
    """The sender's name of a file, for a destination that is a directory. What stands before a ``/`` is dropped.

    :raises InvalidRequest: there is none, or it isn't one.
    """
    last = (name or "").rpartition("/")[2]
    if last in ("", ".", "..") or "\0" in last:
        raise InvalidRequest("the destination is a directory, and the file came without a name of its own")
    return last


# -- sizes and contents -----------------------------------------------------------------------------------------------
def check_size(size: int, limit: int) -> None:
    """:raises FileTooLarge: a file of ``size`` bytes is more than is taken."""
    if size > limit:
        raise FileTooLarge(
            f"the file has more than {limit} bytes (transfer.maxFileSize of that machine)", details={"limit": limit}
        )


def check_room(size: int, free: int) -> None:
    """:raises StorageFull: ``size`` more bytes would fill the file system."""
    if size + SPARE > free:
        raise StorageFull(f"the disk there has {max(0, free - SPARE)} bytes left, {size} are needed")


def checksum_text(text: str) -> str:
    """A SHA-256 in hex, in lower case.

    :raises InvalidRequest: it isn't one.
    """
    if not _SHA256.fullmatch(text.lower()):
        raise InvalidRequest("the checksum must be a SHA-256 of 64 hex digits")
    return text.lower()


def etag(device: int, inode: int, size: int, mtime_ns: int) -> str:
    """A strong entity tag: another file, or another content of it, has another."""
    return f'"{sha256(f"{device}.{inode}.{size}.{mtime_ns}".encode()).hexdigest()[:32]}"'


# -- what an upload says of itself ------------------------------------------------------------------------------------
@frozen(kw_only=True)
class Described:
    """``Upload-Metadata``, read."""

    path: str
    """As on the wire."""
    filename: str | None = None
    source: str | None = None
    mode: int | None = None
    mtime_ns: int | None = None
    checksum: str | None = field(default=None)


def described(header: str) -> Described:
    """Read ``Upload-Metadata`` as tus writes it: ``key base64,key base64``.

    :raises InvalidRequest: names what is wrong.
    """
    pairs = _pairs(header)
    if not pairs.get("path"):
        raise InvalidRequest("Upload-Metadata needs a path")
    checksum = pairs.get("checksum")
    return Described(
        path=pairs["path"],
        filename=pairs.get("filename"),
        source=pairs.get("source"),
        mode=_number(pairs, "mode", 8, 0o7777),
        mtime_ns=_number(pairs, "mtime", 10, 2**62),
        checksum=None if checksum is None else checksum_text(checksum),
    )


def _pairs(header: str) -> Mapping[str, str]:
    pairs: dict[str, str] = {}
    for item in filter(None, (item.strip() for item in header.split(","))):
        key, _, value = item.partition(" ")
        try:
            pairs[key] = b64decode(value.strip(), validate=True).decode("utf-8")
        except ValueError:
            raise InvalidRequest(f"Upload-Metadata: the value of {key[:60]!r} is not UTF-8 in base64") from None
        if not _METADATA_KEY.fullmatch(key) or "\0" in pairs[key]:
            raise InvalidRequest("Upload-Metadata: a key is no plain word, or a value holds a NUL")
    return pairs


def _number(pairs: Mapping[str, str], key: str, base: int, limit: int) -> int | None:
    if key not in pairs:
        return None
    try:
        value = int(pairs[key], base)
    except ValueError:
        value = -limit - 1
    if not -limit <= value <= limit or (base == 8 and value < 0):
        raise InvalidRequest(f"Upload-Metadata: {key} must be a whole number (base {base})")
    return value
