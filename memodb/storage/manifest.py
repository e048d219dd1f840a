"""The manifest of a backup: which files it has, with their digests. Written last: a backup without one is none.

JSON, so that it can be read in twenty years without this program::

    {"format": "memodb backup 2",
     "sha256": of "manifest" as JSON with sorted keys and no spaces,
     "manifest": {"id": 32 hexadecimal digits, "audit": lines of the audit log in it,
                  "created_at": "2026-01-01T00:00:00+00:00",
                  "collections": [{"name": ..., "documents": ..., "tokens": ..., "digest": ...}],
                  "files": {"catalog.db": {"bytes": ..., "sha256": ...}, "segments/<sha256>": ..., ...}}}
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from memodb.errors import CorruptStore, NotFound
from memodb.storage.durable import open_own, saying, write_file

__all__ = ["FORMAT", "read_manifest", "write_manifest"]

FORMAT = "memodb backup 2"
_LIMIT = 1 << 26
_FILE = re.compile(r"catalog\.db|keys|tokenizer\.json\.zst|segments/[0-9a-f]{64}")
_ID = re.compile(r"[0-9a-f]{32}")
_DIGEST = re.compile(r"[0-9a-f]{64}")


def write_manifest(path: Path, stated: Mapping[str, Any]) -> None:
    """Write a manifest, durably."""
    whole = {"format": FORMAT, "sha256": _digest(stated), "manifest": stated}
    write_file(path, [json.dumps(whole, indent=1).encode()])


def _digest(stated: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(stated, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def read_manifest(path: Path) -> dict[str, Any]:
    """A manifest that :func:`write_manifest` wrote.

    Raises
    ------
    NotFound
        There is none: no backup, or one that was never finished.
    CorruptStore
        It is not one that this memodb writes.
    """
    with saying(f"{path} cannot be read"):
        try:
            descriptor = open_own(path)
        except (FileNotFoundError, NotADirectoryError) as exc:
            raise NotFound(f"{path.parent} is no finished backup: it has no file {path.name}") from exc
        with os.fdopen(descriptor, "rb") as file:
            data = file.read(_LIMIT + 1)
    try:
        whole: Any = json.loads(data) if len(data) <= _LIMIT else None
        stated = whole["manifest"]
        files = stated["files"]
        sound = whole["format"] == FORMAT and whole["sha256"] == _digest(stated)
        sound = sound and {"catalog.db", "tokenizer.json.zst"} <= files.keys()
        for name, file in files.items():
            sound = sound and _FILE.fullmatch(name) is not None and _DIGEST.fullmatch(file["sha256"]) is not None
        for collection in stated["collections"]:
            sound = sound and {"name", "documents", "tokens", "digest"} <= collection.keys()
        sound = sound and isinstance(stated["created_at"], str) and _ID.fullmatch(stated["id"]) is not None
        sound = sound and type(stated["audit"]) is int and stated["audit"] >= 0
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as exc:
        raise CorruptStore(f"{path} is no manifest of this version: take another backup") from exc
    if not sound:
        raise CorruptStore(f"{path} is no manifest of this version: take another backup")
    return dict(stated)
