"""Promise 12: no one gets in who should not.

For every endpoint and method, and every kind of key: who is let in and who is not, written down here apart from the
code. A revoked key is dead with the answer to its revocation, on connections that are already open too. A bound key
files under its own names only. Nothing listens beyond loopback without TLS, and no page in a browser reaches us.
"""

from __future__ import annotations

import http.client
import json
import stat
import threading
from collections.abc import Callable, Iterator
from itertools import product
from queue import SimpleQueue
from typing import Any

import grpc
import httpx
import pytest

import harness
from callers import BatchDoor, Call, GrpcDoor, HttpDoor, record_json, record_message, send, summed
from costd.v1 import admin_pb2, admin_pb2_grpc, usage_pb2, usage_pb2_grpc
from costd.wire.rpc.calls import STALE_KEY_S
from costd.wire.rpc.server import ADMIN, HUB, QUERY, SERVICE_NAMES, USAGE
from costd.wire.web.table import routes
from harness import Daemon

ALIAS = "/cost-tracker"
#: Everybody may call these.
OPEN = ["GET /v1/health", "GET /api/health", "GET /api/ingest", "GET /openapi.json", "GET /metrics"]
#: These need the role.
NEEDS = {
    "ingest": [
        "POST /v1/preflight",
        "POST /v1/release",
        "POST /v1/usage/record",
        "POST /v1/usage/records",
        "POST /v1/users/upsert",
        "POST /v1/projects/upsert",
        "POST /api/ingest",
        "POST /api/tokens/track",
        "POST /api/costs/manual",
    ],
    "read": [
        "GET /api/tokens",
        "GET /api/tokens/stats",
        "GET /api/tokens/timeseries",
        "GET /api/tokens/burn-rate",
        "GET /api/costs/all",
        "GET /api/costs/{provider}",
        "GET /api/status",
        "GET /api/tracking-health",
        "GET /api/usage",
        "GET /api/usage/summary",
        "GET /api/usage/{id}",
        "GET /api/aggregations/monthly",
        "GET /api/aggregations/by-prompt",
        "GET /api/aggregations/by-team",
        "GET /api/aggregations/by-tag",
        "GET /api/aggregations/by-key",
        "GET /api/aggregations/version-comparison",
        "GET /api/prompts",
        "GET /api/proxy-endpoints",
        "GET /api/prices",
        "GET /api/prices/match",
        "GET /api/prices/{id}",
        "GET /api/budgets",
        "GET /api/budgets/{id}",
        "GET /api/budgets/{id}/history",
        "GET /api/alerts",
    ],
    "admin": [
        "POST /api/ingest/generate-key",
        "POST /api/prices",
        "PUT /api/prices/{id}",
        "DELETE /api/prices/{id}",
        "POST /api/budgets",
        "PUT /api/budgets/{id}",
        "PATCH /api/budgets/{id}",
        "DELETE /api/budgets/{id}",
        "POST /api/proxy-endpoints",
        "DELETE /api/proxy-endpoints/{id}",
        "GET /api/sources",
        "GET /api/api-keys",
        "POST /api/api-keys",
        "DELETE /api/api-keys/{id}",
        "PUT /api/profile",
        "GET /api/audit-logs",
    ],
    # Whatever its roles are.
    "any": ["GET /api/profile"],
}
METHODS = {"ingest": USAGE, "read": QUERY, "admin": ADMIN, "source": HUB}
#: What may be asked of AdminService without changing anything.
ASKED_OF_ADMIN = {"ListPrices", "MatchPrice", "GetPriceTables", "ListUnpriced", "WhatIf", "ListProxyEndpoints"}
#: What a key's roles let it do; without `--role` a key ingests and reads.
HOLDS = {
    "default": {"ingest", "read"},
    "ingest": {"ingest"},
    "read": {"read"},
    "admin": {"ingest", "read", "admin"},
    "source": {"source"},
    "revoked": None,
    "garbage": None,
    "none": None,
}


@pytest.fixture(scope="module")
def keys(daemon: Daemon) -> dict[str, str]:
    """A key of every kind for a sidecar; "" stands for no key."""
    return every_key(daemon)


@pytest.fixture(scope="module")
def hub_keys(hub: Daemon) -> dict[str, str]:
    """The same for a hub, where a source has the key of its role."""
    made = harness.costd("sources", "create", "web-1", "--json", "--data-dir", str(hub.data_dir))
    return every_key(hub) | {"source": json.loads(made.stdout)["key"]}


