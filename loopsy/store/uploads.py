"""The table of unfinished uploads. The bytes themselves lie in parts beside their destinations."""

from __future__ import annotations

import json
import sqlite3

from attrs import asdict

from loopsy.core.transfer import Described
from loopsy.core.uploads import Upload


def put(db: sqlite3.Connection, upload: Upload) -> None:
    """Remember one. Names that aren't UTF-8 pass as JSON escapes."""
    record = json.dumps(asdict(upload))
    db.execute("INSERT OR REPLACE INTO uploads VALUES (?, ?)", (upload.upload_id, record))


def remove(db: sqlite3.Connection, upload_id: str) -> None:
    """Forget one."""
    db.execute("DELETE FROM uploads WHERE upload_id = ?", (upload_id,))


def everything(db: sqlite3.Connection) -> list[Upload]:
    """All of them."""
    return [_upload(json.loads(record)) for (record,) in db.execute("SELECT record FROM uploads").fetchall()]


def _upload(record: dict[str, object]) -> Upload:
    described, device_and_inode = record["described"], record["identity"]
    assert isinstance(described, dict)
    assert isinstance(device_and_inode, list)
    device, inode = device_and_inode
    return Upload(**{**record, "described": Described(**described), "identity": (device, inode)})  # type: ignore[arg-type]
