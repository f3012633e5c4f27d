"""The hub's keys at its sidecars: they work there, die there, and outlive both a restart and the hub's absence."""

from __future__ import annotations

import time

import pytest
from members import (
    PROMISED_S,
    Launch,
    answer_to,
    join,
    lets_in,
    link,
    listed_keys,
    make_key,
    make_source,
    revoke,
)

from callers import stubs
from costd.v1 import correction_pb2
from harness import costd, until
from rpc_calls import refusal_of


def test_a_key_made_at_the_hub_works_at_the_sidecar_before_and_after_it_joined(launch: Launch) -> None:
    hub = launch(name="hub", command="hub")
    before = make_key(hub)
    sidecar = join(launch, hub, "web-1", "default")
    assert lets_in(sidecar, before.secret)
    after = make_key(hub)
    until(lambda: lets_in(sidecar, after.secret), "a new key to work", PROMISED_S)
    # Its own keys go on working; nobody's secret is in its database.
    assert lets_in(sidecar, sidecar.admin_key)
    stored = sidecar.database.read_bytes()
    assert before.secret.encode() not in stored
    origins = dict(sidecar.query("SELECT origin, count(*) FROM api_key GROUP BY origin"))
    assert origins == {"": 1, "hub": 3}  # the hub's admin key, and these two


def test_source_keys_are_told_to_nobody(launch: Launch) -> None:
    hub = launch(name="hub", command="hub")
    sidecar = join(launch, hub, "web-1", "default")
    join(launch, hub, "web-2", "default")
    key = make_key(hub)
    until(lambda: lets_in(sidecar, key.secret), "a new key to work", PROMISED_S)
    assert sidecar.query("SELECT count(*) FROM api_key WHERE roles LIKE '%source%'") == [(0,)]


def test_copies_of_keys_outlive_the_hub_and_a_restart(launch: Launch) -> None:
    hub = launch(name="hub", command="hub")
    key = make_key(hub, name="lasting")
    gone = make_key(hub, name="gone")
    sidecar = join(launch, hub, "web-1", "default")
    revoke(hub, gone.id)
    until(lambda: not lets_in(sidecar, gone.secret), "a revoked key to die", PROMISED_S)
    hub.kill()
    assert sidecar.stop() == 0
    sidecar = launch(f"--hub={hub.grpc}", name="web-1", env={"COSTD_HUB_KEY": "ct_live_whatever"})
    assert lets_in(sidecar, key.secret)
    assert not lets_in(sidecar, gone.secret)


def test_what_is_the_hubs_is_refused_with_where_to_go(launch: Launch) -> None:
    hub = launch(name="hub", command="hub")
    key = make_key(hub)
    sidecar = join(launch, hub, "web-1", "default")
    data = ("--data-dir", str(sidecar.data_dir))
    for arguments, command in [
        (("keys", "create", "mine"), "costd keys create"),
        (("keys", "revoke", key.id), f"costd keys revoke {key.id}"),
        (("prices", "set", "gpt-4o", "--input-per-mtok", "1"), "costd prices"),
    ]:
        done = costd(*arguments, *data)
        assert done.returncode != 0, arguments
        assert command in done.stderr, done.stderr
        assert hub.grpc in done.stderr, done.stderr
    headers = {"Authorization": f"Bearer {hub.admin_key}"}
    for answer in (
        sidecar.client.post("/api/ingest/generate-key", json={"keyName": "mine"}),
        sidecar.client.post("/api/api-keys", json={"name": "mine"}),
        sidecar.client.delete(f"/api/api-keys/{key.id}"),
        sidecar.client.put("/api/profile", json={"name": "other"}, headers=headers),
    ):
        assert answer.status_code == 403, answer.text
        assert hub.grpc in answer.json()["message"], answer.text
    assert lets_in(sidecar, key.secret)
    # Its own keys are its own, and what is named at the hub has its name at the sidecar.
    assert sidecar.client.put("/api/profile", json={"name": "mine"}).json()["name"] == "mine"
    named = hub.client.put("/api/profile", json={"name": "other"}).json()
    until(lambda: sidecar.client.get("/api/profile", headers=headers).json() == named, "the name", 30)
    with stubs(sidecar) as services:
        request = correction_pb2.RepriceRequest(reason="because")
        error = refusal_of(lambda: next(services.admin.Reprice(request, metadata=services.metadata, timeout=20)))
    assert error.code().name == "PERMISSION_DENIED"
    assert "costd prices reprice" in error.details()


def test_a_sidecar_that_never_met_its_hub_is_its_own(launch: Launch) -> None:
    hub = launch(name="hub", command="hub")
    address = hub.grpc
    hub.kill()
    sidecar = launch(f"--hub={address}", env={"COSTD_HUB_KEY": "ct_live_whatever"})
    assert lets_in(sidecar, sidecar.key("mine"))


def test_uses_of_keys_appear_at_the_hub(launch: Launch) -> None:
    hub = launch(name="hub", command="hub")
    key = make_key(hub)
    sidecar = join(launch, hub, "web-1", "default")
    assert listed_keys(hub)[key.id].last_used_ms == 0
    assert lets_in(sidecar, key.secret)
    until(lambda: listed_keys(hub)[key.id].last_used_ms > 0, "the first use to appear", PROMISED_S)
    assert listed_keys(hub)[key.id].last_used_ms <= listed_keys(sidecar)[key.id].last_used_ms


@pytest.mark.parametrize(("stale_keys", "accepts"), [("refuse", False), ("accept", True)])
def test_what_a_copy_out_of_touch_is_good_for_is_a_setting(launch: Launch, stale_keys: str, accepts: bool) -> None:
    hub = launch(name="hub", command="hub")
    key, address = make_key(hub), hub.grpc
    flags = (f"--hub={address}", "--sync-max-age=2s", f"--sync-stale-keys={stale_keys}")
    source = {"COSTD_HUB_KEY": make_source(hub, "web-1", "default")}
    sidecar = launch(*flags, name="web-1", env=source)
    until(lambda: lets_in(sidecar, key.secret), "the key to work")
    hub.kill()
    heard_ms = link(sidecar)["heard_ms"]
    until(lambda: time.time() * 1000 > heard_ms + 4_000, "the copy to be old")
    assert lets_in(sidecar, key.secret) == accepts
    assert sidecar.stop() == 0
    sidecar = launch(*flags, name="web-1", env=source)  # starting again makes nothing fresh
    assert lets_in(sidecar, key.secret) == accepts
    # Its own keys are not the hub's, and records are taken with them.
    assert lets_in(sidecar, sidecar.admin_key)
    if not accepts:
        why = answer_to(sidecar, key.secret)
        assert "has not been heard of since" in why
        assert "sync.stale_keys" in why
    launch(f"--grpc-listen={address}", name="hub", command="hub")
    until(lambda: lets_in(sidecar, key.secret), "the key to be accepted again", 60)
