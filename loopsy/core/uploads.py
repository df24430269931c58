"""Uploads that can be resumed: who may go on with which, and when one is over."""

from __future__ import annotations

from collections.abc import Iterable

from attrs import frozen

from loopsy.core.transfer import Described, Identity
from loopsy.errors import ChecksumMismatch, FileTooLarge, InvalidRequest, OffsetConflict, UploadMissing

LIFE_MS = 24 * 3600 * 1000
"""After its last byte an unfinished upload is kept so long."""
PER_OWNER = 1000
"""Unfinished uploads of one peer: each holds a name in a directory and a line in memory."""


@frozen(kw_only=True)
class Upload:
    """One unfinished upload, as it is remembered."""

    upload_id: str
    owner: str
    """The principal's name."""
    directory: str
    """Of the destination, resolved (os.fsdecode'd)."""
    name: str
    part: str
    """The name of the part, in the same directory."""
    identity: Identity
    """Of the part: another file in its place is not ours."""
    length: int
    described: Described
    touched: int
    """When its last byte came, ms since the epoch."""

    @property
    def expires(self) -> int:
        """ms since the epoch."""
        return self.touched + LIFE_MS


@frozen(kw_only=True)
class Wanted:
    """What a new request asks to upload."""

    owner: str
    directory: str
    name: str
    length: int
    source: str | None


def matching(uploads: Iterable[Upload], wanted: Wanted) -> tuple[Upload | None, list[Upload]]:
    """The upload that this request goes on with, and those which it makes pointless (an older source of the same)."""
    if wanted.source is None:
        return None, []
    found, older = None, []
    for upload in uploads:
        if (upload.owner, upload.directory, upload.name) != (wanted.owner, wanted.directory, wanted.name):
            continue
        if (upload.described.source, upload.length) == (wanted.source, wanted.length):
            found = upload
        elif upload.described.source is not None:
            older.append(upload)
    return found, older


def check_number(uploads: Iterable[Upload], owner: str) -> None:
    """:raises InvalidRequest: this owner has as many unfinished ones as it may."""
    if sum(upload.owner == owner for upload in uploads) >= PER_OWNER:
        raise InvalidRequest(f"{owner} has {PER_OWNER} unfinished uploads here", hint="finish or delete some")


def owned(upload: Upload | None, owner: str) -> Upload:
    """:raises UploadMissing: there is no such upload, or it is another's, which looks the same from outside."""
    if upload is None or upload.owner != owner:
        raise UploadMissing(hint="it is finished, expired or was cancelled: ask POST /transfer/uploads again")
    return upload


def check_offset(have: int, asked: int) -> None:
    """:raises OffsetConflict: the sender goes on elsewhere."""
    if have != asked:
        raise OffsetConflict(f"the upload stands at {have}, not at {asked}", details={"offset": have})


def check_end(offset: int, length: int) -> None:
    """:raises FileTooLarge: more bytes than the upload has."""
    if offset > length:
        raise FileTooLarge(f"the upload has {length} bytes, and more were sent", details={"limit": length})


def check_content(expected: str | None, found: str) -> None:
    """:raises ChecksumMismatch: the content is not what was announced."""
    if expected is not None and expected != found:
        raise ChecksumMismatch(
            f"the content has the SHA-256 {found}, {expected} was announced; nothing was kept",
            details={"expected": expected, "found": found},
        )


def number(text: str | None, name: str) -> int:
    """A header that is a whole number.

    :raises InvalidRequest: it is missing, or no such number.
    """
    if text is None or not text.isascii() or not text.isdigit() or len(text) > 16:
        raise InvalidRequest(f"{name} must be a whole number of bytes")
    return int(text)
