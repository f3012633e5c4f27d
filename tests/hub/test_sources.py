"""Sources: a hub makes them with their keys and organizations, lists them, and forgets them for good."""

from __future__ import annotations

import csv
import io
import json
import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import grpc
import pytest

from callers import Stubs, stubs
from costd.v1 import admin_pb2, hub_pb2, hub_pb2_grpc, query_pb2, source_pb2, usage_pb2
from harness import Daemon, costd
from rpc_calls import bearer, channel_to, details_of, refusal_of

HOUR_MS = 3_600_000
Launch = Callable[..., Daemon]


@pytest.fixture
def services(hub: Daemon) -> Iterator[Stubs]:
    with stubs(hub) as found:
        yield found


def create(services: Stubs, name: str, *organizations: str, key: str = "") -> Any:
    request = source_pb2.CreateSourceRequest(name=name, organizations=organizations)
    return services.admin.CreateSource(request, metadata=bearer(key) if key else services.metadata, timeout=20)


def listed(services: Stubs) -> dict[str, Any]:
    answer = services.admin.ListSources(source_pb2.ListSourcesRequest(), metadata=services.metadata, timeout=20)
    return {source.name: source for source in answer.sources}


def listed_keys(services: Stubs, key: str = "") -> list[Any]:
    metadata = bearer(key) if key else services.metadata
    return list(services.admin.ListKeys(admin_pb2.ListKeysRequest(), metadata=metadata, timeout=20).keys)


def forget(services: Stubs, which: str) -> Any:
    return services.admin.ForgetSource(source_pb2.ForgetSourceRequest(id=which), metadata=services.metadata, timeout=20)


def code_of(error: grpc.Call) -> str:
    return str(error.code().name)


def test_a_source_is_made_with_its_key_and_organizations_in_one_transaction(hub: Daemon, services: Stubs) -> None:
    commits = len(hub.query("SELECT 1 FROM audit"))
    made = create(services, "web-1", "acme", "acme-labs")
    assert list(made.organizations) == ["acme", "acme-labs"]
    rows = hub.query("SELECT at_ms, action FROM audit ORDER BY id LIMIT -1 OFFSET ?", commits)
    assert [action for _, action in rows] == ["org.created", "org.created", "api_key.created", "source.created"]
    assert len({at_ms for at_ms, _ in rows}) == 1
    found = listed(services)["web-1"]
    assert (found.id, found.state, found.problem, found.epochs) == (made.id, "never", "", 0)
    # Organizations that are there are used.
    create(services, "web-2", "acme")
    assert hub.query("SELECT count(*) FROM org WHERE name LIKE 'acme%'") == [(2,)]
    assert list(create(services, "web-3").organizations) == ["default"]


def test_a_source_key_opens_nothing_but_the_road_to_the_hub(hub: Daemon, services: Stubs) -> None:
    key = create(services, "narrow").key
    record = usage_pb2.RecordRequest(dimensions=usage_pb2.Dimensions(source_app="a", model="gpt-4o"))
    for call, request in [
        (services.usage.Record, record),
        (services.query.Summarize, query_pb2.SummarizeRequest()),
        (services.admin.ListSources, source_pb2.ListSourcesRequest()),
    ]:
        error = refusal_of(lambda call=call, request=request: call(request, metadata=bearer(key), timeout=20))
        assert code_of(error) == "PERMISSION_DENIED"


def test_a_key_of_the_role_alone_belongs_to_no_source(hub: Daemon, services: Stubs) -> None:
    request = admin_pb2.CreateKeyRequest(name="stray", roles=["source"])
    stray = services.admin.CreateKey(request, metadata=services.metadata, timeout=20).secret
    with channel_to(hub.grpc) as channel:
        stub = hub_pb2_grpc.HubServiceStub(channel)
        hello = hub_pb2.ForwardRequest(hello=hub_pb2.ForwardHello())
        error = refusal_of(lambda: next(stub.Forward(iter([hello]), metadata=bearer(stray), timeout=20)))
    assert (code_of(error), "belongs to no source" in (error.details() or "")) == ("PERMISSION_DENIED", True)


def test_a_name_is_taken_once_even_after_its_source_was_forgotten(hub: Daemon, services: Stubs) -> None:
    create(services, "taken")
    before = hub.query("SELECT count(*) FROM org")
    error = refusal_of(lambda: create(services, "taken", "an organization that must not come of it"))
    assert (code_of(error), "taken" in (error.details() or "")) == ("ALREADY_EXISTS", True)
    forget(services, "taken")
    assert code_of(refusal_of(lambda: create(services, "taken"))) == "ALREADY_EXISTS"
    assert hub.query("SELECT count(*) FROM org") == before


