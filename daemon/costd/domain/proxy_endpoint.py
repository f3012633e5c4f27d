"""Proxy endpoints: a provider under a slug of its own, for callers who have the provider's key and nothing else."""

from __future__ import annotations

import re
import unicodedata
from typing import NamedTuple

from costd.domain.errors import Invalid
from costd.domain.usage import check_string

MAX_BODY_BYTES = 16 * 1024 * 1024
DEFAULT_BODY_BYTES = 256 * 1024
MAX_RETENTION_DAYS = 400
DEFAULT_RETENTION_DAYS = 30
FROM_HUB = "hub"
_MAX_SLUG = 48
_BETWEEN = re.compile(r"[^a-z0-9]+")


class ProxyEndpoint(NamedTuple):
    """A proxy endpoint; times in UTC milliseconds. `removed_ms` is None while it is in force.

    Bodies are stored only where `store_bodies` says so: of each at most `body_bytes`, for `retention_days`. `origin` is
    FROM_HUB for the copy that a sidecar has of its hub's.
    """

    id: str
    org_id: int
    name: str
    slug: str
    store_bodies: bool
    body_bytes: int
    retention_days: int
    created_ms: int
    removed_ms: int | None = None
    origin: str = ""


def slug_of(name: str, suffix: str) -> str:
    """A slug for a name, with a suffix where one is given: lower-case letters, digits and hyphens."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    base = _BETWEEN.sub("-", plain).strip("-")[:_MAX_SLUG].strip("-") or "endpoint"
    return f"{base}-{suffix}" if suffix else base


def check_endpoint(name: str, body_bytes: int, retention_days: int) -> None:
    """Raise Invalid, naming the field, unless there may be such an endpoint."""
    if not name:
        raise Invalid("name", "must not be empty")
    check_string(name, "name")
    if not 1 <= body_bytes <= MAX_BODY_BYTES:
        raise Invalid("body_bytes", f"must be between 1 and {MAX_BODY_BYTES}")
    if not 1 <= retention_days <= MAX_RETENTION_DAYS:
        raise Invalid("retention_days", f"must be between 1 and {MAX_RETENTION_DAYS}")
