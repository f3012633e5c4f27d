"""The hub's prices at its sidecars: the next record there costs what the hub says, and both name why alike."""

from __future__ import annotations

import json
import zlib
from importlib import resources
from pathlib import Path
from typing import Any

from members import PROMISED_S, Launch, join

from callers import stubs
from costd.v1 import prices_pb2, usage_pb2
from harness import Daemon, costd, until


def set_price(daemon: Daemon, model: str, usd: str, org: str = "") -> str:
    """The id of a rule: USD for an input token of a model."""
    rates = [prices_pb2.UnitPrice(unit="input_tokens", usd=usd)]
    new = prices_pb2.NewPrice(model=model, rates=rates, org=org)
    with stubs(daemon) as services:
        request = prices_pb2.SetPricesRequest(prices=[new])
        outcomes = services.admin.SetPrices(request, metadata=services.metadata, timeout=30).outcomes
    return str(outcomes[0].price.id)


def remove_price(daemon: Daemon, rule_id: str) -> None:
    with stubs(daemon) as services:
        request = prices_pb2.RemovePriceRequest(id=rule_id)
        services.admin.RemovePrice(request, metadata=services.metadata, timeout=30)


def record(daemon: Daemon, model: str, tokens: int = 1_000) -> int | None:
    """What a record costs there, in nano-USD."""
    units = [usage_pb2.Quantity(unit="input_tokens", count=tokens)]
    dimensions = usage_pb2.Dimensions(source_app="shop", model=model)
    with stubs(daemon) as services:
        request = usage_pb2.RecordRequest(dimensions=dimensions, units=units)
        answer = services.usage.Record(request, metadata=services.metadata, timeout=30)
    return answer.cost_nano_usd if answer.HasField("cost_nano_usd") else None


def rules(daemon: Daemon) -> set[str]:
    """Ids of the rules in force."""
    return {rule_id for (rule_id,) in daemon.query("SELECT id FROM price_rule WHERE removed_ms IS NULL")}


def revision(daemon: Daemon) -> int:
    return int(daemon.query("SELECT price_revision FROM ledger_state")[0][0])


def last_source(daemon: Daemon) -> tuple[Any, ...]:
    """What the newest record was priced by, by name: numbers are each ledger's own."""
    return daemon.query(
        "SELECT kind, version, table_digest FROM event JOIN price_source s ON s.id = price_source_id "
        "ORDER BY seq DESC LIMIT 1"
    )[0]


def test_a_price_set_at_the_hub_prices_the_next_record_at_the_sidecar(launch: Launch) -> None:
    hub = launch(name="hub", command="hub")
    before = set_price(hub, "house-model", "0.001")
    sidecar = join(launch, hub, "web-1", "default")
    assert record(sidecar, "house-model") == 1_000_000_000
    after = set_price(hub, "house-model", "0.002")
    until(lambda: after in rules(sidecar), "the new price to arrive", PROMISED_S)
    until(lambda: record(sidecar, "house-model") == 2_000_000_000, "it to be in force", PROMISED_S)
    assert (revision(sidecar), rules(sidecar)) == (revision(hub), rules(hub))
    # The record is at the hub, priced by the same prices under the same name.
    until(lambda: hub.query("SELECT max(cost_nano) FROM event") == [(2_000_000_000,)], "the record to arrive")
    here, there = last_source(sidecar), last_source(hub)
    assert here[:2] == there[:2] == ("override", str(revision(hub)))
    assert record(hub, "house-model") == 2_000_000_000
    assert last_source(hub)[:2] == here[:2]
    for rule_id in {before, after} & rules(hub):
        remove_price(hub, rule_id)
    until(lambda: record(sidecar, "house-model") is None, "a removed price to be gone", PROMISED_S)


def test_prices_of_before_joining_are_kept_as_history_only(launch: Launch) -> None:
    hub = launch(name="hub", command="hub")
    alone = launch(name="web-1")
    own = set_price(alone, "house-model", "0.005")
    assert record(alone, "house-model") == 5_000_000_000
    assert alone.stop() == 0
    sidecar = join(launch, hub, "web-1", "default")
    assert record(sidecar, "house-model") is None
    assert rules(sidecar) == set()
    assert sidecar.query("SELECT id, removed_by FROM price_rule") == [(own, "hub")]


def test_prices_outlive_the_hub_and_a_restart(launch: Launch) -> None:
    hub = launch(name="hub", command="hub")
    set_price(hub, "house-model", "0.001")
    sidecar = join(launch, hub, "web-1", "default")
    hub.kill()
    assert sidecar.stop() == 0
    sidecar = launch(f"--hub={hub.grpc}", name="web-1", env={"COSTD_HUB_KEY": "ct_live_whatever"})
    assert record(sidecar, "house-model") == 1_000_000_000


def test_a_price_file_of_the_hubs_is_in_force_and_out_of_it_at_every_sidecar(launch: Launch, tmp_path: Path) -> None:
    hub = launch(name="hub", command="hub")
    sidecar = join(launch, hub, "web-1", "default")
    assert record(sidecar, "filed-model") is None
    entry = {"litellm_provider": "openai", "mode": "chat", "input_cost_per_token": 3e-6, "output_cost_per_token": 8e-6}
    file = tmp_path / "prices.json"
    file.write_text(json.dumps({"filed-model": entry}))
    data = ("--data-dir", str(hub.data_dir))
    done = costd("prices", "import", str(file), *data)
    assert done.returncode == 0, done.stderr
    until(lambda: record(sidecar, "filed-model") == 3_000_000, "the file to be in force", PROMISED_S)
    assert sidecar.query("SELECT version, digest, name FROM price_import") == hub.query(
        "SELECT version, digest, name FROM price_import"
    )
    assert sidecar.stop() == 0
    sidecar = launch(
        f"--hub={hub.grpc}", name="web-1", env={"COSTD_HUB_KEY": "ct_live_whatever"}
    )  # refused now, and still priced by it
    assert record(sidecar, "filed-model") == 3_000_000


def is_priced_by(sidecar: Daemon, version: str) -> bool:
    """Whether the next record is priced by this list; its price is the same by each."""
    assert record(sidecar, "gpt-4o") == 2_500_000
    return last_source(sidecar)[:2] == ("list", version)


def test_the_hubs_list_is_in_force_also_where_another_is_installed(launch: Launch) -> None:
    """As where the hub was not upgraded yet: it has a list of its own, that the sidecar did not come with."""
    hub = launch(name="hub", command="hub")
    body = resources.files("costd").joinpath("data", "prices.txt").read_bytes()
    head, _, rest = body.partition(b"\n")
    header = json.loads(head)
    header["version"] = "9.9.9"
    with stubs(hub) as services:
        other = json.dumps(header).encode() + b"\n" + rest
        request = prices_pb2.ImportPricesRequest(kind="list", version="9.9.9", name="list", body=zlib.compress(other))
        services.admin.ImportPrices(request, metadata=services.metadata, timeout=30)
    sidecar = join(launch, hub, "web-1", "default")
    assert record(sidecar, "gpt-4o") == 2_500_000
    assert last_source(sidecar)[:2] == ("list", "9.9.9")
    with stubs(hub) as services:
        drop = prices_pb2.DropPricesRequest(kind="list")
        services.admin.DropPrices(drop, metadata=services.metadata, timeout=30)
    # What is on disk takes effect a moment later.
    until(lambda: is_priced_by(sidecar, header_version(body)), "the installed list to be back", PROMISED_S)


def header_version(body: bytes) -> str:
    return str(json.loads(body.partition(b"\n")[0])["version"])
