"""Transfer: files and trees between machines (docs/protocol/transfer.md).

Paths on the wire are text. A name that isn't UTF-8 is written with surrogate escapes, percent-encoded as ``%XX`` behind
the prefix ``b:`` (see ``name_to_wire``), so that any name of any file system passes.
"""

from __future__ import annotations

from urllib.parse import quote_from_bytes, unquote_to_bytes

from attrs import field, frozen

from loopsy.wire.checks import at_most, each_no_nul, no_nul, not_empty, one_of, within

PATH = [not_empty, no_nul, at_most(32768)]
FILE, DIRECTORY, SYMLINK, OTHER = "file", "directory", "symlink", "other"
DELETED, TOUCH = "deleted", "touch"
"""What an entry of ``apply`` may be beside these: something to remove, and a file whose mode and time alone are set."""
ODD = "b:"
TICKET, FILE_SIZE, CHECKSUM = b"x-loopsy-transfer", b"x-loopsy-file-size", b"x-loopsy-checksum"
MODE, MTIME = b"x-loopsy-mode", b"x-loopsy-mtime"
PIECE = "application/offset+octet-stream"
"""The content type of an upload's bytes, as tus has it."""


def name_to_wire(name: str) -> str:
    """A name or path as os.fsdecode gives it → text that JSON can hold."""
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return ODD + quote_from_bytes(name.encode("utf-8", "surrogateescape"), safe="/")
    return ODD + quote_from_bytes(name.encode(), safe="/") if name.startswith(ODD) else name


def name_from_wire(text: str) -> str:
    """The inverse of ``name_to_wire``."""
    if not text.startswith(ODD):
        return text
    return unquote_to_bytes(text[len(ODD) :]).decode("utf-8", "surrogateescape")


# -- single files, as existing nodes know them ------------------------------------------------------------------------
@frozen(kw_only=True)
class Pushed:
    """The answer of ``POST /transfer/push`` and of a finished upload."""

    path: str
    size: int
    checksum: str
    """SHA-256, hex."""
    duration: int
    """Milliseconds."""


@frozen(kw_only=True)
class PullRequest:
    """``POST /transfer/pull``."""

    source_path: str = field(validator=PATH)


@frozen(kw_only=True)
class ListRequest:
    """``POST /transfer/list``."""

    path: str = field(validator=PATH)


@frozen(kw_only=True)
class FileEntry:
    """One name in a directory."""

    name: str
    path: str
    type: str = field(validator=one_of(FILE, DIRECTORY, SYMLINK, OTHER))
    size: int
    modified: int
    """ms since the epoch."""
    mode: int | None = None
    target: str | None = None
    """Of a symlink."""
    error: str | None = None
    """Why it can't be read, where it can't."""


@frozen(kw_only=True)
class FileList:
    """The answer of ``POST /transfer/list``, by name."""

    files: tuple[FileEntry, ...]


# -- trees ------------------------------------------------------------------------------------------------------------
@frozen(kw_only=True)
class ManifestRequest:
    """``POST /transfer/manifest``: the tree below a path, as NDJSON of ManifestEntry, parents before children."""

    path: str = field(validator=PATH)
    checksum: bool = False
    """Hash each file's content."""
    exclude: tuple[str, ...] = ()
    """Shell patterns, matched against the name and against the path below the root."""
    depth: int | None = field(default=None, validator=within(0, 2**31, "levels"))
    """Levels below the root; 0 is the root alone."""


@frozen(kw_only=True)
class ManifestEntry:
    """One thing in a tree. ``path`` is below the root ('' is the root itself), with ``/`` on every platform."""

    path: str
    type: str = field(validator=one_of(FILE, DIRECTORY, SYMLINK, OTHER, DELETED, TOUCH))
    size: int = field(default=0, validator=within(0, 2**62, "bytes"))
    mtime_ns: int = field(default=0, validator=within(-(2**62), 2**62, "ns"))
    mode: int = field(default=0, validator=within(0, 0o7777, ""))
    checksum: str | None = None
    target: str | None = field(default=None, validator=no_nul)
    error: str | None = None
    """Why it can't be read, where it can't: then no content and no children follow."""


@frozen(kw_only=True)
class FetchRequest:
    """``POST /transfer/fetch``: small files below a root, in one stream of entries with content."""

    path: str = field(validator=PATH)
    paths: tuple[str, ...] = field(validator=[at_most(10_000), each_no_nul])


@frozen(kw_only=True)
class EntryFault:
    """An entry that could not be applied."""

    path: str
    error: str
    code: int


@frozen(kw_only=True)
class Applied:
    """The answer of ``POST /transfer/apply``: how many of each were done."""

    files: int = 0
    directories: int = 0
    symlinks: int = 0
    deleted: int = 0
    bytes: int = 0
    """Of the files' content."""
    errors: tuple[EntryFault, ...] = ()


# -- transfers as jobs of the local daemon ----------------------------------------------------------------------------
@frozen(kw_only=True)
class TransferRequest:
    """``POST /transfers``: send files to a peer, or pull them from it. Only this machine's own key may ask."""

    direction: str = field(validator=one_of("send", "pull"))
    peer: str = field(validator=PATH)
    sources: tuple[str, ...]
    """Absolute paths, on this machine (send) or on the peer (pull)."""
    destination: str = field(validator=PATH)
    recursive: bool = False
    delete: bool = False
    dry_run: bool = False
    checksum: bool = False
    """Compare by content, not by size and time."""
    exclude: tuple[str, ...] = ()


@frozen(kw_only=True)
class TransferInfo:
    """A transfer, as ``GET /transfers`` and its events show it."""

    transfer_id: str
    direction: str
    peer: str
    sources: tuple[str, ...]
    destination: str
    state: str = field(validator=one_of("running", "completed", "failed", "cancelled"))
    started_at: int
    """ms since the epoch."""
    finished_at: int | None = None
    bytes_total: int | None = None
    """None until the size is known."""
    bytes_done: int = 0
    """Of the content; what was already there by resuming counts too."""
    bytes_sent: int = field(default=0, validator=within(0, 2**62, "bytes"))
    """What really crossed the wire."""
    files_total: int | None = None
    files_done: int = 0
    files_skipped: int = 0
    files_deleted: int = 0
    current: str | None = None
    """The path in hand."""
    checksum: str | None = None
    """Of a single file."""
    error: str | None = None
    error_code: int | None = None
    hint: str | None = None
    unreadable: bool = False
    """It failed since the operating system, not the path policy, keeps the daemon from a source on this machine:
    whoever can read it may send it through the gateway."""


@frozen(kw_only=True)
class TransferList:
    """``GET /transfers``, newest first."""

    transfers: tuple[TransferInfo, ...]
