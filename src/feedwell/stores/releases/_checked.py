"""JSON files that carry the sha256 of themselves: one changed byte anywhere, white space included, is found on reading.

{
 "sha256": "<of the file's bytes, with 64 zeros in this place>",
 ...
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from feedwell.core.errors import CorruptArtifact

_HEAD, _BLANK = b'{\n "sha256": "', b"0" * 64
_END = len(_HEAD) + len(_BLANK)


def checked_json(value: Mapping[str, Any]) -> bytes:
    """The file's content: the JSON types of `value` after their checksum."""
    blank = json.dumps({"sha256": _BLANK.decode(), **value}, indent=1).encode()
    return _HEAD + hashlib.sha256(blank).hexdigest().encode() + blank[_END:]


def read_checked(path: Path, about: str, advice: str) -> dict[str, Any]:
    """What `checked_json` was given. FileNotFoundError when the file is not there.

    CorruptArtifact when the checksum is missing or does not hold; `advice` ends its message.
    """
    content = path.read_bytes()
    if not content.startswith(_HEAD) or len(content) < _END:
        raise CorruptArtifact(
            f"{about}: {path} does not begin with its checksum: it was changed after it was written, or written by an "
            f"earlier version; {advice}"
        )
    told, found = content[len(_HEAD) : _END], hashlib.sha256(_HEAD + _BLANK + content[_END:]).hexdigest()
    if told != found.encode():
        raise CorruptArtifact(
            f"{about}: {path} has checksum {found[:12]}…, expected {told.decode(errors='replace')[:12]}…: it was "
            f"changed after it was written; {advice}"
        )
    value: dict[str, Any] = json.loads(content)
    del value["sha256"]
    return value


def require_sha256(about: str, path: Path, actual: str, expected: str, advice: str) -> None:
    """CorruptArtifact, naming the file, where its sha256 is not the expected one."""
    if actual != expected:
        raise CorruptArtifact(
            f"{about}: {path} has sha256 {actual[:12]}…, expected {expected[:12]}…; it was changed after training: "
            f"{advice}"
        )
