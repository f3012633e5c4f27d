"""The three services of a real daemon: what they answer, and which field a refusal names."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from callers import Stubs, stubs
from costd.v1 import admin_pb2, query_pb2, usage_pb2
from harness import Daemon
from rpc_calls import bearer, details_of, refusal_of

HOUR_MS = 3_600_000


@pytest.fixture
def services(daemon: Daemon) -> Iterator[Stubs]:
    with stubs(daemon) as found:
        yield found


def dimensions(**more: Any) -> usage_pb2.Dimensions:
    return usage_pb2.Dimensions(**{"source_app": "shop", "model": "gpt-4o", "user": "ada"} | more)


def units(**counts: int | str) -> list[usage_pb2.Quantity]:
    return [
        usage_pb2.Quantity(unit=name, decimal=amount)
        if isinstance(amount, str)
        else usage_pb2.Quantity(unit=name, count=amount)
        for name, amount in counts.items()
    ]


def record(services: Stubs, metadata: Any = None, **fields: Any) -> Any:
    fields = {"dimensions": dimensions(), "units": units(input_tokens=1000, output_tokens=200)} | fields
    return services.usage.Record(usage_pb2.RecordRequest(**fields), metadata=metadata or services.metadata, timeout=20)


def preflight(services: Stubs, **fields: Any) -> Any:
    fields = {"dimensions": dimensions(), "estimated_units": units(input_tokens=1000, output_tokens=200)} | fields
    return services.usage.Preflight(usage_pb2.PreflightRequest(**fields), metadata=services.metadata, timeout=20)


def test_a_preflight_prices_and_allows(services: Stubs) -> None:
    """The estimate in nano-USD, and a UUIDv7 to send with the record."""
    answer = preflight(services)
    assert answer.allow
    assert answer.estimated_cost_nano_usd == 1000 * 2500 + 200 * 10_000
    assert uuid.UUID(answer.request_id).version == 7
    assert (answer.deny_reason, list(answer.warnings)) == ("", [])
    assert preflight(services, request_id="mine").request_id == "mine"


def test_a_preflight_of_an_unknown_model_is_allowed_with_a_warning(services: Stubs) -> None:
    """No estimate then, rather than 0."""
    answer = preflight(services, dimensions=dimensions(model="nobodys-model"))
    assert answer.allow
    assert not answer.HasField("estimated_cost_nano_usd")
    assert answer.warnings


def test_a_record_is_kept_and_found_again(services: Stubs) -> None:
    """Everything that was said comes back from ListEvents, by request id and by event id."""
    request_id = str(uuid.uuid4())
    now_ms = int(time.time() * 1000) - 5000
    said = dimensions(
        provider="openai", project="p", team="t", product="x", job="j", prompt_key="k", prompt_version="3",
        tags=["b", "a"], endpoint="chat/completions",
    )  # fmt: skip
    answer = record(
        services,
        dimensions=said,
        units=units(input_tokens=1000, cache_read_tokens=200, output_tokens=50),
        request_id=request_id,
        status="failed",
        latency_ms=1234,
        time_ms=now_ms,
    )
    assert answer.cost_nano_usd == 800 * 2500 + 200 * 1250 + 50 * 10_000
    for wanted in (request_id, answer.event_id):
        page = services.query.ListEvents(query_pb2.ListEventsRequest(id=wanted), metadata=services.metadata)
        (event,) = page.events
        assert (event.event_id, event.request_id, event.time_ms) == (answer.event_id, request_id, now_ms)
        assert event.dimensions["tags"] == "a,b"
        assert {"provider": "openai", "prompt_version": "3", "team": "t"}.items() <= dict(event.dimensions).items()
        assert dict(event.units) == {"input_tokens": "1000", "cache_read_tokens": "200", "output_tokens": "50"}
        assert (event.cost_nano_usd, event.cost_source, event.latency_ms) == (answer.cost_nano_usd, "list", 1234)
        assert (event.status, event.job) == ("failed", "j")


def test_the_same_record_twice_is_one_and_another_is_a_conflict(services: Stubs) -> None:
    """12.50 and 12.5, or units in another order, are the same content."""
    said = {"request_id": str(uuid.uuid4()), "units": units(pages_seen="12.50", input_tokens=3)}
    first = record(services, **said)
    again = record(services, **said | {"units": units(input_tokens=3, pages_seen="12.5")})
    assert (again.event_id, again.duplicate, first.duplicate) == (first.event_id, True, False)
    other = refusal_of(lambda: record(services, **said | {"status": "error"}))
    assert other.code() is grpc.StatusCode.ALREADY_EXISTS


def test_the_callers_own_price_wins(services: Stubs) -> None:
    """And an unpriced record has no cost, rather than 0."""
    assert record(services, cost_nano_usd=7).cost_nano_usd == 7
    unpriced = record(services, dimensions=dimensions(model="nobodys-model"))
    assert not unpriced.HasField("cost_nano_usd")


LONG = "x" * 257


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"dimensions": dimensions(model="")}, "dimensions.model"),
        ({"dimensions": dimensions(user=LONG)}, "dimensions.user"),
        ({"dimensions": dimensions(endpoint="a\nb")}, "dimensions.endpoint"),
        ({"dimensions": dimensions(tags=["a,b"])}, "dimensions.tags"),
        ({"dimensions": dimensions(tags=[str(n) for n in range(33)])}, "dimensions.tags"),
        ({"units": units(input_tokens=-1)}, "units.input_tokens"),
        ({"units": units(input_tokens=10**12 + 1)}, "units.input_tokens"),
        ({"units": units(input_tokens=1, cache_read_tokens=2)}, "units.cache_read_tokens"),
        ({"units": units(cache_read_tokens=2)}, "units.cache_read_tokens"),
        ({"units": units(input_tokens="1.5")}, "units.input_tokens"),
        ({"units": units(input_tokens="NaN")}, "units[0].decimal"),
        ({"units": units(input_tokens="-1")}, "units[0].decimal"),
        ({"units": units(input_tokens="1e3")}, "units[0].decimal"),
        ({"units": units(input_tokens="１")}, "units[0].decimal"),
        ({"units": [usage_pb2.Quantity(unit="input_tokens")]}, "units[0]"),
        ({"units": units(input_tokens=1) * 2}, "units[1].unit"),
        ({"request_id": LONG}, "request_id"),
        ({"status": LONG}, "status"),
        ({"latency_ms": -1}, "latency_ms"),
        ({"time_ms": 1}, "time_ms"),
        ({"time_ms": 2**62}, "time_ms"),
        ({"cost_nano_usd": -1}, "cost_nano_usd"),
        ({"cost_nano_usd": 10**15 + 1}, "cost_nano_usd"),
        ({"price_context": {str(n): "" for n in range(17)}}, "price_context"),
        ({"price_context": {"service_tier": LONG}}, "price_context.service_tier"),
    ],
)
def test_a_refused_record_names_the_field_and_leaves_nothing(
    daemon: Daemon, services: Stubs, fields: dict[str, Any], named: str
) -> None:
    """INVALID_ARGUMENT with the path of the field in the request."""
    before = daemon.query("SELECT count(*) FROM event")
    error = refusal_of(lambda: record(services, **fields))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT, error.details()
    assert list(details_of(error)[0]) == [named]
    assert (error.details() or "").startswith(f"{named}: ")
    assert daemon.query("SELECT count(*) FROM event") == before


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"dimensions": dimensions(model="")}, "dimensions.model"),
        ({"estimated_units": units(output_tokens=-5)}, "estimated_units.output_tokens"),
        ({"estimated_units": [usage_pb2.Quantity(unit="x")]}, "estimated_units[0]"),
    ],
)
def test_a_refused_preflight_names_the_field(services: Stubs, fields: dict[str, Any], named: str) -> None:
    """As the record's."""
    error = refusal_of(lambda: preflight(services, **fields))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert list(details_of(error)[0]) == [named]