def test_another_key_takes_the_place_of_the_one_before(hub: Daemon, services: Stubs) -> None:
    first = create(services, "renewed", "acme")
    made = costd("sources", "create", "renewed", "--renew", "--json", "--data-dir", str(hub.data_dir))
    second = json.loads(made.stdout)
    assert (second["id"], second["organizations"]) == (first.id, ["acme"])
    asked = source_pb2.ListSourcesRequest()
    codes = [
        code_of(refusal_of(lambda key=key: services.admin.ListSources(asked, metadata=bearer(key), timeout=20)))
        for key in (first.key, second["key"])
    ]
    assert codes == ["UNAUTHENTICATED", "PERMISSION_DENIED"]
    assert listed(services)["renewed"].problem == ""
    where = ("--data-dir", str(hub.data_dir))
    assert costd("sources", "create", "nobody", "--renew", *where).returncode == 1
    assert costd("sources", "create", "renewed", "--renew", "--org", "acme", *where).returncode == 2
    forget(services, "renewed")
    assert costd("sources", "create", "renewed", "--renew", *where).returncode == 5


@pytest.mark.parametrize(
    ("name", "organizations", "field"),
    [
        ("", [], "name"),
        ("x" * 257, [], "name"),
        ("a\nb", [], "name"),
        ("bad-1", [""], "organizations[0]"),
        ("bad-2", ["fine", "a\x00b"], "organizations[1]"),
        ("bad-3", ["twice", "twice"], "organizations"),
        ("bad-4", [f"org-{n}" for n in range(101)], "organizations"),
    ],
)
def test_bad_names_are_refused_and_leave_nothing(
    hub: Daemon, services: Stubs, name: str, organizations: list[str], field: str
) -> None:
    before = hub.query("SELECT (SELECT count(*) FROM org), (SELECT count(*) FROM source)")
    error = refusal_of(lambda: create(services, name, *organizations))
    assert code_of(error) == "INVALID_ARGUMENT"
    assert list(details_of(error)[0]) == [field]
    assert hub.query("SELECT (SELECT count(*) FROM org), (SELECT count(*) FROM source)") == before


def test_only_admins_of_the_installation_look_after_sources(hub: Daemon, services: Stubs) -> None:
    create(services, "guarded", "guarded-org")
    request = admin_pb2.CreateKeyRequest(name="theirs", roles=["admin"], organization="guarded-org")
    theirs = services.admin.CreateKey(request, metadata=services.metadata, timeout=20).secret
    for key in (theirs, hub.key("reader", role="read"), hub.key("sender", role="ingest")):
        assert code_of(refusal_of(lambda key=key: create(services, "more", key=key))) == "PERMISSION_DENIED"
        for method, asked in [
            (services.admin.ListSources, source_pb2.ListSourcesRequest()),
            (services.admin.ForgetSource, source_pb2.ForgetSourceRequest(id="guarded")),
        ]:
            error = refusal_of(lambda m=method, a=asked, key=key: m(a, metadata=bearer(key), timeout=20))
            assert code_of(error) == "PERMISSION_DENIED"
        assert hub.client.get("/api/sources", headers={"Authorization": f"Bearer {key}"}).status_code == 403


def test_keys_are_made_for_organizations_that_are_there_by_the_installation_alone(hub: Daemon, services: Stubs) -> None:
    create(services, "orgs", "north", "south")

    def make(organization: str, key: str = "") -> Any:
        request = admin_pb2.CreateKeyRequest(name="k", roles=["admin"], organization=organization)
        return services.admin.CreateKey(request, metadata=bearer(key) if key else services.metadata, timeout=20).secret

    north = make("north")
    keys = services.admin.ListKeys(admin_pb2.ListKeysRequest(), metadata=bearer(north), timeout=20).keys
    assert [key.name for key in keys] == ["k", "orgs"]
    assert make("north", north)  # its own
    error = refusal_of(lambda: make("south", north))
    assert code_of(error) == "PERMISSION_DENIED"
    missing = refusal_of(lambda: make("west"))
    assert (code_of(missing), "costd sources create" in (missing.details() or "")) == ("NOT_FOUND", True)
    # The installation's admins see all of them, and may revoke them; others their own.
    named = {key.id: key.organization for key in listed_keys(services)}
    theirs = [id_ for id_, organization in named.items() if organization == "north"]
    assert set(theirs) == {key.id for key in listed_keys(services, north)}
    assert set(named.values()) >= {"default", "north"}
    admins = next(id_ for id_, organization in named.items() if organization == "default")
    revoke = services.admin.RevokeKey
    error = refusal_of(lambda: revoke(admin_pb2.RevokeKeyRequest(id=admins), metadata=bearer(north), timeout=20))
    assert code_of(error) == "NOT_FOUND"
    gone = make("north")
    last = max(key.id for key in listed_keys(services, north))
    revoke(admin_pb2.RevokeKeyRequest(id=last), metadata=services.metadata, timeout=20)
    assert code_of(refusal_of(lambda: make("", gone))) == "UNAUTHENTICATED"
    # What is recorded with it is its organization's.
    record = usage_pb2.RecordRequest(
        dimensions=usage_pb2.Dimensions(source_app="shop", model="gpt-4o"),
        units=[usage_pb2.Quantity(unit="input_tokens", count=10)],
    )
    services.usage.Record(record, metadata=bearer(north), timeout=20)
    assert hub.query("SELECT name FROM series JOIN org ON org.id = org_id") == [("north",)]


