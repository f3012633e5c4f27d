"""Keys over HTTP, the profile of the key that asks, and the audit trail of every change, whatever door it came by."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any
from uuid import uuid4

import httpx
import pytest

from callers import Stubs, stubs
from costd.v1 import admin_pb2, audit_pb2, budget_pb2, proxy_pb2, source_pb2
from harness import Daemon, costd

RECORD = {"user_external_id": "u", "source_app": "a", "model": "gpt-4o", "units": {"input_tokens": 1}}
BUDGET = {"name": "b", "scope": {"team": "t"}, "amount_usd": 5, "hard_limit": True}


def lines(daemon: Daemon, key: str = "", limit: int = 100) -> list[dict[str, Any]]:
    """The whole trail, page by page, newest first."""
    found: list[dict[str, Any]] = []
    query: dict[str, str] = {"limit": str(limit)}
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    while True:
        page = daemon.client.get("/api/audit-logs", params=query, headers=headers).json()
        found += page["items"]
        if not page["hasMore"]:
            assert page["nextCursor"] is None
            return found
        query["cursor"] = page["nextCursor"]


def told(daemon: Daemon, since: int = 0) -> list[tuple[str, str, dict[str, Any]]]:
    """(action, resource, metadata) of the trail after a line, oldest first."""
    return [
        (line["action"], line["resource_id"], json.loads(line["metadata"]))
        for line in reversed(lines(daemon))
        if int(line["id"]) > since
    ]


def newest(daemon: Daemon) -> int:
    """The number of the newest line."""
    return int(daemon.client.get("/api/audit-logs", params={"limit": 1}).json()["items"][0]["id"])


def done(daemon: Daemon, *words: str) -> Any:
    """What a command prints, which asks the daemon by its socket."""
    ended = costd(*words, "--json", "--data-dir", str(daemon.data_dir))
    assert ended.returncode == 0, ended
    return json.loads(ended.stdout)


def asked(services: Stubs, method: str, request: Any) -> Any:
    """The answer of AdminService."""
    return getattr(services.admin, method)(request, metadata=services.metadata, timeout=30)


def make(daemon: Daemon, name: str, key: str = "") -> dict[str, Any]:
    """A new key, by /api/api-keys."""
    answer = daemon.client.post("/api/api-keys", json={"name": name}, headers=bearer(key))
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


def bearer(key: str) -> dict[str, str]:
    """A header with another key than the client's own."""
    return {"Authorization": f"Bearer {key}"} if key else {}


def items(daemon: Daemon, key: str = "", limit: int = 100) -> list[dict[str, Any]]:
    """All keys in force, page by page."""
    found: list[dict[str, Any]] = []
    query: dict[str, str] = {"limit": str(limit)}
    while True:
        page = daemon.client.get("/api/api-keys", params=query, headers=bearer(key)).json()
        found += page["items"]
        assert page["hasMore"] == (page["nextCursor"] is not None)
        if not page["hasMore"]:
            return found
        query["cursor"] = page["nextCursor"]


def records(daemon: Daemon, key: str) -> int:
    """The status of a record sent with a key."""
    return daemon.client.post("/v1/usage/record", json=RECORD, headers=bearer(key)).status_code


def test_a_key_is_in_force_from_its_answer_to_its_deletion(daemon: Daemon) -> None:
    made = make(daemon, "checkout")
    assert set(made) == {"id", "name", "key", "key_prefix", "created_at"}
    assert made["key"].startswith(made["key_prefix"])
    (listed,) = [item for item in items(daemon) if item["id"] == made["id"]]
    assert listed == {
        "id": made["id"],
        "name": "checkout",
        "key_prefix": made["key_prefix"],
        "last_used_at": None,
        "created_at": made["created_at"],
        "roles": ["ingest", "read"],
        "organization": "default",
    }
    assert records(daemon, made["key"]) == 200
    (listed,) = [item for item in items(daemon) if item["id"] == made["id"]]
    assert listed["last_used_at"] >= made["created_at"]
    assert made["key"] not in json.dumps(items(daemon))
    gone = daemon.client.delete(f"/api/api-keys/{made['id']}")
    assert (gone.status_code, gone.json()) == (200, {"success": True, "id": made["id"]})
    assert records(daemon, made["key"]) == 401
    assert made["id"] not in [item["id"] for item in items(daemon)]
    assert daemon.client.delete(f"/api/api-keys/{made['id']}").status_code == 404


