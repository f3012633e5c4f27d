"""The catalog over gRPC: pages, settings, assignments, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest

import harness
from callers import Stubs, stubs
from costd.v1 import catalog_pb2 as pb
from harness import Daemon
from rpc_calls import bearer, details_of, refusal_of


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon that has seen projects p0 … p11 of two applications, all of them unassigned."""
    running = harness.start(tmp_path_factory.mktemp("catalog") / "data")
    record(running, *({"source_app": app, "project": f"p{n}"} for app in ("blog", "shop") for n in range(12)))
    yield running
    assert running.stop() == 0, running.log


@pytest.fixture(scope="module")
def services(daemon: Daemon) -> Iterator[Stubs]:
    with stubs(daemon) as found:
        yield found


@pytest.fixture
def ask(services: Stubs) -> Callable[..., Any]:
    """Call a method of AdminService by name."""
    return lambda method, request: getattr(services.admin, method)(request, metadata=services.metadata, timeout=20)


def record(daemon: Daemon, *said: dict[str, str]) -> None:
    """Send records; each names an application and whatever else."""
    names = {"user": "user_external_id", "project": "project_external_id"}
    bodies = [
        {"user_external_id": "u", "model": "gpt-4o", "units": {"input_tokens": 1000}, "status": "success"}
        | {names.get(name, name): value for name, value in one.items()}
        for one in said
    ]
    answer = daemon.client.post("/v1/usage/records", json=bodies).json()
    assert answer["recorded"] == len(said), answer


def spent(daemon: Daemon, by: str) -> dict[str, int]:
    """Requests by a dimension."""
    done = harness.costd("report", "--by", by, "--since", "all", "--json", "--data-dir", str(daemon.data_dir))
    return {row[by]: row["requests"] for row in json.loads(done.stdout)["rows"]}


def audited(daemon: Daemon, action: str) -> list[tuple[str, dict[str, Any]]]:
    rows = daemon.query("SELECT resource_id, metadata FROM audit WHERE action = ? ORDER BY id", action)
    return [(resource_id, json.loads(metadata)) for resource_id, metadata in rows]


def test_pages_follow_each_other_without_gaps_or_repeats(ask: Callable[..., Any]) -> None:
    for limit in (1, 5, 24, 100):
        found: list[tuple[str, str]] = []
        cursor = ""
        while True:
            page = ask("ListProjects", pb.ListProjectsRequest(limit=limit, cursor=cursor))
            assert len(page.projects) <= limit
            found += [(project.source_app, project.id) for project in page.projects]
            cursor = page.next_cursor
            if not cursor:
                break
            assert len(page.projects) == limit
        expected = sorted((app, f"p{n}") for app in ("blog", "shop") for n in range(12))
        assert [key for key in found if key in expected] == expected
        assert found == sorted(set(found))