def test_a_forgotten_source_is_out_at_once_and_what_it_brought_stays(hub: Daemon, services: Stubs) -> None:
    made = create(services, "gone")
    gone = forget(services, made.id)
    assert (gone.name, gone.state) == ("gone", "forgotten")
    assert forget(services, "gone").state == "forgotten"  # again is the same answer
    error = refusal_of(
        lambda: services.admin.ListSources(source_pb2.ListSourcesRequest(), metadata=bearer(made.key), timeout=20)
    )
    assert code_of(error) == "UNAUTHENTICATED"
    assert hub.query("SELECT count(*) FROM audit WHERE action = 'source.forgotten' AND metadata LIKE '%gone%'") == [
        (1,)
    ]
    assert listed(services)["gone"].state == "forgotten"
    assert code_of(refusal_of(lambda: forget(services, "nobody"))) == "NOT_FOUND"
    assert code_of(refusal_of(lambda: forget(services, ""))) == "INVALID_ARGUMENT"


def test_what_is_wrong_with_a_source_is_said(launch: Launch) -> None:
    """What sources leave in the ledger is put there by hand: whatever brings it is not looked at here."""
    hub = launch(command="hub", name="hub")
    with stubs(hub) as services:
        for name in ("slow", "anew", "keyless", "well"):
            create(services, name)
        costd("keys", "revoke", "keyless", "--data-dir", str(hub.data_dir))
        (now_ms,) = hub.query("SELECT max(created_ms) FROM source")[0]
        with closing(sqlite3.connect(hub.database, isolation_level=None)) as connection:
            connection.execute("UPDATE source SET seen_ms = ?, host = 'h', version = '0.2.0'", (now_ms,))
            connection.execute("UPDATE source SET clock_skew_ms = -7500 WHERE name = 'slow'")
            epochs = [
                ("anew", 1, now_ms - HOUR_MS),
                ("anew", 2, now_ms),
                ("well", 3, now_ms - 25 * HOUR_MS),
                ("well", 4, now_ms),
            ]
            for name, epoch, seen_ms in epochs:
                connection.execute(
                    "INSERT INTO source_epoch SELECT id, ?, ?, x'', x'', 0, ?, x'' FROM source WHERE name = ?",
                    (bytes([epoch]) * 16, epoch * 10, seen_ms, name),
                )
            connection.execute(
                "INSERT INTO lost_range (source_id, epoch, first_seq, last_seq, at_ms) "
                "SELECT id, x'', 5, 14, 0 FROM source WHERE name = 'well'"
            )
        found = listed(services)
    assert found["slow"].problem == "its clock is 7.5 s ahead of the hub's"
    assert "restored from a backup, or cloned" in found["anew"].problem
    assert "key was revoked" in found["keyless"].problem
    assert (found["well"].problem, found["well"].epochs, found["well"].watermark, found["well"].lost) == ("", 2, 40, 10)
    assert {source.state for source in found.values()} == {"away"}


def test_sources_outlive_a_restart_of_the_hub(launch: Launch) -> None:
    hub = launch(command="hub", name="hub")
    with stubs(hub) as services:
        create(services, "kept", "acme")
        forget(services, create(services, "dropped").name)
        before = listed(services)
    state = hub.query("SELECT * FROM hub_state")
    hub.kill()
    again = launch(command="hub", name="hub")
    with stubs(again) as services:
        assert listed(services) == before
    assert again.query("SELECT * FROM hub_state") == state


# --- the command line and HTTP -----------------------------------------------------------------------------------


