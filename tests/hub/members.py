"""A hub and its sidecars for tests of what a hub tells: sources, keys, and questions to both ends."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NamedTuple

import grpc

from callers import stubs
from costd.v1 import admin_pb2, query_pb2, source_pb2
from harness import Daemon, until

Launch = Callable[..., Daemon]

#: What is promised: a change is in force on every connected daemon within this.
PROMISED_S = 5.0


class Made(NamedTuple):
    """A key: its id and its secret."""

    id: str
    secret: str


def make_source(hub: Daemon, name: str, *organizations: str) -> str:
    """The key of a new source."""
    with stubs(hub) as services:
        request = source_pb2.CreateSourceRequest(name=name, organizations=organizations)
        return str(services.admin.CreateSource(request, metadata=services.metadata, timeout=20).key)


def make_key(hub: Daemon, organization: str = "", name: str = "app", roles: str = "ingest,read") -> Made:
    """A new key of the hub's."""
    with stubs(hub) as services:
        request = admin_pb2.CreateKeyRequest(name=name, roles=roles.split(","), organization=organization)
        made = services.admin.CreateKey(request, metadata=services.metadata, timeout=20)
        return Made(made.key.id, made.secret)


def revoke(daemon: Daemon, key_id: str) -> None:
    """Revoke a key."""
    with stubs(daemon) as services:
        services.admin.RevokeKey(admin_pb2.RevokeKeyRequest(id=key_id), metadata=services.metadata, timeout=20)


def join(launch: Launch, hub: Daemon, name: str, *organizations: str, flags: tuple[str, ...] = ()) -> Daemon:
    """A sidecar of a new source of that name, connected."""
    key = make_source(hub, name, *organizations)
    sidecar = launch(f"--hub={hub.grpc}", *flags, name=name, env={"COSTD_HUB_KEY": key})
    until(lambda: synced(sidecar), f"{name} to be told; {sidecar.log[-2000:]}")
    return sidecar


def synced(sidecar: Daemon) -> bool:
    """Whether it has a whole copy of a hub's state."""
    return bool(sidecar.query("SELECT 1 FROM hub_link WHERE sync_epoch <> x''"))


def answer_to(daemon: Daemon, secret: str) -> str:
    """Why a key is not let in; "" where it is."""
    with stubs(daemon, secret) as services:
        call = services.query.Summarize.future(query_pb2.SummarizeRequest(), metadata=services.metadata, timeout=20)
        if call.exception() is None:
            return ""
    assert call.code() is grpc.StatusCode.UNAUTHENTICATED, call.exception()
    return str(call.details())


def lets_in(daemon: Daemon, secret: str) -> bool:
    """Whether a key is let in."""
    return not answer_to(daemon, secret)


def listed_keys(daemon: Daemon) -> dict[str, Any]:
    """All keys that its admin sees, by id."""
    with stubs(daemon) as services:
        answer = services.admin.ListKeys(admin_pb2.ListKeysRequest(), metadata=services.metadata, timeout=20)
    return {key.id: key for key in answer.keys}


def link(sidecar: Daemon) -> dict[str, Any]:
    """What a sidecar knows of its hub."""
    names = "sync_epoch, keys_version, catalog_version, prices_version, quarantine_version, heard_ms, organization"
    return dict(zip(names.split(", "), sidecar.query(f"SELECT {names} FROM hub_link")[0], strict=True))


def audit(daemon: Daemon, action: str) -> list[tuple[str, str, dict[str, Any]]]:
    """(actor, resource, metadata) of what was done."""
    rows = daemon.query("SELECT actor, resource_id, metadata FROM audit WHERE action = ? ORDER BY id", action)
    return [(actor, resource, json.loads(metadata)) for actor, resource, metadata in rows]
