"""Whom a record is attributed to: in every report, filter and list, the same as working it out record by record."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import product

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from costd.clock import Clock, ManualClock
from costd.domain.access import Caller
from costd.domain.days import Span
from costd.domain.spend import Spend
from costd.services.assignment import Assignment
from costd.services.catalog import Catalog
from costd.services.catalog_lists import Asked, CatalogLists
from costd.services.reports import Reports
from costd.services.usage_log import UsageLog
from costd.store import totals
from costd.store.attribution import column_of
from costd.store.catalog_kinds import KINDS, PROJECT, TEAM, USER, Kind
from costd.store.commit import Change
from costd.store.reader import Readers
from costd.store.sums import Wanted, sum_buckets, sum_by
from costd.store.writer import Writer
from ledger import DAY_MS, HOUR_MS, NOW_MS, draft, record, series, writing
from reads import brute

ADMIN = Caller(1, "key", "admin", frozenset({"admin"}))
APPS = ("shop", "blog", "")
USERS = ("", "u1", "u2", "u3")
PROJECTS = ("", "p1", "p2", "p3")
TEAMS = ("red", "blue", "green")
WORKSPACES = ("north", "south")
BY = ((), ("team",), ("workspace",), ("team", "workspace"), ("workspace", "project"), ("user", "team"), ("model",))


class Ledger:
    """Records of every combination of application, user, project and team, and the services over them."""

    def __init__(self, writer: Writer) -> None:
        self.writer = writer
        self.readers = Readers(writer.path, Clock())
        self.catalog = Catalog(writer, self.readers)
        self.lists = CatalogLists(self.readers, ManualClock(NOW_MS))
        chance = random.Random(5)
        drafts = []
        for app, user, project, team in product(APPS, USERS, PROJECTS, ("", "red")):
            # Another organization has a catalog of its own, and its records are in nobody else's reports.
            for org in (1, 1, 2):
                its = series(org_id=org, source_app=app, user=user, project=project, team=team)
                at_ms = NOW_MS - chance.randrange(20 * DAY_MS)
                drafts.append(draft(series=its, at_ms=at_ms, cost_nano=chance.choice([None, chance.randrange(10**9)])))
        writer.submit(Change(lambda commit: commit.connection.execute("INSERT INTO org VALUES (2, 'other')"))).wait(20)
        record(writer, *drafts)
        while writer.submit(Change(totals.fold_rollups)).wait(20):
            pass

    def change(self, kind: Kind, app: str, id_: str, **values: str) -> None:
        """Set one thing of the catalog, in both organizations to different values."""
        self.catalog.set(ADMIN, kind, id_, app if kind.has_apps else None, values)
        other = {name: f"other {value}" if value else "" for name, value in values.items()}
        self.catalog.set(ADMIN._replace(org_id=2), kind, id_, app if kind.has_apps else None, other)

    def check(self, org_id: int, by: tuple[str, ...], filters: dict[str, tuple[str, ...]]) -> None:
        """Every sum by these dimensions under these filters is what the organization's records add up to."""
        held = [one for one in brute.records(self.writer.path) if one.org_id == org_id and _is_in(one, filters)]
        caller = ADMIN._replace(org_id=org_id)
        expected = brute.grouped(held, lambda one: tuple(getattr(one, name) for name in by))
        since_ms = NOW_MS - 7 * DAY_MS - 1234
        late = brute.grouped(
            (one for one in held if one.at_ms >= since_ms), lambda one: tuple(getattr(one, name) for name in by)
        )
        wanted = Wanted(org_id, filters)
        with self.readers.snapshot() as connection:
            for span, sums in ((Span(), expected), (Span(since_ms, None), late)):
                assert {row.names: row.spend for row in sum_by(connection, wanted, by, span).rows} == sums
            bounds = [NOW_MS - 30 * DAY_MS, since_ms, NOW_MS + HOUR_MS]
            spends, _ = sum_buckets(connection, wanted, bounds)
            assert spends[0].plus(spends[1]) == brute.total(held)
        reports = Reports(self.readers, self.writer, Clock())
        single = {name: values[0] for name, values in filters.items() if len(values) == 1}
        if len(single) == len(filters):
            found = reports.summarize(caller, by, filters=single).rows
            assert {
                tuple(row.dimensions[name] for name in by): (row.totals.requests, row.totals.cost_nano) for row in found
            } == {names: (spend.requests, spend.cost_nano) for names, spend in expected.items()}
        page = UsageLog(self.readers).page(caller, Span(), filters, "", 100)
        assert len(page.events) == min(100, len(held))


def _is_in(one: brute.Record, filters: dict[str, tuple[str, ...]]) -> bool:
    return all(getattr(one, name) in values for name, values in filters.items())


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ledger]:
    with writing(tmp_path_factory.mktemp("attribution"), ManualClock(NOW_MS)) as writer:
        made = Ledger(writer)
        yield made
        made.readers.close()