def test_create_prints_the_environment_of_a_sidecar(hub: Daemon) -> None:
    made = costd("sources", "create", "printed", "--org", "acme", "--data-dir", str(hub.data_dir))
    assert made.returncode == 0, made.stderr
    assert re.fullmatch(rf"COSTD_HUB={re.escape(hub.grpc)}\nCOSTD_HUB_KEY=ct_live_\S+\n", made.stdout)
    assert "shown this once" in made.stderr
    assert "ct_live" not in made.stderr
    remote = costd("sources", "create", "remote", "--json", "--address", hub.grpc, env={"COSTD_KEY": hub.admin_key})
    assert json.loads(remote.stdout).keys() == {"id", "name", "key", "organizations"}
    taken = costd("sources", "create", "printed", "--data-dir", str(hub.data_dir))
    assert (taken.returncode, taken.stdout) == (5, "")
    assert "already" in taken.stderr


def test_list_and_forget_print_tables_json_and_csv(hub: Daemon, services: Stubs) -> None:
    create(services, "told", "acme")
    where = ("--data-dir", str(hub.data_dir))
    table = costd("sources", "list", *where)
    assert "told" in table.stdout
    assert "watermark" in table.stdout
    sources = json.loads(costd("sources", "list", "--json", *where).stdout)["sources"]
    told = next(source for source in sources if source["name"] == "told")
    assert (told["state"], told["last_seen"], told["lag_records"], told["organizations"]) == (
        "never",
        None,
        None,
        ["acme"],
    )
    rows = list(csv.DictReader(io.StringIO(costd("sources", "list", "--csv", *where).stdout)))
    assert (
        [row["name"] for row in rows] == [source["name"] for source in sources] == sorted(row["name"] for row in rows)
    )
    assert set(rows[0]) == set(told)
    gone = costd("sources", "forget", "told", *where)
    assert (gone.returncode, gone.stdout) == (0, 'forgot "told"; its 0 records stay\n')
    assert costd("sources", "forget", "nobody", *where).returncode == 1


def test_http_lists_what_the_command_lists(hub: Daemon, services: Stubs) -> None:
    create(services, "seen-over-http", "acme", "beta")
    answer = hub.client.get("/api/sources").json()
    shown = {source["name"]: source for source in answer["data"]["sources"]}
    found = listed(services)
    assert list(shown) == list(found)
    one, same = shown["seen-over-http"], found["seen-over-http"]
    assert (one["id"], one["organizations"], one["state"]) == (same.id, ["acme", "beta"], "never")
    assert (one["lastSeen"], one["host"], one["problem"], one["lagSeconds"]) == (None, None, None, None)


def test_sources_can_be_made_before_the_hub_starts(tmp_path: Path, launch: Launch) -> None:
    made = costd("sources", "create", "early", "--data-dir", str(tmp_path / "hub"))
    assert made.returncode == 0, made.stderr
    assert made.stdout.startswith("COSTD_HUB=127.0.0.1:7432\n")
    with stubs(launch(command="hub", name="hub")) as services:
        assert listed(services)["early"].state == "never"


# --- what is a hub, and what is not ------------------------------------------------------------------------------


def test_a_sidecar_has_no_sources_and_says_where_they_belong(daemon: Daemon) -> None:
    said = "this daemon is a sidecar; sources belong to a hub (`costd hub`)"
    for words in (("create", "x"), ("list",), ("forget", "x")):
        refused = costd("sources", *words, "--data-dir", str(daemon.data_dir))
        assert (refused.returncode, refused.stdout) == (1, "")
        assert said in refused.stderr
    answer = daemon.client.get("/api/sources")
    assert (answer.status_code, said in answer.json()["error"] or said in answer.json()["message"]) == (404, True)
    assert daemon.query("SELECT count(*) FROM hub_state") == [(0,)]


def test_a_ledger_is_served_as_what_it_is(launch: Launch, tmp_path: Path) -> None:
    sidecar, hub = launch(name="sidecar"), launch(name="hub", command="hub")
    assert (sidecar.stop(), hub.stop()) == (0, 0)
    # By commands that open it themselves,
    refused = costd("sources", "list", "--data-dir", str(sidecar.data_dir))
    assert (refused.returncode, "is a sidecar" in refused.stderr) == (1, True)
    assert costd("sources", "list", "--data-dir", str(hub.data_dir)).returncode == 0
    assert costd("keys", "create", "k", "--data-dir", str(hub.data_dir)).returncode == 0
    # and by daemons.
    wrong = costd("run", "--data-dir", str(hub.data_dir))
    assert (wrong.returncode, "`costd hub` serves it" in wrong.stderr) == (2, True)
    assert launch(name="sidecar", command="hub").stop() == 0  # one that belonged to no hub may become one
