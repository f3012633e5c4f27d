"""A sidecar and what a hub may say to it, word by word, by a hub of the test's own."""

from __future__ import annotations

import hashlib
import json
import queue
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from members import Launch, lets_in, link

from costd.v1 import hub_pb2, hub_pb2_grpc, hub_state_pb2
from harness import Daemon, until

SECRET = "ct_live_" + "s" * 43
OTHER = "ct_live_" + "t" * 43
EPOCH = b"e" * 16


class ScriptedHub(hub_pb2_grpc.HubServiceServicer):
    """Says what it is told to say, one stream after the other; None ends a stream."""

    def __init__(self) -> None:
        self.asked: queue.SimpleQueue[hub_pb2.SyncRequest] = queue.SimpleQueue()
        self.words: queue.SimpleQueue[hub_pb2.SyncResponse | None] = queue.SimpleQueue()

    def Sync(self, requests: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:  # noqa: N802
        self.asked.put(next(requests))
        while (word := self.words.get()) is not None:
            yield word
        context.abort(grpc.StatusCode.UNAVAILABLE, "the scripted hub ends this stream")

    def Forward(self, requests: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:  # noqa: N802
        context.abort(grpc.StatusCode.UNAVAILABLE, "the scripted hub takes nothing")
        yield from requests


@pytest.fixture
def hub() -> Iterator[tuple[ScriptedHub, str]]:
    scripted = ScriptedHub()
    server = grpc.server(ThreadPoolExecutor(8))
    hub_pb2_grpc.add_HubServiceServicer_to_server(scripted, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield scripted, f"127.0.0.1:{port}"
    for _ in range(8):
        scripted.words.put(None)
    server.stop(0).wait()


def word(**fields: Any) -> hub_pb2.SyncResponse:
    """Something that a hub says to the source "web-1"."""
    plain = {"hub_epoch": EPOCH, "time_ms": 1, "source": "web-1", "organizations": ["acme"], "version": "0.2.0"}
    return hub_pb2.SyncResponse(**(plain | fields))


def key(id_: str, secret: str, **fields: Any) -> hub_state_pb2.SyncedKey:
    plain = {"id": id_, "organization": "acme", "name": id_, "key_prefix": secret[:14], "created_ms": 1}
    digest = hashlib.sha256(secret.encode()).digest()
    return hub_state_pb2.SyncedKey(**(plain | {"digest": digest, "roles": ["ingest", "read"]} | fields))


def start(launch: Launch, address: str, *flags: str) -> Daemon:
    return launch(f"--hub={address}", *flags, env={"COSTD_HUB_KEY": "ct_live_whatever"})


def said(sidecar: Daemon, condition: Callable[[], object], what: str) -> None:
    until(condition, f"{what}; {sidecar.log[-2000:]}", 30)


def test_a_whole_state_that_is_cut_off_counts_for_nothing_until_it_is_whole(
    launch: Launch, hub: tuple[ScriptedHub, str]
) -> None:
    scripted, address = hub
    sidecar = start(launch, address)
    assert scripted.asked.get(timeout=20).hub_epoch == b""
    scripted.words.put(word(all_keys=True, keys=[key("one", SECRET)], keys_version=7, more=True))
    said(sidecar, lambda: lets_in(sidecar, SECRET), "what was said to be in force")
    scripted.words.put(None)
    # It has nothing whole, and says so.
    again = scripted.asked.get(timeout=20)
    assert (again.hub_epoch, again.keys_version) == (b"", 0)
    scripted.words.put(word(all_keys=True, keys=[key("one", SECRET)], keys_version=7, more=True))
    scripted.words.put(word(all_keys=True, keys=[key("two", OTHER)], keys_version=7))
    said(sidecar, lambda: lets_in(sidecar, OTHER), "the rest to be in force")
    assert lets_in(sidecar, SECRET)
    scripted.words.put(None)
    whole = scripted.asked.get(timeout=20)
    assert (whole.hub_epoch, whole.keys_version) == (EPOCH, 7)
    # Another lineage that knows but one of them.
    scripted.words.put(word(hub_epoch=b"f" * 16, all_keys=True, keys=[key("two", OTHER)], keys_version=1))
    said(sidecar, lambda: not lets_in(sidecar, SECRET), "what is not there any more to be gone")
    assert lets_in(sidecar, OTHER)


def test_a_revoked_key_stays_revoked_whatever_an_older_state_says(launch: Launch, hub: tuple[ScriptedHub, str]) -> None:
    scripted, address = hub
    sidecar = start(launch, address)
    scripted.words.put(word(all_keys=True, keys=[key("one", SECRET), key("two", OTHER)], keys_version=1))
    said(sidecar, lambda: lets_in(sidecar, SECRET) and lets_in(sidecar, OTHER), "the keys")
    scripted.words.put(word(keys=[key("one", SECRET, revoked_ms=5)], keys_version=2))
    said(sidecar, lambda: not lets_in(sidecar, SECRET), "the revocation")
    scripted.words.put(None)
    scripted.asked.get(timeout=20)
    told = scripted.asked.get(timeout=20)
    assert {(each.key_id, each.revoked_ms) for each in told.revocations} == {("one", 5)}
    both = [key("one", SECRET), key("two", OTHER, name="renamed")]
    scripted.words.put(word(hub_epoch=b"f" * 16, all_keys=True, keys=both, keys_version=1))
    said(sidecar, lambda: sidecar.query("SELECT 1 FROM api_key WHERE name = 'renamed'"), "the other state")
    assert not lets_in(sidecar, SECRET)


def test_a_sidecar_takes_nothing_from_a_hub_that_knows_it_by_another_name(
    launch: Launch, hub: tuple[ScriptedHub, str]
) -> None:
    scripted, address = hub
    sidecar = start(launch, address, "--hub-name=web-2")
    scripted.words.put(word(all_keys=True, keys=[key("one", SECRET)], keys_version=1))
    said(sidecar, lambda: 'as the source "web-1"' in sidecar.log, "the refusal to be logged")
    assert sidecar.query("SELECT count(*) FROM hub_link") == [(0,)]
    assert not lets_in(sidecar, SECRET)


def test_what_this_release_cannot_read_is_passed_over_and_the_rest_is_taken(
    launch: Launch, hub: tuple[ScriptedHub, str]
) -> None:
    scripted, address = hub
    sidecar = start(launch, address)
    body = b"a table of a form to come"
    table = hub_state_pb2.SyncedPriceTable(
        kind="list", version="99", name="", digest=hashlib.sha256(body).digest()[:8], body=zlib.compress(body)
    )
    rule = hub_state_pb2.SyncedPriceRule(
        id="01900000-0000-7000-8000-000000000001",
        model="house-model",
        context="{}",
        rates=json.dumps({"images": [1, 0]}),
        multiplier="null",
        from_ms=1_600_000_000_000,
    )
    prices = hub_state_pb2.SyncedPrices(revision=3, rules=[rule], tables=[table])
    catalog = [
        hub_state_pb2.SyncedCatalogItem(kind="planet", organization="acme", id="mars", values="{}"),
        hub_state_pb2.SyncedCatalogItem(
            kind="team", organization="acme", id="ads", values='{"name": "Ads", "new": "x"}'
        ),
        hub_state_pb2.SyncedCatalogItem(kind="team", organization="unknown", id="spies", values="{}"),
    ]
    scripted.words.put(word(all_keys=True, catalog=catalog, prices=prices, prices_version=3))
    said(sidecar, lambda: link(sidecar)["prices_version"] == 3 if joined(sidecar) else False, "the state")
    assert "is not used here" in sidecar.log
    assert sidecar.query("SELECT model FROM price_rule WHERE removed_ms IS NULL") == [("house-model",)]
    assert sidecar.query("SELECT count(*) FROM price_import") == [(0,)]
    assert sidecar.query("SELECT team_id, name FROM catalog_team") == [("ads", "Ads")]


def joined(sidecar: Daemon) -> bool:
    return sidecar.query("SELECT count(*) FROM hub_link") == [(1,)]


def test_another_organization_that_bears_the_hubs_name_changes_names_with_it(
    launch: Launch, hub: tuple[ScriptedHub, str]
) -> None:
    scripted, address = hub
    sidecar = start(launch, address)
    scripted.words.put(word(organizations=["acme", "umbrella"], all_keys=True, keys_version=1))
    said(sidecar, lambda: joined(sidecar), "the state")
    scripted.words.put(None)
    scripted.words.put(word(organizations=["umbrella", "acme"], all_keys=True, keys_version=2))
    said(sidecar, lambda: sidecar.query("SELECT name FROM org WHERE id = 1") == [("umbrella",)], "the other name")
    assert {name for (name,) in sidecar.query("SELECT name FROM org")} == {"umbrella", "acme"}


def test_a_word_that_cannot_be_read_ends_the_stream_and_is_tried_again(
    launch: Launch, hub: tuple[ScriptedHub, str]
) -> None:
    scripted, address = hub
    sidecar = start(launch, address)
    broken = hub_state_pb2.SyncedCatalogItem(kind="team", organization="acme", id="ads", values="{not json")
    scripted.asked.get(timeout=20)
    scripted.words.put(word(all_keys=True, catalog=[broken], catalog_version=1))
    said(sidecar, lambda: "cannot be read" in sidecar.log, "the trouble to be said")
    scripted.words.put(None)
    scripted.asked.get(timeout=30)
    scripted.words.put(word(all_keys=True, keys=[key("one", SECRET)], keys_version=1))
    said(sidecar, lambda: lets_in(sidecar, SECRET), "the next word to be taken")