def every_key(daemon: Daemon) -> dict[str, str]:
    made = {role: daemon.key(f"key-{role}", role=role) for role in ("ingest", "read", "admin", "source")}
    made |= {"default": daemon.key("key-default"), "revoked": daemon.key("key-revoked")}
    revoked = harness.costd("keys", "revoke", "key-revoked", "--data-dir", str(daemon.data_dir))
    assert revoked.returncode == 0, revoked
    return made | {"garbage": "ct_live_" + "A" * 43, "none": ""}


@pytest.fixture(scope="module")
def browserless(daemon: Daemon) -> Iterator[httpx.Client]:
    """A client that sends no key of its own."""
    with httpx.Client(base_url=daemon.http_url, trust_env=False, timeout=30) as client:
        yield client


def with_alias(endpoints: list[str]) -> list[str]:
    """The endpoints and their second names."""
    return endpoints + [one.replace(" /v1/", f" {ALIAS}/v1/") for one in endpoints if " /v1/" in one]


def ask(client: httpx.Client, endpoint: str, headers: dict[str, str]) -> httpx.Response:
    """Call an endpoint with an empty body: those who get in are told what is missing, or get their answer."""
    method, path = endpoint.split()
    path = path.replace("{provider}", "openai")
    return client.request(method, path, headers=headers, content=b"{}" if method == "POST" else None)


def test_promise_12_the_table_of_this_test_is_complete() -> None:
    written_down = {*with_alias(OPEN), *(one for needs in NEEDS.values() for one in with_alias(needs))}
    assert written_down == {f"{route.method} {route.path}" for route in routes(metrics_open=True)}
    ours = {service.full_name for service in METHODS.values()}
    assert set(SERVICE_NAMES) - ours == {"grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"}


@pytest.mark.parametrize("kind", HOLDS)
def test_promise_12_http_lets_in_exactly_whom_it_should(
    daemon: Daemon, browserless: httpx.Client, keys: dict[str, str], kind: str
) -> None:
    holds = HOLDS[kind]
    before = summed(daemon)
    for form in ("Authorization", "X-API-Key"):
        key = keys[kind]
        headers = {form: f"Bearer {key}" if form == "Authorization" else key} if key else {}
        for role, endpoints in NEEDS.items():
            for endpoint in with_alias(endpoints):
                answer = ask(browserless, endpoint, headers)
                if holds is None:
                    assert (answer.status_code, answer.json()["code"]) == (401, "AUTHENTICATION_ERROR"), endpoint
                elif role not in holds | {"any"}:
                    assert (answer.status_code, answer.json()["code"]) == (403, "AUTHORIZATION_ERROR"), endpoint
                else:
                    assert answer.status_code in {200, 400, 404}, (endpoint, answer.text)
        for endpoint in with_alias(OPEN):
            assert ask(browserless, endpoint, headers).status_code == 200, endpoint
    assert summed(daemon) == before


@pytest.mark.parametrize("kind", HOLDS)
@pytest.mark.parametrize("route", ["openai/chat/completions", "openai/v1/models", "anthropic/v1/messages", "nobody/x"])
def test_promise_12_the_prompt_proxy_lets_in_whom_records_are_taken_from(
    browserless: httpx.Client, keys: dict[str, str], kind: str, route: str
) -> None:
    holds = HOLDS[kind]
    for form in ("Authorization", "X-API-Key"):
        key = keys[kind]
        headers = {form: f"Bearer {key}" if form == "Authorization" else key} if key else {}
        body = {"model": "gpt-4o", "max_tokens": 1, "messages": []}
        answer = browserless.post(f"/api/proxy/v1/{route}", json=body, headers={**headers, "X-Sandbox": "true"})
        if holds is None:
            assert (answer.status_code, answer.json()["code"]) == (401, "AUTHENTICATION_ERROR")
        elif "ingest" not in holds:
            assert (answer.status_code, answer.json()["code"]) == (403, "AUTHORIZATION_ERROR")
        else:
            assert answer.status_code == (404 if route.startswith("nobody") else 200)


@pytest.mark.parametrize("kind", HOLDS)
def test_promise_12_a_proxy_endpoint_is_known_or_it_is_not(
    browserless: httpx.Client, keys: dict[str, str], kind: str
) -> None:
    answer = browserless.post("/proxy/nobody/v1/messages", json={}, headers={"X-API-Key": keys[kind]})
    assert (answer.status_code, answer.json()["error"]["type"]) == (404, "not_found_error")


