"""`/api/proxy-endpoints`: slugs by which a provider is called with the provider's key alone."""

from __future__ import annotations

from msgspec import Struct

from costd.domain.proxy_endpoint import DEFAULT_BODY_BYTES, DEFAULT_RETENTION_DAYS, ProxyEndpoint
from costd.services.proxy_endpoints import EndpointPage, NewEndpoint
from costd.wire.web.answers import rfc3339
from costd.wire.web.route import Call, Route


class EndpointBody(Struct, frozen=True):
    """An endpoint to be made."""

    name: str
    store_bodies: bool = False
    body_bytes: int = DEFAULT_BODY_BYTES
    retention_days: int = DEFAULT_RETENTION_DAYS


class Endpoint(Struct, frozen=True):
    """A proxy endpoint; `url` is the base that clients are pointed at."""

    id: str
    name: str
    slug: str
    url: str
    store_bodies: bool
    body_bytes: int
    retention_days: int
    created_at: str


class Endpoints(Struct, frozen=True, rename="camel"):
    """Endpoints, newest first."""

    items: list[Endpoint]
    next_cursor: str | None
    has_more: bool


class EndpointQuery(Struct, frozen=True):
    """Which page."""

    cursor: str | None = None
    limit: int | None = None


class Removed(Struct, frozen=True):
    """What was removed."""

    success: bool
    id: str


def proxy_endpoint_routes() -> list[Route]:
    """Proxy endpoints are made, listed and removed."""
    path = "/api/proxy-endpoints"
    return [
        Route(
            "GET", path, list_endpoints, "Proxy endpoints, newest first", Endpoints, role="read", query=EndpointQuery
        ),
        Route("POST", path, create_endpoint, "Make a proxy endpoint", Endpoint, role="admin", body=EndpointBody),
        Route("DELETE", path + "/{id}", remove_endpoint, "Remove a proxy endpoint", Removed, role="admin"),
    ]


async def list_endpoints(call: Call) -> object:
    """The organization's endpoints."""
    asked: EndpointQuery = call.query
    page: EndpointPage = call.services.proxy_endpoints.page(call.caller, asked.cursor or "", asked.limit)
    return Endpoints(
        items=[_endpoint(call, held) for held in page.endpoints],
        next_cursor=page.next_cursor or None,
        has_more=bool(page.next_cursor),
    )


async def create_endpoint(call: Call) -> object:
    """Make one; in force when it is answered."""
    sent: EndpointBody = call.body
    new = NewEndpoint(sent.name, sent.store_bodies, sent.body_bytes, sent.retention_days)
    return _endpoint(call, await call.services.proxy_endpoints.create(call.caller, new))


async def remove_endpoint(call: Call) -> object:
    """Remove one, by its id or slug."""
    removed = await call.services.proxy_endpoints.remove(call.caller, call.path["id"])
    return Removed(success=True, id=removed.id)


def _endpoint(call: Call, held: ProxyEndpoint) -> Endpoint:
    scheme = "http" if call.services.config.tls.cert is None else "https"
    return Endpoint(
        id=held.id,
        name=held.name,
        slug=held.slug,
        url=f"{scheme}://{call.host}/proxy/{held.slug}",
        store_bodies=held.store_bodies,
        body_bytes=held.body_bytes,
        retention_days=held.retention_days,
        created_at=rfc3339(held.created_ms),
    )