def test_keys_are_the_same_at_every_door(daemon: Daemon) -> None:
    here = make(daemon, "made-over-http")
    daemon.key("made-by-the-command")
    generated = daemon.client.post("/api/ingest/generate-key", json={"keyName": "generated"}).json()
    names = [item["name"] for item in items(daemon)]
    assert names[:3] == ["generated", "made-by-the-command", "made-over-http"]
    assert names[-1] == "admin"
    with stubs(daemon) as services:
        listed = {key.id: key for key in asked(services, "ListKeys", admin_pb2.ListKeysRequest()).keys}
        assert listed[here["id"]].name == "made-over-http"
        asked(services, "RevokeKey", admin_pb2.RevokeKeyRequest(id=here["id"]))
    assert records(daemon, here["key"]) == 401
    (other,) = [item for item in items(daemon) if item["name"] == "generated"]
    assert daemon.client.delete(f"/api/api-keys/{other['id']}").status_code == 200
    assert records(daemon, generated["apiKey"]) == 401
    assert {"made-over-http", "generated"}.isdisjoint(item["name"] for item in items(daemon))


def test_a_key_is_deleted_by_its_id_alone(daemon: Daemon) -> None:
    made = make(daemon, "by-id-alone")
    for other in (made["name"], made["key_prefix"], "0197a000-0000-7000-8000-000000000000", "%00", "\u00e9"):
        answer = daemon.client.delete(f"/api/api-keys/{other}")
        assert (answer.status_code, answer.json()["code"]) == (404, "NOT_FOUND"), other
    assert records(daemon, made["key"]) == 200


def test_pages_lose_and_repeat_nothing_while_keys_are_made(daemon: Daemon) -> None:
    before = [make(daemon, f"page-{number}")["id"] for number in range(7)]
    stop = Event()

    def go_on() -> int:
        number = 0
        while not stop.is_set() and number < 200:
            make(daemon, f"meanwhile-{number}")
            number += 1
        return number

    with ThreadPoolExecutor(2) as pool:
        makers = [pool.submit(go_on) for _ in range(2)]
        try:
            walks = [[item["id"] for item in items(daemon, limit=3)] for _ in range(4)]
        finally:
            stop.set()
        assert sum(maker.result() for maker in makers) > 0
    for walk in walks:
        assert walk == sorted(set(walk), reverse=True)
        assert [id_ for id_ in walk if id_ in before] == before[::-1]
    assert len(items(daemon, limit=100)) == len(items(daemon, limit=7))


@pytest.mark.parametrize(
    ("method", "path", "sent", "field"),
    [
        ("POST", "/api/api-keys", {}, "name"),
        ("POST", "/api/api-keys", {"name": ""}, "name"),
        ("POST", "/api/api-keys", {"name": 7}, "name"),
        ("POST", "/api/api-keys", {"name": "n" * 257}, "name"),
        ("POST", "/api/api-keys", {"name": "line\nbreak"}, "name"),
        ("PUT", "/api/profile", {}, "name"),
        ("PUT", "/api/profile", {"name": ""}, "name"),
        ("PUT", "/api/profile", {"name": None}, "name"),
        ("PUT", "/api/profile", {"name": "n" * 257}, "name"),
        ("PUT", "/api/profile", {"name": "bell\u0007"}, "name"),
        ("GET", "/api/api-keys?limit=0", None, "limit"),
        ("GET", "/api/api-keys?limit=101", None, "limit"),
        ("GET", "/api/api-keys?limit=many", None, "limit"),
        ("GET", "/api/api-keys?cursor=7", None, "cursor"),
        ("GET", "/api/audit-logs?limit=0", None, "limit"),
        ("GET", "/api/audit-logs?limit=101", None, "limit"),
        ("GET", "/api/audit-logs?cursor=x", None, "cursor"),
        ("GET", "/api/audit-logs?cursor=-1", None, "cursor"),
        ("GET", f"/api/audit-logs?cursor={'9' * 30}", None, "cursor"),
    ],
)
def test_what_is_wrong_is_named(daemon: Daemon, method: str, path: str, sent: Any, field: str) -> None:
    before = daemon.query("SELECT count(*) FROM api_key"), daemon.query("SELECT count(*) FROM audit")
    answer = daemon.client.request(method, path, json=sent) if sent is not None else daemon.client.request(method, path)
    assert (answer.status_code, answer.json()["details"]["field"]) == (400, field), answer.text
    assert (daemon.query("SELECT count(*) FROM api_key"), daemon.query("SELECT count(*) FROM audit")) == before


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/api-keys"),
        ("POST", "/api/api-keys"),
        ("DELETE", "/api/api-keys/x"),
        ("PUT", "/api/profile"),
        ("GET", "/api/audit-logs"),
    ],
)
def test_who_may_not_is_told_why(daemon: Daemon, method: str, path: str) -> None:
    key = make(daemon, "plain")["key"]
    answer = daemon.client.request(method, path, json={"name": "mine"}, headers=bearer(key))
    assert (answer.status_code, answer.json()["code"]) == (403, "AUTHORIZATION_ERROR")
    assert answer.json()["error"] == 'this needs a key with the role "admin"; the key "plain" has ingest, read'