@pytest.mark.parametrize("kind", HOLDS)
def test_promise_12_grpc_lets_in_exactly_whom_it_should(daemon: Daemon, keys: dict[str, str], kind: str) -> None:
    check_grpc(daemon, keys, kind)


@pytest.mark.parametrize("kind", HOLDS)
def test_promise_12_a_hub_lets_in_exactly_whom_it_should(hub: Daemon, hub_keys: dict[str, str], kind: str) -> None:
    check_grpc(hub, hub_keys, kind)


def check_grpc(daemon: Daemon, keys: dict[str, str], kind: str) -> None:
    """Every method of every service, over TCP and the socket, with the key in either of its places."""
    holds = HOLDS[kind]
    targets = [daemon.grpc, f"unix:{daemon.socket}"]
    for target, form in product(targets, ("authorization", "x-api-key")):
        key = keys[kind]
        metadata = ((form, f"Bearer {key}" if form == "authorization" else key),) if key else ()
        with grpc.insecure_channel(target) as channel:
            for role, service in METHODS.items():
                for method in service.methods:
                    code = status_of(channel, f"/{service.full_name}/{method.name}", metadata)
                    if holds is None:
                        assert code is grpc.StatusCode.UNAUTHENTICATED, method.full_name
                    elif ("read" if method.name in ASKED_OF_ADMIN else role) not in holds:
                        assert code is grpc.StatusCode.PERMISSION_DENIED, method.full_name
                    else:
                        assert code not in {grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED}, method
            assert status_of(channel, "/grpc.health.v1.Health/Check", metadata) is grpc.StatusCode.OK


def status_of(channel: grpc.Channel, path: str, metadata: Any) -> grpc.StatusCode:
    """How an empty request is answered; of many answers the first, as some calls do not end."""
    call = channel.unary_stream(path)(b"", metadata=metadata, timeout=20)
    try:
        next(call, None)
    except grpc.RpcError as error:
        return error.code()
    call.cancel()
    return grpc.StatusCode.OK


def test_promise_12_a_revoked_key_is_dead_at_once_on_open_connections_too(daemon: Daemon) -> None:
    with grpc.insecure_channel(daemon.grpc) as channel:
        admin = admin_pb2_grpc.AdminServiceStub(channel)
        metadata = (("authorization", f"Bearer {daemon.admin_key}"),)
        made = admin.CreateKey(admin_pb2.CreateKeyRequest(name="short-lived"), metadata=metadata)
        doors = [make(daemon, made.secret) for make in (GrpcDoor, HttpDoor, BatchDoor)]
        assert [door.send([Call(1)])[0].word for door in doors] == ["kept"] * 3
        before = summed(daemon)
        admin.RevokeKey(admin_pb2.RevokeKeyRequest(id=made.key.id), metadata=metadata)
        assert [door.send([Call(1)])[0].status for door in doors] == ["UNAUTHENTICATED", "401", "401"]
        assert summed(daemon) == before
        for door in doors:
            door.close()


def test_promise_12_a_revoked_key_is_dead_on_a_stream_that_is_open(daemon: Daemon) -> None:
    key = daemon.key("streaming")
    messages: SimpleQueue[usage_pb2.RecordStreamRequest | None] = SimpleQueue()
    with grpc.insecure_channel(daemon.grpc) as channel:
        stream = usage_pb2_grpc.UsageServiceStub(channel).RecordStream(
            iter(messages.get, None), metadata=(("authorization", f"Bearer {key}"),), timeout=20
        )
        messages.put(usage_pb2.RecordStreamRequest(sequence=1, record=record_message(Call(1))))
        assert next(stream).acknowledged == 1
        assert harness.costd("keys", "revoke", "streaming", "--data-dir", str(daemon.data_dir)).returncode == 0
        before = summed(daemon)
        messages.put(usage_pb2.RecordStreamRequest(sequence=2, record=record_message(Call(2))))
        with pytest.raises(grpc.RpcError) as caught:
            next(stream)
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        messages.put(None)
    assert summed(daemon) == before


def test_promise_12_a_key_revoked_while_a_call_waits_for_its_message_is_dead_when_it_comes(daemon: Daemon) -> None:
    key = daemon.key("late")
    messages: SimpleQueue[bytes | None] = SimpleQueue()
    before = summed(daemon)
    with grpc.insecure_channel(daemon.grpc) as channel:
        record = channel.stream_unary("/costd.v1.UsageService/Record")
        call = record.future(iter(messages.get, None), metadata=(("authorization", f"Bearer {key}"),), timeout=20)
        assert harness.costd("keys", "revoke", "late", "--data-dir", str(daemon.data_dir)).returncode == 0
        threading.Event().wait(STALE_KEY_S)  # a call that comes with its message is not looked at twice
        messages.put(record_message(Call(1)).SerializeToString())
        messages.put(None)
        with pytest.raises(grpc.RpcError) as caught:
            call.result()
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert summed(daemon) == before