def test_roles_and_bindings_are_kept(daemon: Daemon, services: Stubs) -> None:
    """A key does what its roles allow, within what it is bound to."""
    reader = bearer(daemon.key("reader", role="read"))
    writer = bearer(daemon.key("writer", role="ingest", team="red"))
    forbidden = grpc.StatusCode.PERMISSION_DENIED
    assert refusal_of(lambda: record(services, metadata=reader)).code() is forbidden
    ask = query_pb2.SummarizeRequest()
    assert refusal_of(lambda: services.query.Summarize(ask, metadata=writer)).code() is forbidden
    assert services.query.Summarize(ask, metadata=reader).HasField("total")
    for method, request in (
        (services.admin.Status, admin_pb2.StatusRequest()),
        (services.admin.Check, admin_pb2.CheckRequest()),
        (services.admin.ListKeys, admin_pb2.ListKeysRequest()),
        (services.admin.CreateKey, admin_pb2.CreateKeyRequest(name="x")),
        (services.admin.RevokeKey, admin_pb2.RevokeKeyRequest(id="x")),
    ):
        assert refusal_of(lambda call=method, sent=request: call(sent, metadata=writer)).code() is forbidden
    kept = record(services, metadata=writer)
    (event,) = services.query.ListEvents(query_pb2.ListEventsRequest(id=kept.event_id), metadata=reader).events
    assert event.dimensions["team"] == "red"
    other = refusal_of(lambda: record(services, metadata=writer, dimensions=dimensions(team="blue")))
    assert other.code() is forbidden
    assert "team" in (other.details() or "")