def test_a_key_has_a_profile_whatever_its_roles(daemon: Daemon) -> None:
    made = make(daemon, "who-am-i")
    expected = {
        "id": made["id"],
        "email": None,
        "name": "who-am-i",
        "created_at": made["created_at"],
        "updated_at": made["created_at"],
    }
    assert daemon.client.get("/api/profile", headers=bearer(made["key"])).json() == expected
    for role in ("ingest", "source"):
        key = daemon.key(f"only-{role}", role=role)
        assert daemon.client.get("/api/profile", headers=bearer(key)).json()["name"] == f"only-{role}"


def test_a_profile_is_renamed_everywhere(daemon: Daemon) -> None:
    key = daemon.key("before", role="admin")
    was = daemon.client.get("/api/profile", headers=bearer(key)).json()
    renamed = daemon.client.put("/api/profile", json={"name": "after", "email": "x@y.z"}, headers=bearer(key))
    assert renamed.status_code == 200
    now = renamed.json()
    assert now == was | {"name": "after", "updated_at": now["updated_at"]}
    assert now["updated_at"] > was["created_at"]
    # The same name again changes nothing, and says nothing.
    assert daemon.client.put("/api/profile", json={"name": "after"}, headers=bearer(key)).json() == now
    assert records(daemon, key) == 200
    row = daemon.client.get("/api/aggregations/by-key").json()
    assert "after" in json.dumps(row)
    (line,) = [
        line for line in daemon.client.get("/api/audit-logs").json()["items"] if line["action"] == "api_key.renamed"
    ]
    assert (line["user_id"], line["resource_id"]) == (now["id"], now["id"])
    assert json.loads(line["metadata"]) == {"from": "before", "to": "after"}
    with stubs(daemon) as services:
        assert asked(services, "RevokeKey", admin_pb2.RevokeKeyRequest(id="after")).id == now["id"]
    assert daemon.client.get("/api/profile", headers=bearer(key)).status_code == 401


def test_without_a_key_there_is_no_profile(launch: Callable[..., Daemon]) -> None:
    daemon = launch("--auth", "off")
    with httpx.Client(base_url=daemon.http_url, trust_env=False, timeout=30) as nobody:
        for answer in (nobody.get("/api/profile"), nobody.put("/api/profile", json={"name": "me"})):
            assert (answer.status_code, answer.json()["code"]) == (404, "NOT_FOUND")
        made = nobody.post("/api/api-keys", json={"name": "first"}).json()
        (line,) = nobody.get("/api/audit-logs", params={"limit": 1}).json()["items"]
        assert (line["resource_id"], line["user_id"]) == (made["id"], None)


@pytest.fixture(scope="module")
def acme(hub: Daemon) -> str:
    """The secret of an admin key of another organization of the hub's, which has a source "s"."""
    with stubs(hub) as services:
        asked(services, "CreateSource", source_pb2.CreateSourceRequest(name="s", organizations=["acme"]))
        wanted = admin_pb2.CreateKeyRequest(name="acme-admin", roles=["admin"], organization="acme")
        return str(asked(services, "CreateKey", wanted).secret)


def test_keys_of_another_organization_are_not_there(hub: Daemon, acme: str) -> None:
    ours = make(hub, "of-the-hub")
    made = make(hub, "of-acme", acme)
    listed = items(hub, acme)
    assert {item["organization"] for item in listed} == {"acme"}
    assert [item["name"] for item in listed] == ["of-acme", "acme-admin", "s"]
    assert hub.client.delete(f"/api/api-keys/{ours['id']}", headers=bearer(acme)).status_code == 404
    assert records(hub, ours["key"]) == 200
    # An admin of the installation's own organization looks after all of them, as `costd keys` says.
    assert {"of-acme", "of-the-hub"} <= {item["name"] for item in items(hub)}
    assert hub.client.delete(f"/api/api-keys/{made['id']}").status_code == 200


