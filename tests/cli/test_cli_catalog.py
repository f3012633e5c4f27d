"""`costd users`, `projects`, `teams` and `workspaces`, as people and scripts use them."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from typing import Any

import pytest
from click.testing import CliRunner

import harness
from costd.cli import catalog as shared
from costd.cli import users
from harness import Daemon, costd


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon with a record of every kind: of two applications with a project p1 each, unpriced, of a named team."""
    running = harness.start(tmp_path_factory.mktemp("catalog") / "data")
    for said in (
        {"user_external_id": "u1", "source_app": "shop", "project_external_id": "p1"},
        {"user_external_id": "u1", "source_app": "blog", "project_external_id": "p1"},
        {"user_external_id": "u2", "source_app": "shop", "project_external_id": "p2", "model": "nobodys-model"},
        {"user_external_id": "u3", "source_app": "shop", "team": "red"},
    ):
        body = {"model": "gpt-4o", "units": {"input_tokens": 1000, "output_tokens": 10}, "status": "success"} | said
        assert running.client.post("/v1/usage/record", json=body).status_code == 200
    yield running
    assert running.stop() == 0, running.log


def run(daemon: Daemon, *arguments: str, code: int = 0) -> tuple[str, str]:
    """(stdout, stderr) of a command on the daemon's folder."""
    done = costd(*arguments, "--data-dir", str(daemon.data_dir))
    assert done.returncode == code, done.stderr
    return done.stdout, done.stderr


def read(daemon: Daemon, *arguments: str) -> Any:
    """What a command prints with --json."""
    return json.loads(run(daemon, *arguments, "--json")[0])


def cells(table: str) -> list[list[str]]:
    """The words of a table, without its header."""
    return [line.split() for line in table.splitlines()[2:]]


def test_lists_as_tables_json_and_csv(daemon: Daemon) -> None:
    wanted = ("projects", "list", "--source-app", "shop", "--spend")
    table, _ = run(daemon, *wanted)
    assert cells(table) == [
        ["p1", "shop", "-", "-", "-", "unassigned", "1", "$0.0026"],
        ["p2", "shop", "-", "-", "-", "unassigned", "1", "unpriced:", "1"],
    ]
    rows = read(daemon, *wanted)["projects"]
    as_csv = list(csv.DictReader(io.StringIO(run(daemon, *wanted, "--csv")[0])))
    assert [[*row] for row in as_csv] == [[*row] for row in rows]
    assert [(row["cost_usd_30d"], row["unpriced_30d"]) for row in rows] == [("0.0026", 0), (None, 1)]
    assert [(row["cost_usd_30d"], row["unpriced_30d"], row["unassigned"]) for row in as_csv] == [
        ("0.0026", "0", "true"),
        ("", "1", "true"),
    ]
    assert "requests_30d" not in read(daemon, "users", "list")["users"][0]


@pytest.mark.parametrize("kind", ["users", "projects", "teams", "workspaces"])
def test_a_list_of_nothing_says_so(daemon: Daemon, kind: str) -> None:
    options = {"teams": ["--workspace", "none"], "workspaces": ["--unregistered"]}.get(kind, ["--source-app", "none"])
    wanted = (kind, "list", *options)
    assert run(daemon, *wanted)[0] == f"no {kind}\n"
    assert read(daemon, *wanted) == {kind: []}
    header, _ = run(daemon, *wanted, "--csv", "--spend")
    spend = ",requests_30d,cost_usd_30d,unpriced_30d\n"
    assert header.startswith("id,")
    assert header.endswith(spend)
    assert run(daemon, *wanted, "--csv")[0] == header.replace(spend, "\n")


def test_all_pages_are_read_and_a_limit_is_kept(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared, "_PAGE", 1)
    for option, expected in (([], 4), (["--limit", "3"], 3), (["--limit", "9"], 4)):
        arguments = ["list", "--json", "--data-dir", str(daemon.data_dir), *option]
        done = CliRunner().invoke(users.command, arguments, catch_exceptions=False)
        assert len(json.loads(done.stdout)["users"]) == expected


