"""`costd proxy endpoints`: slugs by which a provider is called with the provider's key alone."""

from __future__ import annotations

import click

from costd.cli.connection import connected
from costd.cli.moments import iso
from costd.cli.options import Reach, daemon_options, json_option
from costd.cli.output import print_json, print_table
from costd.v1 import proxy_pb2


@click.group("proxy")
def command() -> None:
    """Proxies: point an SDK at costd and be done."""


@command.group("endpoints")
def endpoints() -> None:
    """Make, list and remove proxy endpoints: /proxy/SLUG, called with the provider's key and nothing else."""


@endpoints.command("create", epilog="Example: costd proxy endpoints create my-project")
@click.argument("name")
@click.option("--store-bodies", is_flag=True, help="Store requests and answers: prompts are then on disk.")
@click.option("--body-bytes", type=int, metavar="BYTES", help="Of each body store at most so much. [default: 262144]")
@click.option("--retention-days", type=int, metavar="DAYS", help="Store bodies for so long. [default: 30]")
@daemon_options
@json_option
def create(
    name: str,
    body_bytes: int | None,
    retention_days: int | None,
    reach: Reach,
    *,
    store_bodies: bool,
    as_json: bool,
) -> None:
    """Make an endpoint for NAME and say what to point a client at."""
    request = proxy_pb2.CreateProxyEndpointRequest(
        name=name, store_bodies=store_bodies, body_bytes=body_bytes, retention_days=retention_days
    )
    with connected(reach, create=True) as daemon:
        made: proxy_pb2.ProxyEndpoint = daemon.ask(daemon.admin.CreateProxyEndpoint, request)
    if as_json:
        print_json(_described(made))
        return
    click.echo(
        f"made {made.slug}: set ANTHROPIC_BASE_URL to http://HOST:PORT/proxy/{made.slug} of the daemon's HTTP door"
    )


@endpoints.command("list", epilog="Example: costd proxy endpoints list --json")
@daemon_options
@json_option
def list_endpoints(reach: Reach, *, as_json: bool) -> None:
    """List proxy endpoints, newest first."""
    found: list[proxy_pb2.ProxyEndpoint] = []
    with connected(reach) as daemon:
        cursor = ""
        while True:
            request = proxy_pb2.ListProxyEndpointsRequest(cursor=cursor, limit=100)
            page: proxy_pb2.ListProxyEndpointsResponse = daemon.ask(daemon.admin.ListProxyEndpoints, request)
            found += page.endpoints
            cursor = page.next_cursor
            if not cursor:
                break
    if as_json:
        print_json({"endpoints": [_described(held) for held in found]})
        return
    rows = [
        [held.slug, held.name, "stored" if held.store_bodies else "not stored", iso(held.created_ms)] for held in found
    ]
    print_table(["slug", "name", "bodies", "created"], rows)


@endpoints.command("remove", epilog="Example: costd proxy endpoints remove my-project")
@click.argument("endpoint")
@daemon_options
@json_option
def remove(endpoint: str, reach: Reach, *, as_json: bool) -> None:
    """Remove ENDPOINT, by its slug or id; nobody gets in by it any more, and what came by it stays."""
    with connected(reach) as daemon:
        request = proxy_pb2.RemoveProxyEndpointRequest(endpoint=endpoint)
        removed: proxy_pb2.ProxyEndpoint = daemon.ask(daemon.admin.RemoveProxyEndpoint, request)
    if as_json:
        print_json(_described(removed))
        return
    click.echo(f"removed {removed.slug}")


def _described(held: proxy_pb2.ProxyEndpoint) -> dict[str, object]:
    return {
        "id": held.id,
        "name": held.name,
        "slug": held.slug,
        "store_bodies": held.store_bodies,
        "body_bytes": held.body_bytes,
        "retention_days": held.retention_days,
        "created": iso(held.created_ms),
    }