def _changes() -> st.SearchStrategy[tuple[Kind, str, str, dict[str, str]]]:
    """A change of where something belongs, taking it out included."""
    team, workspace = st.sampled_from(("", *TEAMS)), st.sampled_from(("", *WORKSPACES))
    app = st.sampled_from(APPS)
    return st.one_of(
        st.tuples(st.just(USER), app, st.sampled_from(USERS[1:]), st.fixed_dictionaries({"team": team})),
        st.tuples(
            st.just(PROJECT),
            app,
            st.sampled_from(PROJECTS[1:]),
            st.fixed_dictionaries({}, optional={"team": team, "workspace": workspace}),
        ),
        st.tuples(st.just(TEAM), st.just(""), st.sampled_from(TEAMS), st.fixed_dictionaries({"workspace": workspace})),
    )


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    changes=st.lists(_changes(), max_size=12),
    by=st.sampled_from(BY),
    filters=st.fixed_dictionaries(
        {},
        optional={
            "team": st.sampled_from((("",), ("red",), ("blue", "green"), ("", "red", "none such"))),
            "workspace": st.sampled_from((("",), ("north",), ("south", "north"))),
        },
    ),
)
def test_every_report_resolves_teams_and_workspaces_as_record_by_record(
    ledger: Ledger,
    changes: list[tuple[Kind, str, str, dict[str, str]]],
    by: tuple[str, ...],
    filters: dict[str, tuple[str, ...]],
) -> None:
    for kind, app, id_, values in changes:
        ledger.change(kind, app, id_, **values)
    ledger.check(1, by, filters)
    ledger.check(2, by, filters)


def test_lists_show_the_spend_that_reports_show(ledger: Ledger) -> None:
    ledger.change(PROJECT, "shop", "p1", team="blue", workspace="")
    ledger.change(USER, "blog", "u2", team="green")
    ledger.change(TEAM, "", "blue", workspace="north")
    held = [one for one in brute.records(ledger.writer.path) if one.org_id == 1]
    asked = Asked(with_spend=True, limit=1000)
    for rows, key in (
        (ledger.lists.users(ADMIN, asked).rows, lambda one: (one.source_app, one.user)),
        (ledger.lists.projects(ADMIN, asked).rows, lambda one: (one.source_app, one.project)),
        (ledger.lists.teams(ADMIN, asked).rows, lambda one: ("", one.team)),
        (ledger.lists.workspaces(ADMIN, asked).rows, lambda one: ("", one.workspace)),
    ):
        sums = brute.grouped(held, key)
        assert len(rows) >= 2
        for row, spend in rows:
            assert spend == sums.get(_key(row), Spend()), row


def _key(row: object) -> tuple[str, str]:
    said = getattr(row, "project", row)
    id_ = next(getattr(said, name) for name in ("external_id", "team_id", "workspace_id") if hasattr(said, name))
    return getattr(said, "source_app", ""), id_


def test_counts_are_of_what_belongs_there(ledger: Ledger) -> None:
    for app, id_ in product(APPS, PROJECTS[1:]):
        ledger.change(PROJECT, app, id_, team="", workspace="")
    for app, id_ in product(APPS, USERS[1:]):
        ledger.change(USER, app, id_, team="blue")
    for team in TEAMS:
        ledger.change(TEAM, "", team, workspace="")
    ledger.change(TEAM, "", "blue", workspace="south")
    ledger.catalog.assign(ADMIN, Assignment(projects=("p1", "p2"), source_app="shop", team="blue"))
    ledger.catalog.assign(ADMIN, Assignment(projects=("p2",), source_app="shop", workspace="north"))
    teams = {row.team_id: row for row, _ in ledger.lists.teams(ADMIN, Asked()).rows}
    assert (teams["blue"].projects, teams["blue"].users, teams["blue"].workspace_id) == (2, 9, "south")
    assert (teams["red"].projects, teams["red"].users, teams["red"].workspace_id) == (0, 0, None)
    workspaces = {row.workspace_id: row for row, _ in ledger.lists.workspaces(ADMIN, Asked()).rows}
    assert {id_: (row.teams, row.projects, row.registered) for id_, row in workspaces.items()} == {
        "north": (0, 1, False),
        "south": (1, 1, False),
    }


@pytest.mark.parametrize("kind", [kind.name for kind in KINDS], ids=str)
def test_setting_what_is_set_already_writes_nothing(ledger: Ledger, kind: str) -> None:
    chosen = next(one for one in KINDS if one.name == kind)
    values = dict.fromkeys(chosen.columns, "x")

    def state() -> tuple[object, ...]:
        with ledger.readers.snapshot() as connection:
            (audited,) = connection.execute("SELECT count(*) FROM audit").fetchone()
            (row,) = connection.execute(
                f"SELECT seq, updated_ms FROM {chosen.table} WHERE org_id = 1 AND {chosen.id_column} = 'idle'"
            ).fetchall()
            (newest,) = connection.execute("SELECT max(first_seq + items) FROM ledger_commit").fetchone()
        assert row[0] < newest
        return audited, *row

    app = "shop" if chosen.has_apps else None
    ledger.catalog.set(ADMIN, chosen, "idle", app, values)
    before = state()
    ledger.catalog.set(ADMIN, chosen, "idle", app, values)
    ledger.catalog.set(ADMIN, chosen, "idle", app, {})
    assert state() == before
    ledger.catalog.set(ADMIN, chosen, "idle", app, dict.fromkeys(chosen.columns, ""))
    assert state()[0] == int(str(before[0])) + 1
    assert state()[1] > int(str(before[1]))


def test_every_dimension_has_its_column() -> None:
    assert column_of("model") == "s.model"
    assert "catalog_project" in column_of("team")
    with pytest.raises(AssertionError):
        column_of("colour")