def test_a_summary_adds_up(services: Stubs) -> None:
    """Grouped, filtered and in buckets, with the total of its rows."""
    team = str(uuid.uuid4())
    for model in ("gpt-4o", "gpt-4o", "nobodys-model"):
        record(services, dimensions=dimensions(model=model, team=team))
    request = query_pb2.SummarizeRequest(
        group_by=["model"], filters={"team": team}, bucket="day", since_ms=int(time.time() * 1000) - HOUR_MS
    )
    answer = services.query.Summarize(request, metadata=services.metadata)
    by_model = {row.dimensions["model"]: row for row in answer.rows}
    assert (by_model["gpt-4o"].requests, by_model["gpt-4o"].cost_usd) == (2, "0.009")
    assert (by_model["nobodys-model"].unpriced, by_model["nobodys-model"].cost_usd) == (1, "0")
    assert by_model["gpt-4o"].bucket_ms % (24 * HOUR_MS) == 0
    assert (answer.total.requests, answer.total.input_tokens, answer.total.cost_usd) == (3, 3000, "0.009")


@pytest.mark.parametrize(
    ("request_", "named"),
    [
        (query_pb2.SummarizeRequest(group_by=["nonsense"]), "group_by"),
        (query_pb2.SummarizeRequest(filters={"nonsense": "x"}), "filters"),
        (query_pb2.SummarizeRequest(bucket="week"), "bucket"),
        (query_pb2.SummarizeRequest(since_ms=2, until_ms=1), "until_ms"),
        (query_pb2.ListEventsRequest(limit=-1), "limit"),
        (query_pb2.ListEventsRequest(limit=1001), "limit"),
        (query_pb2.ListEventsRequest(cursor="what"), "cursor"),
    ],
)
def test_a_refused_query_names_the_field(services: Stubs, request_: Any, named: str) -> None:
    """As in the request."""
    call = services.query.Summarize if isinstance(request_, query_pb2.SummarizeRequest) else services.query.ListEvents
    error = refusal_of(lambda: call(request_, metadata=services.metadata))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert list(details_of(error)[0]) == [named]


def test_pages_of_events_are_complete(services: Stubs) -> None:
    """Newest first, each exactly once, until there is no cursor."""
    for _ in range(5):
        record(services)
    seen: list[str] = []
    cursor = ""
    while True:
        page = services.query.ListEvents(
            query_pb2.ListEventsRequest(limit=2, cursor=cursor), metadata=services.metadata
        )
        seen += [event.event_id for event in page.events]
        cursor = page.next_cursor
        if not cursor:
            break
    assert len(seen) == len(set(seen)) >= 5
    assert services.query.ListEvents(query_pb2.ListEventsRequest(id="?"), metadata=services.metadata).events == []


