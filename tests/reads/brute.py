"""Brute force: every sum the reports may be asked for, added up record by record from the ledger's tables."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable
from datetime import date, datetime
from pathlib import Path
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from costd.domain.spend import Spend

HOUR_MS = 3_600_000


class Record(NamedTuple):
    """One event with its series' dimensions, and whom the catalog attributes it to."""

    seq: int
    at_ms: int
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    cache_write_tokens: int
    reasoning_tokens: int
    unrated: bool
    cost_nano: int | None
    status: str
    key_id: str
    provider: str
    model: str
    prompt_key: str
    tags: str
    source_app: str
    user: str
    project: str
    team: str
    workspace: str
    org_id: int

    def spend(self) -> Spend:
        """What this record alone adds up to."""
        priced = self.cost_nano is not None
        return Spend(1, self.input_tokens, self.output_tokens, self.cached_tokens, self.cost_nano or 0, int(not priced))

    def day(self, zone: ZoneInfo) -> date:
        """Its date in a zone."""
        return datetime.fromtimestamp(self.at_ms / 1000, zone).date()


def records(database: Path) -> list[Record]:
    """Every record of a ledger."""
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
    try:
        catalog = Catalog(connection)
        return [catalog.attributed(Record(*row)) for row in connection.execute(_RECORDS)]
    finally:
        connection.close()


class Catalog:
    """The whole catalog, each thing under its organization and its ids."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.projects = {tuple(row[:3]): tuple(row[3:]) for row in connection.execute(_PROJECTS)}
        self.users = {tuple(row[:3]): row[3] for row in connection.execute(_USERS)}
        self.teams = {tuple(row[:2]): row[2] for row in connection.execute(_TEAMS)}

    def attributed(self, said: Record) -> Record:
        """A record with its team and workspace: its own, or whatever the catalog has for it."""
        org = said.org_id
        project_team, project_workspace = self.projects.get((org, said.source_app, said.project), (None, None))
        user_team = self.users.get((org, said.source_app, said.user))
        team = said.team or project_team or user_team or ""
        workspace = said.workspace or project_workspace or self.teams.get((org, team)) or ""
        return said._replace(team=team, workspace=workspace)


def total(found: Iterable[Record]) -> Spend:
    """All of them together."""
    sum_ = Spend()
    for record in found:
        sum_ = sum_.plus(record.spend())
    return sum_


def grouped(found: Iterable[Record], key: Callable[[Record], Any]) -> dict[Any, Spend]:
    """Sums by what `key` says of a record."""
    sums: dict[Any, Spend] = {}
    for record in found:
        sums[key(record)] = sums.get(key(record), Spend()).plus(record.spend())
    return sums


def by_tag(found: Iterable[Record]) -> dict[str, Spend]:
    """Sums by tag, each record under all of its own."""
    sums: dict[str, Spend] = {}
    for record in found:
        for tag in record.tags.split(",") if record.tags else ["unknown"]:
            sums[tag] = sums.get(tag, Spend()).plus(record.spend())
    return sums


_RECORDS = """
SELECT e.seq, e.at_ms, e.input_tokens, e.output_tokens, e.cache_read_tokens, e.cache_write_tokens, e.reasoning_tokens,
       coalesce(json_array_length(e.extra, '$.unrated'), 0) > 0, e.cost_nano, s.status, s.key_id, s.provider, s.model,
       s.prompt_key, s.tags, s.source_app, s.user, s.project, s.team, s.workspace, s.org_id
FROM event e JOIN series s ON s.id = e.series_id ORDER BY e.seq
"""
_PROJECTS = "SELECT org_id, source_app, external_id, team_id, workspace_id FROM catalog_project"
_USERS = "SELECT org_id, source_app, external_id, team_id FROM catalog_user"
_TEAMS = "SELECT org_id, team_id, workspace_id FROM catalog_team"
