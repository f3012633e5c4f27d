"""Who is calling and what they may do: roles, bindings and the caller made of them."""

from __future__ import annotations

from typing import NamedTuple

from costd.domain.errors import Forbidden, Invalid

#: What each role allows. `ingest`: records, preflights, proxies, catalog upserts; `read`: reports;
#: `admin`: everything in its organization; `source`: a sidecar talking to its hub.
ROLES = ("ingest", "read", "admin", "source")
DEFAULT_ROLES = ("ingest", "read")


class Caller(NamedTuple):
    """An authenticated key, or the local user where authentication is off.

    Empty bindings bind nothing; `key_id` is "" where there is no key.
    """

    org_id: int
    key_id: str
    name: str
    roles: frozenset[str]
    team: str = ""
    project: str = ""
    source_app: str = ""

    def may(self, role: str) -> bool:
        """Whether this caller holds `role`, or `admin`, which contains it (but never `source`)."""
        return role in self.roles or ("admin" in self.roles and role != "source")

    def require(self, role: str) -> None:
        """Raise Forbidden unless the caller may act in `role`."""
        if not self.may(role):
            raise Forbidden(
                f'this needs a key with the role "{role}"; the key "{self.name}" has {", ".join(sorted(self.roles))}'
            )


def parse_roles(text: str, field: str = "role") -> tuple[str, ...]:
    """Roles from "ingest,read": known, without repeats, in a fixed order; empty means the default."""
    names = [name.strip().lower() for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in ROLES]
    if unknown:
        raise Invalid(field, f'"{unknown[0]}" is not a role; allowed are {", ".join(ROLES)}')
    return tuple(role for role in ROLES if role in names) or DEFAULT_ROLES
