"""Lists of the catalog for admins: pages, what belongs to each thing, and what each has spent lately."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Generic, TypeVar

from costd.clock import Clock
from costd.domain.access import Caller
from costd.domain.days import DAY_MS, HOUR_MS, Span
from costd.domain.errors import Invalid
from costd.domain.spend import Spend
from costd.domain.usage import check_string
from costd.store import catalog_lists as store
from costd.store.catalog import UserRecord
from costd.store.catalog_changes import Key
from costd.store.catalog_lists import Lister, Narrowed, ProjectRow, TeamRow, WorkspaceRow
from costd.store.reader import Readers
from costd.store.sums import Wanted, sum_by

MAX_PAGE = 1000
DEFAULT_PAGE = 100
SPEND_DAYS = 30

T = TypeVar("T")

#: The dimensions by which the spend of each kind is added up, the last its id.
_DIMENSIONS: Mapping[str, Sequence[str]] = MappingProxyType(
    {
        "user": ("source_app", "user"),
        "project": ("source_app", "project"),
        "team": ("team",),
        "workspace": ("workspace",),
    }
)


_ANY = Narrowed()


@dataclass(frozen=True, slots=True)
class Asked:
    """Which page of which things, and whether with their spend; `cursor` is "" for the first page."""

    narrowed: Narrowed = _ANY
    cursor: str = ""
    limit: int = DEFAULT_PAGE
    with_spend: bool = False


@dataclass(frozen=True, slots=True)
class Listed(Generic[T]):
    """A page of rows, each with its spend of the last SPEND_DAYS days, None where that was not asked for."""

    rows: list[tuple[T, Spend | None]]
    next_cursor: str


class CatalogLists:
    """Lists the catalog of the caller's organization; every method needs the role admin, and blocks."""

    def __init__(self, readers: Readers, clock: Clock) -> None:
        self._readers = readers
        self._clock = clock

    def users(self, caller: Caller, asked: Asked) -> Listed[UserRecord]:
        """Users, by application and id."""
        return self._listed(caller, asked, "user", store.list_users, lambda row: (row.source_app, row.external_id))

    def projects(self, caller: Caller, asked: Asked) -> Listed[ProjectRow]:
        """Projects, by application and id."""
        return self._listed(
            caller,
            asked,
            "project",
            store.list_projects,
            lambda row: (row.project.source_app, row.project.external_id),
        )

    def teams(self, caller: Caller, asked: Asked) -> Listed[TeamRow]:
        """Teams, by id; those that are only named somewhere included."""
        return self._listed(caller, asked, "team", store.list_teams, lambda row: (row.team_id,))

    def workspaces(self, caller: Caller, asked: Asked) -> Listed[WorkspaceRow]:
        """Workspaces, by id; those that are only named somewhere included."""
        return self._listed(caller, asked, "workspace", store.list_workspaces, lambda row: (row.workspace_id,))

    def _listed(
        self,
        caller: Caller,
        asked: Asked,
        kind: str,
        list_: Lister[T],
        names_of: Callable[[T], tuple[str, ...]],
    ) -> Listed[T]:
        caller.require("admin")
        limit = asked.limit or DEFAULT_PAGE
        if not 1 <= limit <= MAX_PAGE:
            raise Invalid("limit", f"must be between 1 and {MAX_PAGE}")
        for field in ("source_app", "id", "team", "workspace"):
            check_string(getattr(asked.narrowed, field) or "", field)
        after = _read_cursor(asked.cursor) if asked.cursor else None
        # From a whole hour on, so that no single record need be read.
        lately = Span((self._clock.now_ms() - SPEND_DAYS * DAY_MS) // HOUR_MS * HOUR_MS, None)
        by = _DIMENSIONS[kind]
        table = None
        with self._readers.snapshot() as connection:
            page = list_(connection, caller.org_id, asked.narrowed, after, limit)
            if asked.with_spend and page.rows:
                mine = Wanted(caller.org_id, {by[-1]: [names_of(row)[-1] for row in page.rows]})
                table = sum_by(connection, mine, by, lately)
        cursor = "" if page.next_after is None else _cursor(page.next_after)
        if table is None:
            return Listed([(row, None) for row in page.rows], cursor)
        spends = {row.names: row.spend for row in table.rows}
        return Listed([(row, spends.get(names_of(row), Spend())) for row in page.rows], cursor)


def _cursor(after: Key) -> str:
    return base64.urlsafe_b64encode(json.dumps(list(after)).encode()).decode()


def _read_cursor(text: str) -> Key:
    try:
        read: Any = json.loads(base64.b64decode(text, altchars=b"-_", validate=True))
        app, id_ = read
        if isinstance(app, str) and isinstance(id_, str):
            return Key(app, id_)
    except (ValueError, TypeError, RecursionError):
        pass
    raise Invalid("cursor", "must be the next_cursor of an earlier answer")
