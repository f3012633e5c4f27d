"""Request ids: the forms they are kept and shown in, and what those that are held stand for."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import NamedTuple

from costd.domain.errors import Conflict
from costd.domain.ids import parse_uuid
from costd.store.commit import Commit

#: Ids looked up in one statement.
_LOOKUP_ROWS = 512


INTO_REQUEST = "INSERT INTO request (seq, org_id, request_id, fingerprint)"


class Stored(NamedTuple):
    """Where a record is: its event id, and whether it was there before (then also what was answered first)."""

    event_id: int
    seq: int
    duplicate: bool
    cost_nano: int | None = None
    provider: str = ""
    at_ms: int = 0


class Request(NamedTuple):
    """A request id that is already held: what it stood for, and the number of the item it made."""

    fingerprint: bytes
    seq: int


def find_requests(
    connection: sqlite3.Connection, keys: Iterable[tuple[int, bytes | str]]
) -> dict[tuple[int, bytes | str], Request]:
    """{(org, id): request} of those request ids that are already held."""
    by_org: dict[int, list[bytes | str]] = {}
    for org_id, request_id in keys:
        by_org.setdefault(org_id, []).append(request_id)
    found: dict[tuple[int, bytes | str], Request] = {}
    for org_id, ids in by_org.items():
        for start in range(0, len(ids), _LOOKUP_ROWS):
            chunk = ids[start : start + _LOOKUP_ROWS]
            # Padded with NULLs, which match nothing, to a power of two: few distinct statements to prepare.
            width = 1 << (len(chunk) - 1).bit_length()
            marks = ",".join("?" * width)
            sql = f"SELECT request_id, fingerprint, seq FROM request WHERE org_id = ? AND request_id IN ({marks})"
            for request_id, fingerprint, seq in connection.execute(
                sql, (org_id, *chunk, *[None] * (width - len(chunk)))
            ):
                found[org_id, request_id] = Request(fingerprint, seq)
    return found


def stored_request_id(request_id: str) -> bytes | str:
    """The form a request id is kept in: 16 bytes for a canonical UUID, its text for anything else."""
    number = parse_uuid(request_id)
    return request_id if number is None else number.to_bytes(16, "big")


def shown_request_id(stored: bytes | str | None) -> str:
    """The request id as its caller sent it; "" for none."""
    if isinstance(stored, bytes):
        digits = stored.hex()
        return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
    return stored or ""


def stored_event(commit: Commit, request: Request, fingerprint: bytes) -> Stored | Conflict:
    """The first answer to a request that is held, or Conflict where it stood for other content."""
    if request.fingerprint != fingerprint:
        return Conflict()
    row = commit.connection.execute(
        "SELECT e.cost_nano, s.provider, e.at_ms FROM event e JOIN series s ON s.id = e.series_id WHERE e.seq = ?",
        (request.seq,),
    ).fetchone()
    return Stored(commit.public_id(request.seq), request.seq, True, *(row or ()))