def test_from_an_unassigned_project_to_a_workspace_and_back(daemon: Daemon) -> None:
    """What an operator does, from top to bottom."""
    _, said = run(daemon, "projects", "assign", "p1", "--team", "blue", code=2)
    assert said == 'costd: source_app: "p1" is a project of several applications; say which: "blog", "shop"\n'
    assert "nix" in run(daemon, "projects", "assign", "p2", "nix", "--team", "blue", code=1)[1]
    out, said = run(daemon, "projects", "assign", "p1", "--source-app", "shop", "--team", "blue")
    assert (out, said) == (
        "assigned 1\n",
        'nobody has registered the team "blue"; `costd teams set` does, if it is meant\n',
    )
    bulk = ("projects", "assign", "--unassigned", "--source-app", "shop", "--team", "blue", "--workspace", "w")
    assert read(daemon, *bulk) == {
        "changed": 1,
        "unchanged": 0,
        "new_teams": [],
        "unregistered_team": "blue",
        "unregistered_workspace": "w",
    }
    team = read(daemon, "teams", "set", "blue", "--name", "Blue", "--workspace", "retail")
    assert (team["name"], team["workspace"], team["registered"], team["projects"]) == ("Blue", "retail", True, 2)
    assert run(daemon, "workspaces", "set", "retail", "--name", "Retail")[0] == 'set workspace "retail"\n'
    assert cells(run(daemon, "projects", "list")[0]) == [
        ["p1", "blog", "-", "-", "-", "unassigned"],
        ["p1", "shop", "-", "blue", "retail", "(its", "team's)", "assigned"],
        ["p2", "shop", "-", "blue", "w", "assigned"],
    ]
    assert [row["id"] for row in read(daemon, "projects", "list", "--workspace", "retail")["projects"]] == ["p1"]
    assert [row["source_app"] for row in read(daemon, "projects", "list", "--unassigned")["projects"]] == ["blog"]
    assert [row["source_app"] for row in read(daemon, "projects", "list", "--team", "")["projects"]] == ["blog"]
    report = read(daemon, "report", "--by", "team,workspace")["rows"]
    expected = {("blue", "retail"): 1, ("blue", "w"): 1, ("red", ""): 1, ("", ""): 1}
    assert {(row["team"], row["workspace"]): row["requests"] for row in report} == expected
    # And back: the second project's own workspace goes, its team's takes its place.
    assert run(daemon, "projects", "assign", "p2", "--workspace", "") == ("assigned 1\n", "")
    assert run(daemon, "projects", "assign", "p2", "--workspace", "")[0] == "assigned 0; 1 belonged there already\n"
    filtered = read(daemon, "report", "--by", "project", "--filter", "workspace=retail")["rows"]
    assert {row["project"] for row in filtered} == {"p1", "p2"}


def test_users_and_their_team(daemon: Daemon) -> None:
    shown = read(daemon, "users", "set", "u2", "--name", "Grace", "--email", "grace@example.com")
    assert (shown["id"], shown["source_app"], shown["name"], shown["team"]) == ("u2", "shop", "Grace", None)
    assert '"blog", "shop"' in run(daemon, "users", "set", "u1", "--name", "x", code=2)[1]
    run(daemon, "users", "assign", "u2", "u3", "--team", "green")
    run(daemon, "users", "set", "u3", "--source-app", "shop", "--team", "")
    assert [row["id"] for row in read(daemon, "users", "list", "--team", "green")["users"]] == ["u2"]
    assert run(daemon, "users", "set", "new", "--source-app", "shop")[0] == 'set user "new" of "shop"\n'
    table, _ = run(daemon, "users", "list", "--source-app", "shop")
    assert ["u2", "shop", "Grace", "grace@example.com", "green"] in cells(table)


def test_teams_and_workspaces(daemon: Daemon) -> None:
    assert "red" in {row["id"] for row in read(daemon, "teams", "list", "--unregistered")["teams"]}
    out, said = run(daemon, "teams", "assign", "red", "--workspace", "attic")
    assert out == "assigned 1\n"
    assert said.splitlines() == [
        'the team "red" is registered now',
        'nobody has registered the workspace "attic"; `costd workspaces set` does, if it is meant',
    ]
    assert "attic" in {row["id"] for row in read(daemon, "workspaces", "list", "--unregistered")["workspaces"]}
    assert [row["id"] for row in read(daemon, "teams", "list", "--workspace", "attic")["teams"]] == ["red"]
    both = ("workspaces", "assign", "cellar", "--team", "red", "--project", "p1", "--source-app", "blog")
    assert read(daemon, *both)["changed"] == 2
    spent = read(daemon, "workspaces", "list", "--spend", "--limit", "100")["workspaces"]
    cellar = next(row for row in spent if row["id"] == "cellar")
    assert (cellar["teams"], cellar["projects"], cellar["requests_30d"], cellar["cost_usd_30d"]) == (1, 1, 2, "0.0052")
    table, _ = run(daemon, "teams", "list", "--workspace", "cellar", "--spend")
    assert cells(table) == [["red", "-", "cellar", "registered", "0", "0", "0", "1", "$0.0026"]]
    assert ["cellar", "-", "unregistered", "1", "1"] in cells(run(daemon, "workspaces", "list")[0])


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["projects", "assign", "--team", "t"], "--unassigned"),
        (["projects", "assign", "p1"], "--team"),
        (["projects", "assign", "--unassigned", "--team", "t"], "source_app"),
        (["projects", "set", "new"], "source_app"),
        (["users", "assign", "--team", "t"], "ID"),
        (["users", "assign", "u1"], "--team"),
        (["users", "list", "--json", "--csv"], "--json and --csv"),
        (["users", "list", "--limit", "0"], "--limit"),
        (["teams", "assign", "t"], "--workspace"),
        (["teams", "set", ""], "id"),
        (["workspaces", "assign", "w"], "--team"),
        (["workspaces", "set", "w", "--name", "x" * 257], "name"),
    ],
)
def test_a_wrong_command_line_is_said_in_a_line(daemon: Daemon, arguments: list[str], part: str) -> None:
    out, said = run(daemon, *arguments, code=2)
    assert out == ""
    assert said.startswith("costd: ")
    assert said.count("\n") == 1
    assert part in said
