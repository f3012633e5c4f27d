"""The catalog's four kinds: where each is kept, and what may be said of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Kind(NamedTuple):
    """One of the catalog's four kinds: its table, the column of its ids, and what an admin may set in which column."""

    name: str
    table: str
    id_column: str
    columns: Mapping[str, str]

    @property
    def has_apps(self) -> bool:
        """Whether its ids are an application's own: the same id may stand for something else in another."""
        return self.id_column == "external_id"

    @property
    def registers(self) -> bool:
        """Whether things of it may be seen before they are registered."""
        return self.name == "project"


USER = Kind("user", "catalog_user", "external_id", {"email": "email", "name": "full_name", "team": "team_id"})
PROJECT = Kind(
    "project", "catalog_project", "external_id", {"name": "name", "team": "team_id", "workspace": "workspace_id"}
)
TEAM = Kind("team", "catalog_team", "team_id", {"name": "name", "workspace": "workspace_id"})
WORKSPACE = Kind("workspace", "catalog_workspace", "workspace_id", {"name": "name"})
KINDS = (USER, PROJECT, TEAM, WORKSPACE)

#: A project that nobody registered and no admin has assigned.
IS_UNASSIGNED = "registered = 0 AND coalesce(team_id, '') = '' AND coalesce(workspace_id, '') = ''"