def test_promise_12_a_revoked_key_stays_dead_after_a_restart_and_a_crash(launch: Callable[..., Daemon]) -> None:
    daemon = launch()
    key = daemon.key("short-lived")
    assert harness.costd("keys", "revoke", "short-lived", "--data-dir", str(daemon.data_dir)).returncode == 0
    daemon.kill()
    daemon = launch()
    assert send(HttpDoor, daemon, Call(1), key=key)[0].status == "401"
    assert daemon.stop() == 0
    assert send(GrpcDoor, launch(), Call(1), key=key)[0].status == "UNAUTHENTICATED"


BINDINGS = [
    ("team", "team", "dimensions.team"),
    ("project", "project_external_id", "dimensions.project"),
    ("source_app", "source_app", "dimensions.source_app"),
]


@pytest.mark.parametrize(("bound", "field", "grpc_field"), BINDINGS, ids=[binding[0] for binding in BINDINGS])
def test_promise_12_a_bound_key_files_under_its_own_names_only(
    daemon: Daemon, bound: str, field: str, grpc_field: str
) -> None:
    key = daemon.key(f"bound-to-{bound}", **{bound: "mine"})
    headers = {"Authorization": f"Bearer {key}"}
    plain = {name: value for name, value in record_json(Call(1)).items() if name != field}
    before = summed(daemon)[0]
    for said, expected in ((None, 200), ("mine", 200), ("theirs", 403)):
        body = plain if said is None else plain | {field: said}
        answers = [
            daemon.client.post("/v1/usage/record", json=body, headers=headers),
            daemon.client.post("/v1/preflight", json=body | {"estimated_units": {}}, headers=headers),
        ]
        assert [answer.status_code for answer in answers] == [expected] * 2, [answer.text for answer in answers]
        results = daemon.client.post("/v1/usage/records", json=[body], headers=headers).json()["results"]
        assert results[0].get("status", 200) == expected
        if expected == 403:
            assert answers[0].json()["details"]["field"] == field
    found = daemon.query(f"SELECT DISTINCT s.{bound} FROM event e JOIN series s ON s.id = e.series_id "
                         "JOIN api_key k ON k.id = s.key_id WHERE k.name = ?", f"bound-to-{bound}")  # fmt: skip
    assert found == [("mine",)]
    assert summed(daemon)[0] == before + 4
    if bound != "source_app":  # GrpcDoor says "tests"
        assert send(GrpcDoor, daemon, Call(2), key=key)[0].word == "kept"
    else:
        refused = send(GrpcDoor, daemon, Call(2), key=key)[0]
        assert (refused.status, grpc_field.rpartition(".")[2] in refused.body) == ("PERMISSION_DENIED", True)


def test_promise_12_a_key_bound_to_an_app_upserts_only_that_apps_names(daemon: Daemon) -> None:
    headers = {"Authorization": f"Bearer {daemon.key('bound-upserts', source_app='mine')}"}
    for path, body in (("users", {"external_id": "u"}), ("projects", {"external_id": "p", "name": "P"})):
        answer = daemon.client.post(f"/v1/{path}/upsert", json=body, headers=headers)
        assert (answer.status_code, answer.json()["source_app"]) == (200, "mine")
        refused = daemon.client.post(f"/v1/{path}/upsert", json=body | {"source_app": "theirs"}, headers=headers)
        assert refused.status_code == 403


def test_promise_12_a_key_bound_to_a_project_adds_month_entries_to_that_project_only(daemon: Daemon) -> None:
    headers = {"Authorization": f"Bearer {daemon.key('bound-entries', project='mine')}"}
    month = {"month": 3, "year": 2026}
    posts: list[tuple[str, dict[str, Any]]] = [
        ("/api/ingest", {"type": "cost", "service": "OpenAI", "data": {"amount": 1, **month}}),
        ("/api/ingest", {"type": "tokens", "service": "OpenAI", "data": {"tokens_used": 1, **month}}),
        ("/api/costs/manual", {"service": "OpenAI", "amount": 1, **month}),
    ]
    for path, body in posts:
        assert daemon.client.post(path, json=body, headers=headers).status_code == 200
        assert daemon.client.post(path, json=body | {"project": "mine"}, headers=headers).status_code == 200
        refused = daemon.client.post(path, json=body | {"project": "theirs"}, headers=headers)
        assert (refused.status_code, refused.json()["details"]["field"]) == (403, "project")
    found = daemon.query("SELECT DISTINCT m.project FROM month_entry m JOIN api_key k ON k.id = m.key_id "
                         "WHERE k.name = 'bound-entries'")  # fmt: skip
    assert found == [("mine",)]