def change_by_http(daemon: Daemon) -> list[str]:
    client = daemon.client
    key = client.post("/api/api-keys", json={"name": "k"}).json()["id"]
    client.delete(f"/api/api-keys/{key}")
    endpoint = client.post("/api/proxy-endpoints", json={"name": uuid4().hex}).json()["id"]
    client.delete(f"/api/proxy-endpoints/{endpoint}")
    budget = client.post("/api/budgets", json=BUDGET).json()["data"]["id"]
    client.patch(f"/api/budgets/{budget}", json={"amount_usd": 6})
    client.delete(f"/api/budgets/{budget}")
    price = client.post("/api/prices", json={"model": "own", "usd_each": {"images": 1}}).json()["data"]["price"]["id"]
    client.delete(f"/api/prices/{price}")
    return [key, key, endpoint, endpoint, budget, budget, budget, price, price]


def change_by_grpc(daemon: Daemon) -> list[str]:
    with stubs(daemon) as services:
        key = asked(services, "CreateKey", admin_pb2.CreateKeyRequest(name="k")).key.id
        asked(services, "RevokeKey", admin_pb2.RevokeKeyRequest(id=key))
        endpoint = asked(services, "CreateProxyEndpoint", proxy_pb2.CreateProxyEndpointRequest(name="grpc")).id
        asked(services, "RemoveProxyEndpoint", proxy_pb2.RemoveProxyEndpointRequest(endpoint=endpoint))
        wanted = {"name": "b", "scope": {"team": "t"}}
        budget = asked(services, "SetBudget", budget_pb2.SetBudgetRequest(**wanted, amount_nano_usd=5 * 10**9)).id
        asked(services, "SetBudget", budget_pb2.SetBudgetRequest(name="b", amount_nano_usd=6 * 10**9))
        asked(services, "RemoveBudget", budget_pb2.RemoveBudgetRequest(budget=budget))
    return [key, key, endpoint, endpoint, budget, budget, budget]


def change_by_command(daemon: Daemon) -> list[str]:
    key = done(daemon, "keys", "create", "k")["id"]
    done(daemon, "keys", "revoke", key)
    endpoint = done(daemon, "proxy", "endpoints", "create", "cli")["id"]
    return [key, key, endpoint]


CHANGES = [
    "api_key.created",
    "api_key.revoked",
    "proxy_endpoint.created",
    "proxy_endpoint.removed",
    "budget.created",
    "budget.changed",
    "budget.removed",
    "price.set",
    "price.removed",
]


# -- the audit trail ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("change", [change_by_http, change_by_grpc, change_by_command], ids=lambda how: how.__name__)
def test_a_change_is_told_whatever_door_it_came_by(daemon: Daemon, change: Callable[[Daemon], list[str]]) -> None:
    since = newest(daemon)
    ids = change(daemon)
    found = told(daemon, since)
    assert [(action, resource) for action, resource, _ in found] == list(zip(CHANGES, ids, strict=False))
    amounts = [metadata["amount_usd"] for action, _, metadata in found if action.startswith("budget.")]
    assert amounts == ["5", "6", "6"][: len(amounts)]


def test_a_line_has_all_its_fields(daemon: Daemon) -> None:
    made = daemon.client.post("/api/api-keys", json={"name": "fields"}).json()
    me = daemon.client.get("/api/profile").json()["id"]
    line = lines(daemon)[0]
    assert line == {
        "id": line["id"],
        "user_id": me,
        "org_id": "default",
        "action": "api_key.created",
        "resource_type": "api_key",
        "resource_id": made["id"],
        "metadata": '{"name": "fields", "roles": ["ingest", "read"]}',
        "created_at": line["created_at"],
    }
    assert line["created_at"] >= made["created_at"]
    # Where nobody had a key, nobody is named: the daemon made the first admin key itself.
    first = lines(daemon)[-1]
    assert (first["user_id"], first["action"], first["resource_id"]) == (None, "api_key.created", me)


def test_what_is_refused_leaves_no_line(daemon: Daemon) -> None:
    daemon.client.post("/api/proxy-endpoints", json={"name": "taken"})
    daemon.client.post("/api/budgets", json=BUDGET | {"name": "taken"})
    since = newest(daemon)
    assert daemon.client.post("/api/proxy-endpoints", json={"name": "taken"}).status_code == 409
    assert daemon.client.post("/api/budgets", json=BUDGET | {"name": "taken"}).status_code == 409
    assert daemon.client.delete("/api/api-keys/nobody").status_code == 404
    assert daemon.client.delete("/api/proxy-endpoints/nobody").status_code == 404
    assert daemon.client.post("/api/api-keys", json={"name": ""}).status_code == 400
    assert told(daemon, since) == []


