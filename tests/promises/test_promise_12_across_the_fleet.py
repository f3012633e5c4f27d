"""Promise 12 in a fleet: a revoked key dies on every connected daemon within 5 s, and nobody hears of what is not his.

No one gets in: a source sees the keys, the catalog and the prices of its organizations alone, and only a source's key
opens the road.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from typing import Any

import grpc
import pytest

from callers import stubs
from costd.v1 import catalog_pb2, hub_pb2, hub_pb2_grpc, prices_pb2, source_pb2
from harness import Daemon, until
from hub.members import PROMISED_S, Launch, join, lets_in, make_key, make_source, revoke
from rpc_calls import bearer, channel_to, refusal_of

TIMEOUT_S = 20


@contextmanager
def sync(hub: Daemon, key: str, *, open_s: float = TIMEOUT_S) -> Iterator[tuple[Any, Callable[[], None]]]:
    """A Sync stream as a source opens it, which says that it has nothing; its answers, and what lets it end."""
    leave = threading.Event()

    def requests() -> Iterator[hub_pb2.SyncRequest]:
        yield hub_pb2.SyncRequest()
        leave.wait(open_s)

    with channel_to(hub.grpc) as channel:
        call = hub_pb2_grpc.HubServiceStub(channel).Sync(requests(), metadata=bearer(key), timeout=open_s)
        try:
            yield call, leave.set
        finally:
            leave.set()
            call.cancel()


def whole_state(hub: Daemon, key: str) -> list[hub_pb2.SyncResponse]:
    """Everything that a source is told which has nothing."""
    told = []
    with sync(hub, key) as (answers, _):
        for answer in answers:
            told.append(answer)
            if not answer.more:
                break
    return told


def test_a_revoked_key_dies_on_every_connected_daemon(launch: Launch) -> None:
    hub = launch(name="hub", command="hub")
    key = make_key(hub)
    fleet = [hub, *(join(launch, hub, f"web-{number}", "default") for number in range(3))]
    assert all(lets_in(daemon, key.secret) for daemon in fleet)
    began_s = time.monotonic()
    revoke(hub, key.id)
    assert not lets_in(hub, key.secret)
    for daemon in fleet:
        until(lambda daemon=daemon: not lets_in(daemon, key.secret), "a revoked key to die", PROMISED_S)
    assert time.monotonic() - began_s < PROMISED_S
    # And it stays dead where the daemon starts again without its hub.
    hub.kill()
    assert fleet[1].stop() == 0
    alone = launch(f"--hub={hub.grpc}", name="web-0", env={"COSTD_HUB_KEY": "ct_live_whatever"})
    assert not lets_in(alone, key.secret)


def test_a_source_is_told_of_its_organizations_alone(launch: Launch) -> None:
    hub = launch(name="hub", command="hub")
    acme, umbrella = make_source(hub, "acme-1", "acme"), make_source(hub, "umbrella-1", "umbrella", "acme")
    keys = {name: make_key(hub, name) for name in ("acme", "umbrella")}
    with stubs(hub) as services:
        for org in ("acme", "umbrella", ""):
            rates = [prices_pb2.UnitPrice(unit="images", usd="1")]
            new = prices_pb2.NewPrice(model=f"model-of-{org or 'all'}", rates=rates, org=org)
            services.admin.SetPrices(prices_pb2.SetPricesRequest(prices=[new]), metadata=services.metadata)
        services.admin.SetUser(
            catalog_pb2.SetUserRequest(id="default-user", source_app="shop"), metadata=services.metadata
        )
    for org in ("acme", "umbrella"):
        admin = make_key(hub, org, name=f"{org} admin", roles="admin")
        with stubs(hub, admin.secret) as services:
            request = catalog_pb2.SetUserRequest(id=f"{org}-user", source_app="shop")
            services.admin.SetUser(request, metadata=services.metadata)
    mine = whole_state(hub, acme)
    assert [list(message.organizations) for message in mine] == [["acme"]] * len(mine)
    assert {key.id for message in mine for key in message.keys} >= {keys["acme"].id}
    assert {key.organization for message in mine for key in message.keys} == {"acme"}
    assert {item.id for message in mine for item in message.catalog} == {"acme-user"}
    assert {rule.model for message in mine for rule in message.prices.rules} == {"model-of-acme", "model-of-all"}
    both = whole_state(hub, umbrella)
    assert list(both[0].organizations) == ["umbrella", "acme"]
    assert {item.id for message in both for item in message.catalog} == {"acme-user", "umbrella-user"}
    # Digests, and no secret, travel; no source's key does.
    sent = b"".join(message.SerializeToString() for message in mine + both)
    assert keys["acme"].secret.encode() not in sent
    assert all("source" not in key.roles for message in mine + both for key in message.keys)


def test_organizations_are_who_they_are_whatever_number_they_have(launch: Launch) -> None:
    hub = launch(name="hub", command="hub")
    sidecar = join(launch, hub, "web-1", "umbrella", "acme", "default")
    keys = {name: make_key(hub, name, name=f"key of {name}") for name in ("umbrella", "acme", "default")}
    for key in keys.values():
        until(lambda key=key: lets_in(sidecar, key.secret), "a key to work", PROMISED_S)
    places = "SELECT k.name, o.name FROM api_key k JOIN org o ON o.id = org_id WHERE k.name LIKE 'key of %'"
    assert sorted(sidecar.query(places)) == sorted((f"key of {name}", name) for name in keys)
    assert sidecar.query("SELECT name FROM org WHERE id = 1") == [("umbrella",)]


def test_a_sidecar_that_becomes_another_source_has_that_ones_keys_alone(launch: Launch) -> None:
    hub = launch(name="hub", command="hub")
    sidecar = join(launch, hub, "web-1", "acme")
    other = make_source(hub, "web-2", "umbrella")
    keys = {name: make_key(hub, name) for name in ("acme", "umbrella", "default")}
    until(lambda: lets_in(sidecar, keys["acme"].secret), "a key to work", PROMISED_S)
    assert sidecar.stop() == 0
    sidecar = launch(f"--hub={hub.grpc}", name="web-1", env={"COSTD_HUB_KEY": other})
    until(lambda: lets_in(sidecar, keys["umbrella"].secret), "the other source's key to work", 20)
    assert not lets_in(sidecar, keys["acme"].secret)
    assert not lets_in(sidecar, keys["default"].secret)
    assert sidecar.query("SELECT name FROM org WHERE id = 1") == [("umbrella",)]


@pytest.mark.parametrize("roles", ["ingest", "read", "admin"])
def test_an_ordinary_key_is_told_nothing(hub: Daemon, roles: str) -> None:
    with sync(hub, make_key(hub, roles=roles).secret) as (answers, _):
        error = refusal_of(lambda: next(answers))
        assert error.code() is grpc.StatusCode.PERMISSION_DENIED


def test_a_stranger_is_told_nothing(hub: Daemon) -> None:
    for key in ("ct_live_" + "A" * 43, ""):
        with sync(hub, key) as (answers, _):
            assert refusal_of(lambda answers=answers: next(answers)).code() is grpc.StatusCode.UNAUTHENTICATED


def test_a_sidecar_is_no_hub(daemon: Daemon) -> None:
    with sync(daemon, daemon.key("source", role="source")) as (answers, _):
        error = refusal_of(lambda: next(answers))
        assert error.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert "sidecar, not a hub" in error.details()


def test_a_source_that_was_forgotten_hears_no_more_of_it_at_once(hub: Daemon) -> None:
    key = make_source(hub, "forgotten")
    with sync(hub, key) as (answers, _):
        assert next(answers).source == "forgotten"
        with stubs(hub) as services:
            services.admin.ForgetSource(source_pb2.ForgetSourceRequest(id="forgotten"), metadata=services.metadata)
        began_s = time.monotonic()
        error = refusal_of(lambda: list(answers))
        assert error.code() in {grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED}
        assert time.monotonic() - began_s < PROMISED_S


def test_a_source_revokes_no_key_that_is_not_its_organizations(launch: Launch) -> None:
    hub = launch(name="hub", command="hub")
    source = make_source(hub, "acme-1", "acme")
    theirs, others = make_key(hub, "acme"), make_key(hub)
    request = hub_pb2.SyncRequest(
        revocations=[hub_pb2.KeyRevocation(key_id=key.id, revoked_ms=1) for key in (theirs, others)]
        + [hub_pb2.KeyRevocation(key_id="nobody's", revoked_ms=1)],
        uses=[hub_pb2.KeyUse(key_id=others.id, used_ms=1 << 50)],
        orders=[hub_pb2.QuarantineOrder(id="nothing", action="drop")],
    )
    requests: SimpleQueue[hub_pb2.SyncRequest | None] = SimpleQueue()
    requests.put(request)
    with channel_to(hub.grpc) as channel:
        stub = hub_pb2_grpc.HubServiceStub(channel)
        # The stream stays open until it was answered: a hub that sees its end first has nobody left to answer.
        call = stub.Sync(iter(requests.get, None), metadata=bearer(source), timeout=TIMEOUT_S)
        next(call)
        requests.put(None)
    assert not lets_in(hub, theirs.secret)
    assert lets_in(hub, others.secret)
    assert hub.query("SELECT last_used_ms FROM api_key WHERE id = ?", others.id) == [(None,)]
