"""A hub's proxy endpoints on a Sync stream, as messages: both directions."""

from __future__ import annotations

from collections.abc import Iterable

from costd.domain.proxy_endpoint import ProxyEndpoint
from costd.domain.synced import SyncedEndpoint
from costd.v1 import hub_state_pb2 as pb


def endpoints_message(endpoints: Iterable[SyncedEndpoint]) -> pb.SyncedProxyEndpoints:
    """All endpoints in force that a source has to know."""
    return pb.SyncedProxyEndpoints(
        endpoints=[
            pb.SyncedProxyEndpoint(
                id=held.id,
                organization=organization,
                name=held.name,
                slug=held.slug,
                store_bodies=held.store_bodies,
                body_bytes=held.body_bytes,
                retention_days=held.retention_days,
                created_ms=held.created_ms,
            )
            for organization, held in endpoints
        ]
    )


def read_endpoints(message: pb.SyncedProxyEndpoints) -> list[SyncedEndpoint]:
    """The endpoints."""
    return [
        SyncedEndpoint(
            each.organization,
            ProxyEndpoint(
                id=each.id,
                org_id=0,
                name=each.name,
                slug=each.slug,
                store_bodies=each.store_bodies,
                body_bytes=each.body_bytes,
                retention_days=each.retention_days,
                created_ms=each.created_ms,
            ),
        )
        for each in message.endpoints
    ]