def test_keys_are_made_listed_and_revoked(services: Stubs) -> None:
    """In force when the call returns; the secret is in the first answer only."""
    made = services.admin.CreateKey(
        admin_pb2.CreateKeyRequest(name="ci", roles=["read", "ingest"], team="red"), metadata=services.metadata
    )
    assert made.secret.startswith(made.key.key_prefix)
    assert record(services, metadata=bearer(made.secret)).event_id
    listed = services.admin.ListKeys(admin_pb2.ListKeysRequest(), metadata=services.metadata).keys
    assert made.key.id in {key.id for key in listed}
    assert made.secret not in str(listed)
    gone = services.admin.RevokeKey(admin_pb2.RevokeKeyRequest(id=made.key.id), metadata=services.metadata)
    assert gone.revoked_ms
    denied = refusal_of(lambda: record(services, metadata=bearer(made.secret)))
    assert denied.code() is grpc.StatusCode.UNAUTHENTICATED


@pytest.mark.parametrize(
    ("call", "request_", "code", "named"),
    [
        ("CreateKey", admin_pb2.CreateKeyRequest(), "INVALID_ARGUMENT", "name"),
        ("CreateKey", admin_pb2.CreateKeyRequest(name=LONG), "INVALID_ARGUMENT", "name"),
        ("CreateKey", admin_pb2.CreateKeyRequest(name="x", roles=["king"]), "INVALID_ARGUMENT", "roles"),
        ("RevokeKey", admin_pb2.RevokeKeyRequest(), "INVALID_ARGUMENT", "id"),
        ("RevokeKey", admin_pb2.RevokeKeyRequest(id="nobody"), "NOT_FOUND", None),
    ],
)
def test_a_refused_change_of_keys_says_why(
    services: Stubs, call: str, request_: Any, code: str, named: str | None
) -> None:
    """With the field where there is one."""
    error = refusal_of(lambda: getattr(services.admin, call)(request_, metadata=services.metadata))
    assert error.code().name == code
    assert list(details_of(error)[0]) == ([named] if named else [])


def test_status_and_check_describe_the_daemon(daemon: Daemon, services: Stubs) -> None:
    """What an operator wants to see, with the addresses of the doors."""
    record(services)
    status = services.admin.Status(admin_pb2.StatusRequest(), metadata=services.metadata)
    assert (status.state, list(status.problems), status.auth) == ("ok", [], True)
    assert (status.grpc_address, status.http_address) == (daemon.grpc, daemon.ready["http"])
    assert (status.socket_path, status.data_dir) == (daemon.socket, str(daemon.data_dir))
    assert status.accepted >= 1
    assert status.events >= 1
    assert status.freshness == "fresh"
    assert "openai" in {provider.provider for provider in status.providers}
    assert status.price_list
    checked = services.admin.Check(admin_pb2.CheckRequest(), metadata=services.metadata)
    assert checked.ok, checked.findings
    assert checked.events == status.events


def test_what_was_refused_is_counted(daemon: Daemon, services: Stubs) -> None:
    """Undecodable records too, which never reach metering."""

    def rejected() -> int:
        return int(services.admin.Status(admin_pb2.StatusRequest(), metadata=services.metadata).rejected)

    before = rejected()
    refusal_of(lambda: record(services, dimensions=dimensions(model="")))
    refusal_of(lambda: record(services, units=[usage_pb2.Quantity(unit="x")]))
    refusal_of(lambda: record(services, metadata=bearer("nobody")))
    with grpc.insecure_channel(daemon.grpc) as channel:
        raw = channel.unary_unary("/costd.v1.UsageService/Record")
        refusal_of(lambda: raw(b"\xff\xff", metadata=services.metadata))
    assert rejected() == before + 4


def test_the_unix_socket_is_the_same_door(daemon: Daemon, services: Stubs) -> None:
    """With the same key."""
    with grpc.insecure_channel(f"unix:{daemon.socket}") as channel:
        raw = channel.unary_unary("/costd.v1.UsageService/Preflight")
        request = usage_pb2.PreflightRequest(dimensions=dimensions())
        answer = raw(request.SerializeToString(), metadata=services.metadata, timeout=10)
        assert usage_pb2.PreflightResponse.FromString(answer).allow
        assert refusal_of(lambda: raw(b"", timeout=10)).code() is grpc.StatusCode.UNAUTHENTICATED


def test_a_message_over_4_mib_is_refused(services: Stubs) -> None:
    """By gRPC itself, before it is read whole."""
    error = refusal_of(lambda: record(services, dimensions=dimensions(user="x" * (4 << 20))))
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
