"""The proxy endpoints' part of AdminService."""

from __future__ import annotations

from costd.domain.access import Caller
from costd.domain.proxy_endpoint import DEFAULT_BODY_BYTES, DEFAULT_RETENTION_DAYS, ProxyEndpoint
from costd.services.proxy_endpoints import NewEndpoint, ProxyEndpoints
from costd.v1 import proxy_pb2 as pb
from costd.wire.rpc.usage import WRITE_TIMEOUT_S


class ProxyEndpointsService:
    """Answers the calls of costd.v1.AdminService that are about proxy endpoints."""

    def __init__(self, endpoints: ProxyEndpoints) -> None:
        self._endpoints = endpoints

    def create_proxy_endpoint(self, caller: Caller, request: pb.CreateProxyEndpointRequest) -> pb.ProxyEndpoint:
        """Make an endpoint; returns once it is in force."""
        new = NewEndpoint(
            request.name,
            request.store_bodies,
            request.body_bytes if request.HasField("body_bytes") else DEFAULT_BODY_BYTES,
            request.retention_days if request.HasField("retention_days") else DEFAULT_RETENTION_DAYS,
        )
        return _message(self._endpoints.create(caller, new).wait(WRITE_TIMEOUT_S))

    def list_proxy_endpoints(
        self, caller: Caller, request: pb.ListProxyEndpointsRequest
    ) -> pb.ListProxyEndpointsResponse:
        """The organization's endpoints, newest first."""
        page = self._endpoints.page(caller, request.cursor, request.limit or None)
        return pb.ListProxyEndpointsResponse(endpoints=map(_message, page.endpoints), next_cursor=page.next_cursor)

    def remove_proxy_endpoint(self, caller: Caller, request: pb.RemoveProxyEndpointRequest) -> pb.ProxyEndpoint:
        """Remove an endpoint; returns once nobody gets in by it."""
        return _message(self._endpoints.remove(caller, request.endpoint).wait(WRITE_TIMEOUT_S))


def _message(held: ProxyEndpoint) -> pb.ProxyEndpoint:
    return pb.ProxyEndpoint(
        id=held.id,
        name=held.name,
        slug=held.slug,
        store_bodies=held.store_bodies,
        body_bytes=held.body_bytes,
        retention_days=held.retention_days,
        created_ms=held.created_ms,
    )