def test_pages_lose_and_repeat_nothing_while_changes_go_on(daemon: Daemon) -> None:
    for number in range(8):
        daemon.client.post("/api/api-keys", json={"name": f"page-{number}"})
    held = [line["id"] for line in lines(daemon)]
    stop = Event()

    def go_on() -> None:
        for number in range(200):
            if stop.is_set():
                return
            daemon.client.post("/api/api-keys", json={"name": f"meanwhile-{number}"})

    with ThreadPoolExecutor(1) as pool:
        going = pool.submit(go_on)
        try:
            walks = [[line["id"] for line in lines(daemon, limit=3)] for _ in range(4)]
        finally:
            stop.set()
        going.result()
    for walk in walks:
        assert walk == sorted(set(walk), key=int, reverse=True)
        assert [id_ for id_ in walk if int(id_) <= int(held[0])] == held


def test_every_door_shows_the_same_trail(daemon: Daemon) -> None:
    daemon.client.post("/api/api-keys", json={"name": "shown"})
    shown = lines(daemon)
    with stubs(daemon) as services:
        answer = asked(services, "ListAudit", audit_pb2.ListAuditRequest(limit=5))
        rest = asked(services, "ListAudit", audit_pb2.ListAuditRequest(limit=5, cursor=answer.next_cursor))
    over_grpc = [(line.id, line.actor or None, line.action, line.metadata) for line in [*answer.lines, *rest.lines]]
    over_http = [(line["id"], line["user_id"], line["action"], line["metadata"]) for line in shown]
    assert over_grpc == over_http[: len(over_grpc)]
    printed = done(daemon, "audit", "list", "--limit", "5")
    assert [line["id"] for line in printed["lines"]] == [line["id"] for line in shown[:5]]
    assert printed["lines"][0]["metadata"]["name"] == "shown"
    written = costd("audit", "list", "--csv", "--cursor", printed["next_cursor"], "--data-dir", str(daemon.data_dir))
    names, row, *_ = written.stdout.splitlines()
    assert names == "id,at,actor,action,resource_type,resource_id,metadata"
    assert row.startswith(shown[5]["id"] + ",")


def test_no_secret_is_in_the_trail(daemon: Daemon) -> None:
    made = daemon.client.post("/api/api-keys", json={"name": "secret"}).json()
    change_by_http(daemon)
    trail = json.dumps(lines(daemon))
    assert made["id"] in trail
    for secret in (made["key"], made["key"].removeprefix(made["key_prefix"]), daemon.admin_key, "ct_live_"):
        assert secret not in trail


def test_a_trail_is_its_organizations_alone(hub: Daemon, acme: str) -> None:
    hub.client.post("/api/api-keys", json={"name": "ours"})
    hub.client.post("/api/budgets", json=BUDGET | {"name": "theirs"}, headers=bearer(acme))
    with stubs(hub) as services:
        asked(services, "ForgetSource", source_pb2.ForgetSourceRequest(id="s"))
    own, other = lines(hub), lines(hub, acme)
    assert {line["org_id"] for line in own} == {"default"}
    assert {line["org_id"] for line in other} == {"acme"}
    assert {line["id"] for line in own}.isdisjoint(line["id"] for line in other)
    actions = [line["action"] for line in other]
    assert actions[:2] + actions[-1:] == ["api_key.revoked", "budget.created", "api_key.created"]  # the source's key
    assert {"org.created", "source.created", "source.forgotten"} <= {line["action"] for line in own}
    # A page of one's own that begins at a line of another's goes on with one's own.
    after = hub.client.get("/api/audit-logs", params={"cursor": other[0]["id"]}).json()["items"]
    assert {line["org_id"] for line in after} == {"default"}


def test_keys_names_and_the_trail_outlive_a_crash_and_a_restart(launch: Callable[..., Daemon]) -> None:
    daemon = launch()
    kept, gone = make(daemon, "kept"), make(daemon, "gone")
    assert daemon.client.delete(f"/api/api-keys/{gone['id']}").status_code == 200
    profile = daemon.client.put("/api/profile", json={"name": "root"}).json()
    before = lines(daemon)
    daemon.kill()
    daemon = launch()
    assert lines(daemon) == before
    assert [records(daemon, made["key"]) for made in (kept, gone)] == [200, 401]
    assert [item["name"] for item in items(daemon)] == ["kept", "root"]
    assert daemon.client.get("/api/profile").json() == profile
    assert daemon.stop() == 0
    # Where no daemon runs, commands open the ledger, and a change of theirs is in the trail as well.
    done(daemon, "keys", "create", "offline")
    newest_line, *others = done(daemon, "audit", "list")["lines"]
    assert (newest_line["action"], newest_line["actor"]) == ("api_key.created", None)
    assert [line["id"] for line in others] == [line["id"] for line in before]
