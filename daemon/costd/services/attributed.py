"""Whom budgets charge: a record's dimensions as the catalog attributes them, in memory, renewed by each commit.

The rules are those of costd.store.attribution: a record's team is its own, else its project's, else its user's; its
workspace is its own, else its project's, else its team's. What belongs nowhere is not kept.
"""

from __future__ import annotations

from collections.abc import Mapping

from costd.domain.budget_index import Dimensions
from costd.domain.series import TAG_SEPARATOR, Series
from costd.store.attribution import Assigned, Said
from costd.store.catalog_kinds import PROJECT, TEAM, USER

_NOWHERE = Assigned("", "")

#: Series remembered with their dimensions; about 1 KB each.
MAX_REMEMBERED = 20_000


class Attributed:
    """The catalog's assignments in memory. One thread's at a time: that of whoever holds the lock of the tills."""

    def __init__(self) -> None:
        self._assigned: dict[Said, Assigned] = {}
        self._orgs: dict[int, str] = {}
        self._dimensions: dict[Series, Dimensions] = {}

    def load(self, assigned: Mapping[Said, Assigned], orgs: Mapping[int, str]) -> None:
        """Begin with all that the catalog says."""
        self._assigned = dict(assigned)
        self._orgs = dict(orgs)
        self._dimensions = {}

    def knows_org(self, org_id: int) -> bool:
        """Whether an organization's name is known; else it is to be `named` first."""
        return org_id in self._orgs

    def name_orgs(self, orgs: Mapping[int, str]) -> None:
        """Learn of organizations."""
        self._orgs.update(orgs)

    def forget_orgs(self) -> None:
        """Have the names of organizations told anew."""
        self._orgs = {}
        self._dimensions = {}

    def renew(self, said: Mapping[Said, Assigned], *, is_whole: bool = False) -> bool:
        """Take over where things belong now, with `is_whole` all that belong anywhere; whether that is any news."""
        if is_whole:
            is_news = said != self._assigned
            if is_news:
                self._assigned, self._dimensions = dict(said), {}
            return is_news
        news = {each: where for each, where in said.items() if self._assigned.get(each, _NOWHERE) != where}
        for each, where in news.items():
            if where == _NOWHERE:
                self._assigned.pop(each, None)
            else:
                self._assigned[each] = where
        if news:
            self._dimensions = {}
        return bool(news)

    def dimensions(self, series: Series) -> Dimensions:
        """The dimensions that budgets see of a series."""
        found = self._dimensions.get(series)
        if found is None:
            if len(self._dimensions) >= MAX_REMEMBERED:
                self._dimensions = {}
            found = self._dimensions[series] = self._attribute(series)
        return found

    def _attribute(self, series: Series) -> Dimensions:
        org, app = series.org_id, series.source_app
        project = self._of(PROJECT.name, org, app, series.project)
        team = series.team or project.team or self._of(USER.name, org, app, series.user).team
        workspace = series.workspace or project.workspace or self._of(TEAM.name, org, "", team).workspace
        return Dimensions(
            self._orgs.get(org, ""),
            workspace,
            team,
            series.project,
            series.user,
            series.key_id,
            app,
            series.provider,
            series.model,
            series.prompt_key,
            tuple(series.tags.split(TAG_SEPARATOR)) if series.tags else (),
        )

    def _of(self, kind: str, org_id: int, source_app: str, id_: str) -> Assigned:
        return self._assigned.get((kind, org_id, source_app, id_), _NOWHERE) if id_ else _NOWHERE