# -- what listens ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flag", ["--http-listen", "--grpc-listen"])
@pytest.mark.parametrize("address", ["0.0.0.0:0", "[::]:0", "192.0.2.1:0"])
def test_promise_12_nothing_listens_beyond_loopback_without_tls(tmp_path: Any, flag: str, address: str) -> None:
    ended = harness.costd("run", "--data-dir", str(tmp_path / "data"), flag, address)
    assert ended.returncode == 2, ended
    for word in (flag, address, "--tls-cert", "--insecure"):
        assert word in ended.stderr
    assert not (tmp_path / "data" / "costd.db").exists()


@pytest.mark.parametrize("also", [("--insecure",), ("--insecure", "--tls-cert", "c.pem", "--tls-key", "k.pem")])
def test_promise_12_nothing_listens_beyond_loopback_without_keys(tmp_path: Any, also: tuple[str, ...]) -> None:
    address = ("--http-listen", "0.0.0.0:0", "--auth", "off")
    ended = harness.costd("run", "--data-dir", str(tmp_path / "data"), *address, *also)
    assert ended.returncode == 2, ended
    assert "auth" in ended.stderr


def test_promise_12_without_keys_only_if_the_configuration_says_so(launch: Callable[..., Daemon]) -> None:
    daemon = launch("--auth", "off")
    with httpx.Client(base_url=daemon.http_url, trust_env=False) as client:
        assert client.post("/v1/usage/record", json=record_json(Call(1))).status_code == 200
        assert client.get("/v1/health", headers={"Host": "evil.example"}).status_code == 403
        wrong = client.post("/v1/usage/record", json=record_json(Call(1)), headers={"X-API-Key": "ct_live_wrong"})
        assert wrong.status_code == 401
    for target in (daemon.grpc, f"unix:{daemon.socket}"):
        with grpc.insecure_channel(target) as channel:
            assert status_of(channel, "/costd.v1.AdminService/ListKeys", ()) is grpc.StatusCode.OK


# -- browsers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "foreign",
    [
        {"Host": "evil.example"},
        {"Host": "localhost.evil.example"},
        {"Host": "127.0.0.1.nip.io"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost:1"},
    ],
    ids=str,
)
def test_promise_12_a_page_in_a_browser_reaches_no_route(daemon: Daemon, foreign: dict[str, str]) -> None:
    before = summed(daemon)
    endpoints = with_alias(OPEN) + [one for needs in NEEDS.values() for one in with_alias(needs)]
    for endpoint in [*endpoints, "GET /nowhere", "OPTIONS /v1/usage/record", "PUT /v1/usage/record"]:
        answer = ask(daemon.client, endpoint, foreign)
        assert answer.status_code == 403, (endpoint, answer.text)
        assert not [name for name in answer.headers if name.lower().startswith("access-control")]
    assert daemon.client.post("/v1/usage/record", json=record_json(Call(1)), headers=foreign).status_code == 403
    assert summed(daemon) == before


def test_promise_12_a_browser_gets_nothing_out_of_the_grpc_port(daemon: Daemon) -> None:
    connection = http.client.HTTPConnection(daemon.grpc, timeout=10)
    connection.request("POST", "/costd.v1.UsageService/Record", b"\0\0\0\0\0", {"Content-Type": "application/grpc"})
    with pytest.raises((http.client.HTTPException, OSError)):
        connection.getresponse()
    connection.close()


# -- files -------------------------------------------------------------------------------------------------------------


def test_promise_12_what_lies_in_the_data_folder_is_its_owners_alone(launch: Callable[..., Daemon]) -> None:
    daemon = launch()
    send(BatchDoor, daemon, *(Call(n) for n in range(10)))
    assert stat.S_IMODE(daemon.data_dir.stat().st_mode) == 0o700
    assert stat.S_IMODE((daemon.data_dir / "admin.key").stat().st_mode) == 0o600
    names = set()
    for path in daemon.data_dir.rglob("*"):
        names.add(path.name)
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path
    assert {"costd.db", "costd.db-wal", "admin.key", "costd.sock", "reserve", "lock"} <= names
