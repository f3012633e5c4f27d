"""A hub that goes back in time: what its sources know since then is learned, and everybody is told everything anew."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from members import Launch, audit, join, lets_in, link, listed_keys, make_key, make_source, revoke

from callers import stubs
from costd.v1 import prices_pb2
from harness import Daemon, costd, until


def copy_of(daemon: Daemon) -> sqlite3.Connection:
    """A copy of its database as it is now."""
    held = sqlite3.connect(":memory:")
    source = sqlite3.connect(f"file:{daemon.database}?mode=ro", uri=True)
    source.backup(held)
    source.close()
    return held


def put_back(daemon: Daemon, copy: sqlite3.Connection) -> None:
    """Put a copy in the place of a stopped daemon's database."""
    for suffix in ("", "-wal", "-shm"):
        daemon.database.with_name(daemon.database.name + suffix).unlink(missing_ok=True)
    target = sqlite3.connect(daemon.database)
    copy.backup(target)
    target.execute("PRAGMA journal_mode = WAL")
    target.close()


def epoch(hub: Daemon) -> bytes:
    return bytes(hub.query("SELECT epoch FROM hub_state")[0][0])


def test_a_hub_from_a_backup_learns_revocations_and_begins_a_new_epoch(launch: Launch) -> None:
    hub = launch(name="hub", command="hub")
    lasting, revoked = make_key(hub, name="lasting"), make_key(hub, name="revoked")
    first = join(launch, hub, "web-1", "default")
    second = join(launch, hub, "web-2", "default")
    old, address = copy_of(hub), hub.grpc
    before = epoch(hub)
    made_after = make_key(hub, name="made after")
    until(lambda: lets_in(first, made_after.secret) and lets_in(second, made_after.secret), "the newest key to work")
    revoke(hub, revoked.id)
    until(lambda: not lets_in(first, revoked.secret) and not lets_in(second, revoked.secret), "a revoked key to die")
    assert hub.stop() == 0
    put_back(hub, old)
    hub = launch(f"--grpc-listen={address}", name="hub", command="hub")
    until(lambda: not lets_in(hub, revoked.secret), "the hub to learn what was revoked", 60)
    for sidecar in (first, second):
        until(lambda sidecar=sidecar: link(sidecar)["sync_epoch"] == epoch(hub), "a full sync", 60)
        assert lets_in(sidecar, lasting.secret)
        assert not lets_in(sidecar, revoked.secret)
        # The hub knows nothing of it any more, so nobody else does.
        until(lambda sidecar=sidecar: not lets_in(sidecar, made_after.secret), "a key that is no more to die")
    assert epoch(hub) != before
    assert not lets_in(hub, made_after.secret)
    [(actor, key_id, told)] = [line for line in audit(hub, "api_key.revoked") if line[1] == revoked.id]
    assert (key_id, told["name"]) == (revoked.id, "revoked")
    assert (actor,) in hub.query("SELECT key_id FROM source")
    # Were the newer copy put back after all, what was only missing would be there again.
    assert [key.name for key in listed_keys(first).values() if key.revoked_ms] != []


def test_a_hub_from_a_backup_takes_back_prices_that_it_does_not_know(launch: Launch) -> None:
    hub = launch(name="hub", command="hub")
    sidecar = join(launch, hub, "web-1", "default")
    old, address = copy_of(hub), hub.grpc
    rates = [prices_pb2.UnitPrice(unit="input_tokens", usd="1")]
    with stubs(hub) as services:
        request = prices_pb2.SetPricesRequest(prices=[prices_pb2.NewPrice(model="house-model", rates=rates)])
        services.admin.SetPrices(request, metadata=services.metadata, timeout=30)
    living = "SELECT count(*) FROM price_rule WHERE removed_ms IS NULL"
    until(lambda: sidecar.query(living) == [(1,)], "the price to arrive")
    assert hub.stop() == 0
    put_back(hub, old)
    hub = launch(f"--grpc-listen={address}", name="hub", command="hub")
    until(lambda: sidecar.query(living) == [(0,)], "the price to be gone", 60)
    assert link(sidecar)["prices_version"] == 0


def test_a_key_that_was_only_missing_comes_back_with_the_hub_that_knows_it(launch: Launch) -> None:
    hub = launch(name="hub", command="hub")
    sidecar = join(launch, hub, "web-1", "default")
    old, address = copy_of(hub), hub.grpc
    key = make_key(hub, name="newer")
    until(lambda: lets_in(sidecar, key.secret), "the key to work")
    new = copy_of(hub)
    for copy, works in ((old, False), (new, True)):
        assert hub.stop() == 0
        put_back(hub, copy)
        hub = launch(f"--grpc-listen={address}", name="hub", command="hub")
        until(lambda works=works: lets_in(sidecar, key.secret) == works, f"the key's working to be {works}", 60)


def test_a_hub_that_costd_restore_put_back_is_another_one_even_if_it_has_overtaken_itself(
    launch: Launch, tmp_path: Path
) -> None:
    hub = launch(name="hub", command="hub")
    sidecar = join(launch, hub, "web-1", "default")
    data, backup = ("--data-dir", str(hub.data_dir)), tmp_path / "backup.db"
    assert costd("backup", str(backup), *data).returncode == 0
    lost = make_key(hub, name="lost")
    until(lambda: lets_in(sidecar, lost.secret), "the key to work")
    address = hub.grpc
    assert sidecar.stop() == 0
    assert hub.stop() == 0
    done = costd("restore", str(backup), "--yes", *data)
    assert done.returncode == 0, done.stderr
    hub = launch(f"--grpc-listen={address}", name="hub", command="hub")
    later = [make_key(hub, name=f"later {number}") for number in range(3)]
    key = make_source(hub, "web-2", "default")
    sidecar = launch(f"--hub={address}", name="web-1", env={"COSTD_HUB_KEY": key})
    until(lambda: lets_in(sidecar, later[-1].secret), "the newest key to work")
    until(lambda: not lets_in(sidecar, lost.secret), "the lost key to be gone")