@pytest.mark.parametrize(
    ("method", "request_", "field"),
    [
        ("ListUsers", pb.ListUsersRequest(limit=-1), "limit"),
        ("ListProjects", pb.ListProjectsRequest(limit=1001), "limit"),
        ("ListTeams", pb.ListTeamsRequest(cursor="nonsense"), "cursor"),
        ("ListWorkspaces", pb.ListWorkspacesRequest(cursor="WzEsMl0="), "cursor"),
        ("ListUsers", pb.ListUsersRequest(source_app="a" * 257), "source_app"),
        ("ListProjects", pb.ListProjectsRequest(team="\n"), "team"),
        ("SetUser", pb.SetUserRequest(source_app="shop"), "id"),
        ("SetUser", pb.SetUserRequest(id="u", source_app="shop", email="e" * 257), "email"),
        ("SetUser", pb.SetUserRequest(id="u", source_app="shop", name="\x00"), "name"),
        ("SetUser", pb.SetUserRequest(id="nobody"), "source_app"),
        ("SetProject", pb.SetProjectRequest(id="p0", name="x"), "source_app"),
        ("SetProject", pb.SetProjectRequest(id="p0", source_app="\x07"), "source_app"),
        ("SetTeam", pb.SetTeamRequest(id="", name="x"), "id"),
        ("SetWorkspace", pb.SetWorkspaceRequest(id="w" * 257), "id"),
        ("Assign", pb.AssignRequest(team="t"), ""),
        ("Assign", pb.AssignRequest(projects=["p0"], source_app="shop"), "team"),
        ("Assign", pb.AssignRequest(projects=["p0"], team="t"), "source_app"),
        ("Assign", pb.AssignRequest(projects=["p0", "p0"], source_app="shop", team="t"), "projects"),
        ("Assign", pb.AssignRequest(projects=[""], source_app="shop", team="t"), "projects"),
        ("Assign", pb.AssignRequest(projects=["p0"], source_app="shop", team="t" * 257), "team"),
        ("Assign", pb.AssignRequest(users=["u"], source_app="shop", workspace="w"), "users"),
        ("Assign", pb.AssignRequest(users=["u"], source_app="shop", team="t", workspace="w"), "users"),
        ("Assign", pb.AssignRequest(teams=["t"], team="t"), "teams"),
        ("Assign", pb.AssignRequest(teams=["t"], team="t", workspace="w"), "teams"),
        ("Assign", pb.AssignRequest(unassigned=True, team="t"), "source_app"),
        ("Assign", pb.AssignRequest(unassigned=True, source_app="shop", team=""), "team"),
        ("Assign", pb.AssignRequest(users=[f"u{n}" for n in range(5001)], team="t"), ""),
    ],
    ids=str,
)
def test_what_makes_no_sense_is_refused_by_its_name(
    daemon: Daemon, ask: Callable[..., Any], method: str, request_: Any, field: str
) -> None:
    before = daemon.query("SELECT count(*), max(id) FROM audit")
    error = refusal_of(lambda: ask(method, request_))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    fields, _ = details_of(error)
    assert {*fields} | {""} == {field, ""}
    assert daemon.query("SELECT count(*), max(id) FROM audit") == before


@pytest.mark.parametrize("role", ["ingest", "read"])
def test_only_admins_look_into_the_catalog_and_change_it(daemon: Daemon, services: Stubs, role: str) -> None:
    key = bearer(daemon.key(role, role=role))
    for method, request in (
        ("ListUsers", pb.ListUsersRequest()),
        ("ListProjects", pb.ListProjectsRequest()),
        ("ListTeams", pb.ListTeamsRequest()),
        ("ListWorkspaces", pb.ListWorkspacesRequest()),
        ("SetUser", pb.SetUserRequest(id="u", source_app="shop")),
        ("SetProject", pb.SetProjectRequest(id="p0", source_app="shop")),
        ("SetTeam", pb.SetTeamRequest(id="t")),
        ("SetWorkspace", pb.SetWorkspaceRequest(id="w")),
        ("Assign", pb.AssignRequest(projects=["p0"], source_app="shop", team="t")),
    ):
        error = refusal_of(
            lambda method=method, request=request: getattr(services.admin, method)(request, metadata=key)
        )
        assert error.code() is grpc.StatusCode.PERMISSION_DENIED, method


def test_a_setting_changes_what_it_names_and_takes_away_what_is_empty(daemon: Daemon, ask: Callable[..., Any]) -> None:
    made = ask(
        "SetUser", pb.SetUserRequest(id="ada", source_app="shop", email="ada@example.com", name="Ada", team="red")
    )
    assert (made.email, made.name, made.team, made.source_app) == ("ada@example.com", "Ada", "red", "shop")
    changed = ask("SetUser", pb.SetUserRequest(id="ada", email=""))
    assert (changed.email, changed.name, changed.team, changed.created_ms) == ("", "Ada", "red", made.created_ms)
    assert ask("SetUser", pb.SetUserRequest(id="ada", team="")).team == ""
    lines = [told for id_, told in audited(daemon, "user.set") if id_ == "ada"]
    assert lines == [
        {"source_app": "shop", "email": "changed", "name": "changed", "team": {"from": None, "to": "red"}},
        {"source_app": "shop", "email": "changed"},
        {"source_app": "shop", "team": {"from": "red", "to": None}},
    ]
    assert "ada@example.com" not in str(daemon.query("SELECT * FROM audit"))
    project = ask("SetProject", pb.SetProjectRequest(id="p11", source_app="blog", name="Eleven"))
    assert (project.registered, project.unassigned, project.name) == (True, False, "Eleven")


