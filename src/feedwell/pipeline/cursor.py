"""A cursor: the signed list of a scroll's earlier request ids. What those showed is excluded and forms the prefix."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import secrets
from collections.abc import Sequence
from pathlib import Path

import orjson

from feedwell.core.errors import UsageError

MAX_PAGES = 50
"""Pages of one scroll. Its last page has no cursor: every page before was excluded, so nothing is shown twice."""
_SIGNATURE_BYTES = 16


def secret_of(folder: Path) -> bytes:
    """The project's secret, made at first need in `<.feedwell>/secret`, readable by its owner only."""
    path = folder / "secret"
    try:
        return path.read_bytes()
    except FileNotFoundError:
        folder.mkdir(parents=True, exist_ok=True)
    draft = folder / f".secret-{os.getpid()}-{secrets.token_hex(4)}"
    descriptor = os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(secrets.token_bytes(32))
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(draft, path)  # fails if another process was first: then theirs is the secret
    except FileExistsError:
        pass
    finally:
        draft.unlink()
    return path.read_bytes()


def write_cursor(secret: bytes, user_id: str, request_ids: Sequence[str]) -> str | None:
    """The text that the next page's request brings along; None after the last page that a scroll may have."""
    if len(request_ids) >= MAX_PAGES:
        return None
    body = orjson.dumps([user_id, list(request_ids)])
    return base64.urlsafe_b64encode(_signature(secret, body) + body).decode().rstrip("=")


def read_cursor(secret: bytes, user_id: str, cursor: str) -> list[str]:
    """The earlier request ids, oldest first; UsageError if the cursor is damaged, forged or another user's.

    >>> read_cursor(b"s", "u1", write_cursor(b"s", "u1", ["r1", "r2"]))
    ['r1', 'r2']
    """
    try:
        data = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise UsageError("cursor: it is damaged; send the `cursor` of the page before, unchanged") from None
    signature, body = data[:_SIGNATURE_BYTES], data[_SIGNATURE_BYTES:]
    if not hmac.compare_digest(signature, _signature(secret, body)):
        raise UsageError("cursor: its signature does not hold; send the `cursor` of the page before, unchanged")
    owner, request_ids = orjson.loads(body)
    if owner != user_id:
        raise UsageError("cursor: it belongs to another user's scroll; begin a new one without a cursor")
    return list(request_ids)


def _signature(secret: bytes, body: bytes) -> bytes:
    return hmac.new(secret, body, hashlib.sha256).digest()[:_SIGNATURE_BYTES]
