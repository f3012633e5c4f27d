"""The hub's catalog at its sidecars: what admins say there takes effect here, and nothing comes back as an echo."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import Any

from members import PROMISED_S, Launch, join

from callers import stubs
from costd.v1 import catalog_pb2, usage_pb2
from harness import Daemon, until


def set_user(daemon: Daemon, id_: str, **values: str) -> None:
    """Say something of a user of the application "shop"."""
    with stubs(daemon) as services:
        request = catalog_pb2.SetUserRequest(id=id_, source_app="shop", **values)
        services.admin.SetUser(request, metadata=services.metadata, timeout=20)


def set_team(daemon: Daemon, id_: str, **values: str) -> None:
    with stubs(daemon) as services:
        services.admin.SetTeam(catalog_pb2.SetTeamRequest(id=id_, **values), metadata=services.metadata, timeout=20)


def user(daemon: Daemon, id_: str) -> dict[str, Any]:
    """A user as the database has it; {} where it does not."""
    rows = daemon.query("SELECT email, full_name, team_id, seq FROM catalog_user WHERE external_id = ?", id_)
    return dict(zip(("email", "name", "team", "seq"), rows[0], strict=True)) if rows else {}


def record(daemon: Daemon, user_id: str) -> None:
    with stubs(daemon) as services:
        dimensions = usage_pb2.Dimensions(source_app="shop", model="gpt-4o", user=user_id)
        services.usage.Record(usage_pb2.RecordRequest(dimensions=dimensions), metadata=services.metadata, timeout=20)


def test_what_the_hub_says_of_users_and_teams_is_so_at_every_sidecar(launch: Launch) -> None:
    hub = launch(name="hub", command="hub")
    set_user(hub, "ada", name="Ada", team="search")
    first = join(launch, hub, "web-1", "default")
    second = join(launch, hub, "web-2", "default")
    assert user(first, "ada")["name"] == "Ada"
    set_user(hub, "ada", team="ads")
    set_team(hub, "ads", name="Advertising")
    for sidecar in (first, second):
        until(lambda sidecar=sidecar: user(sidecar, "ada")["team"] == "ads", "the new team", PROMISED_S)
        until(lambda sidecar=sidecar: sidecar.query("SELECT name FROM catalog_team") == [("Advertising",)], "its name")
        assert user(sidecar, "ada")["name"] == "Ada"
        # Not in the sequence of the sidecar: it does not go back.
        assert user(sidecar, "ada")["seq"] == 0
        assert sidecar.query("SELECT count(*) FROM catalog_change") == [(0,)]
    set_user(hub, "ada", team="")
    until(lambda: user(first, "ada")["team"] is None, "a value that was taken away", PROMISED_S)


def test_a_user_seen_at_one_sidecar_is_known_at_the_other(launch: Launch) -> None:
    hub = launch(name="hub", command="hub")
    first = join(launch, hub, "web-1", "default")
    second = join(launch, hub, "web-2", "default")
    record(first, "grace")
    until(lambda: user(second, "grace"), "a new user to be known")
    # What is said again changes nothing, and is no news.
    seq = user(hub, "grace")["seq"]
    record(second, "grace")
    until(lambda: hub.query("SELECT count(*) FROM event") == [(2,)], "both records")
    assert user(hub, "grace")["seq"] == seq


def test_what_is_said_here_while_the_hub_is_away_is_not_undone_by_what_it_says_after(launch: Launch) -> None:
    hub = launch(name="hub", command="hub")
    sidecar = join(launch, hub, "web-1", "default")
    set_user(hub, "ada", name="Ada", email="ada@example.com")
    until(lambda: user(sidecar, "ada"), "the user", PROMISED_S)
    address = hub.grpc
    hub.kill()
    set_user(sidecar, "ada", name="Ada Lovelace")
    hub = launch(f"--grpc-listen={address}", name="hub", command="hub")
    set_user(hub, "ada", team="search")
    until(lambda: user(hub, "ada")["name"] == "Ada Lovelace", "the sidecar's word to arrive", 60)
    until(lambda: user(sidecar, "ada")["team"] == "search", "the hub's word to arrive", 60)
    expected = {"email": "ada@example.com", "name": "Ada Lovelace", "team": "search"}
    for daemon in (hub, sidecar):
        assert {name: value for name, value in user(daemon, "ada").items() if name != "seq"} == expected


MANY_USERS = (
    "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 4500) "
    "INSERT INTO catalog_user (org_id, source_app, external_id, created_ms, updated_ms, seq) "
    "SELECT 1, 'shop', 'user-' || i, 1, 1, i FROM n"
)
MANY_KEYS = (
    "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2300) "
    "INSERT INTO api_key (id, org_id, name, digest, key_prefix, roles, created_ms, version) "
    "SELECT printf('%08d', i), 1, 'key', randomblob(32), 'ct_live_', 'ingest', 1, 0 FROM n"
)


def test_a_large_catalog_and_many_keys_come_in_several_messages(launch: Launch) -> None:
    hub = launch(name="hub", command="hub")
    assert hub.stop() == 0
    with closing(sqlite3.connect(hub.database)) as connection:
        connection.execute(MANY_USERS)
        connection.execute(MANY_KEYS)
        connection.commit()
    hub = launch(name="hub", command="hub")
    sidecar = join(launch, hub, "web-1", "default")
    assert sidecar.query("SELECT count(*) FROM catalog_user") == [(4500,)]
    assert sidecar.query("SELECT count(*) FROM api_key WHERE origin = 'hub'") == [(2301,)]