def test_an_assignment_is_whole_or_nothing(daemon: Daemon, ask: Callable[..., Any]) -> None:
    before = daemon.query("SELECT external_id, team_id FROM catalog_project WHERE source_app = 'shop'")
    wanted = pb.AssignRequest(projects=["p1", "p2", "gone", "away"], source_app="shop", team="red")
    error = refusal_of(lambda: ask("Assign", wanted))
    assert error.code() is grpc.StatusCode.NOT_FOUND
    assert '"gone", "away"' in error.details()
    mixed = pb.AssignRequest(projects=["p1", "p3"], teams=["red"], workspace="north")
    assert '"blog", "shop"' in refusal_of(lambda: ask("Assign", mixed)).details()
    assert daemon.query("SELECT external_id, team_id FROM catalog_project WHERE source_app = 'shop'") == before
    assert daemon.query("SELECT count(*) FROM catalog_team WHERE team_id = 'red'") == [(0,)]


def test_assigning_moves_history_and_taking_it_back_moves_it_back(daemon: Daemon, ask: Callable[..., Any]) -> None:
    record(daemon, *({"source_app": "move", "project": name, "user": "mover"} for name in ("a", "a", "b")))
    assert "moved" not in spent(daemon, "team")
    made = ask("Assign", pb.AssignRequest(projects=["a"], source_app="move", team="moved"))
    assert (made.changed, made.unchanged, made.unregistered_team) == (1, 0, "moved")
    assert spent(daemon, "team")["moved"] == 2
    ask("Assign", pb.AssignRequest(users=["mover"], team="moved"))
    assert spent(daemon, "team")["moved"] == 3
    made = ask("Assign", pb.AssignRequest(teams=["moved"], projects=["b"], source_app="move", workspace="attic"))
    assert (made.changed, [*made.new_teams], made.unregistered_workspace) == (2, ["moved"], "attic")
    assert spent(daemon, "workspace")["attic"] == 3
    ask("SetTeam", pb.SetTeamRequest(id="moved", name="The Movers"))
    teams = daemon.client.get("/api/aggregations/by-team").json()["teams"]
    assert [(team["team_name"], team["request_count"]) for team in teams if team["team_id"] == "moved"] == [
        ("The Movers", 3)
    ]
    assert all(team["team_name"] == team["team_id"] for team in teams if team["team_id"] != "moved")
    again = ask("Assign", pb.AssignRequest(users=["mover"], team="moved"))
    assert (again.changed, again.unchanged, again.unregistered_team) == (0, 1, "")
    ask("Assign", pb.AssignRequest(users=["mover"], team=""))
    ask("Assign", pb.AssignRequest(projects=["a"], source_app="move", team=""))
    assert "moved" not in spent(daemon, "team")
    assert spent(daemon, "workspace")["attic"] == 1
    assert audited(daemon, "project.assigned")[-1] == (
        "a",
        {"source_app": "move", "team": {"from": "moved", "to": None}},
    )


def test_all_unassigned_projects_of_an_application_at_once(daemon: Daemon, ask: Callable[..., Any]) -> None:
    record(daemon, *({"source_app": "bulk", "project": f"b{n}"} for n in range(1500)))
    ask("Assign", pb.AssignRequest(projects=["b7"], source_app="bulk", workspace="kept"))
    ask("SetProject", pb.SetProjectRequest(id="b8", source_app="bulk", name="Registered"))
    left = pb.ListProjectsRequest(source_app="bulk", unassigned=True, limit=1000)
    assert len(ask("ListProjects", left).projects) == 1000
    made = ask("Assign", pb.AssignRequest(unassigned=True, source_app="bulk", team="crowd"))
    assert (made.changed, made.unchanged) == (1498, 0)
    assert ask("ListProjects", left).projects == []
    assert ask("Assign", pb.AssignRequest(unassigned=True, source_app="bulk", team="crowd")).changed == 0
    teams = {team.id: team for team in ask("ListTeams", pb.ListTeamsRequest(with_spend=True)).teams}
    assert (teams["crowd"].projects, teams["crowd"].registered, teams["crowd"].spend.requests) == (1498, False, 1498)
    assert not ask("ListProjects", pb.ListProjectsRequest(source_app="blog", unassigned=True)).next_cursor
    assert len(audited(daemon, "project.assigned")) >= 1499


def test_applications_keep_their_users_and_projects_as_before(daemon: Daemon, ask: Callable[..., Any]) -> None:
    """An upsert names no team of a user, and leaves the assigned one; of a project it may, one nobody knows as well."""
    ask("SetUser", pb.SetUserRequest(id="kept", source_app="up", team="red"))
    body = {"external_id": "kept", "source_app": "up", "email": "kept@example.com"}
    answer = daemon.client.post("/v1/users/upsert", json=body).json()
    assert set(answer) == {"external_id", "source_app", "email", "full_name", "created_at", "updated_at"}
    users = ask("ListUsers", pb.ListUsersRequest(source_app="up")).users
    assert [(user.id, user.email, user.team) for user in users] == [("kept", "kept@example.com", "red")]
    body = {"external_id": "new", "source_app": "up", "name": "New", "team_id": "upstart", "workspace_id": "loft"}
    answer = daemon.client.post("/v1/projects/upsert", json=body).json()
    assert (answer["team_id"], answer["workspace_id"], answer["registered"]) == ("upstart", "loft", True)
    unregistered = pb.ListTeamsRequest(unregistered=True, limit=1000)
    assert "upstart" in {team.id for team in ask("ListTeams", unregistered).teams}
    lofts = ask("ListWorkspaces", pb.ListWorkspacesRequest(unregistered=True)).workspaces
    assert {(loft.id, loft.projects, loft.teams) for loft in lofts} >= {("loft", 1, 0)}
    body |= {"team_id": ""}
    assert daemon.client.post("/v1/projects/upsert", json=body).json()["team_id"] == ""
    assert "upstart" not in {team.id for team in ask("ListTeams", unregistered).teams}


def test_keys_name_teams_while_they_are_in_force(daemon: Daemon, ask: Callable[..., Any]) -> None:
    def keys() -> dict[str, int]:
        return {team.id: team.keys for team in ask("ListTeams", pb.ListTeamsRequest(limit=1000)).teams}

    daemon.key("bound", team="keyed")
    assert keys()["keyed"] == 1
    harness.costd("keys", "revoke", "bound", "--data-dir", str(daemon.data_dir))
    assert "keyed" not in keys()


def test_changes_are_in_the_ledgers_sequence(daemon: Daemon, ask: Callable[..., Any]) -> None:
    ask("SetTeam", pb.SetTeamRequest(id="numbered", workspace="w1"))
    ask("SetWorkspace", pb.SetWorkspaceRequest(id="numbered", name="N"))
    seqs = [
        daemon.query(f"SELECT seq FROM catalog_{kind} WHERE {kind}_id = 'numbered'")[0][0]
        for kind in ("team", "workspace")
    ]
    assert seqs == sorted(set(seqs))
    for seq in seqs:
        within = "SELECT count(*) FROM ledger_commit WHERE first_seq <= ? AND first_seq + items > ?"
        assert daemon.query(within, seq, seq) == [(1,)]
    done = harness.costd("check", "--data-dir", str(daemon.data_dir))
    assert done.returncode == 0, done.stdout
