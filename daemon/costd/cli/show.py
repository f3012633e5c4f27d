"""`costd show`: one record as the ledger keeps it."""

from __future__ import annotations

import click

from costd.cli.connection import connected
from costd.cli.moments import iso
from costd.cli.options import Reach, daemon_options, json_option
from costd.cli.output import print_json, print_pairs
from costd.domain.errors import NotFound
from costd.domain.money import usd_text
from costd.v1 import query_pb2


@click.command("show", epilog="Example: costd show order-1234 --json")
@click.argument("record", metavar="ID")
@daemon_options
@json_option
def command(record: str, reach: Reach, *, as_json: bool) -> None:
    """Show one record, by its event id or its request id."""
    with connected(reach) as daemon:
        request = query_pb2.ListEventsRequest(id=record, limit=1)
        answer: query_pb2.ListEventsResponse = daemon.ask(daemon.query.ListEvents, request)
    if not answer.events:
        raise NotFound(f'no record has the event or request id "{record}"; single records are kept for a while only')
    event = answer.events[0]
    if as_json:
        print_json(described(event))
    else:
        print_pairs(_pairs(event))


def described(event: query_pb2.Event) -> dict[str, object]:
    """A record as a document."""
    return {
        "event_id": event.event_id,
        "request_id": event.request_id,
        "time": iso(event.time_ms),
        "received": iso(event.received_ms),
        "dimensions": dict(sorted(event.dimensions.items())),
        "units": dict(sorted(event.units.items())),
        "cost_usd": usd_text(event.cost_nano_usd) if event.HasField("cost_nano_usd") else None,
        "recorded_cost_usd": _recorded(event),
        "corrected": event.corrected,
        "void": event.void,
        "cost_source": event.cost_source,
        "price_version": event.price_version,
        "price_context": dict(sorted(event.price_context.items())),
        "unrated_units": list(event.unrated_units),
        "latency_ms": event.latency_ms if event.HasField("latency_ms") else None,
        "status": event.status,
        "job": event.job,
    }


def _recorded(event: query_pb2.Event) -> str | None:
    """The cost as it was recorded, whatever was corrected since."""
    if event.corrected:
        return usd_text(event.recorded_cost_nano_usd) if event.HasField("recorded_cost_nano_usd") else None
    return usd_text(event.cost_nano_usd) if event.HasField("cost_nano_usd") else None


def _history(event: query_pb2.Event) -> str:
    if not event.corrected:
        return ""
    recorded = _recorded(event)
    since = "taken back since" if event.void else "rated again since"
    return f"{f'${recorded}' if recorded is not None else 'unpriced'}, {since}"


def _pairs(event: query_pb2.Event) -> list[tuple[str, str]]:
    """What the record has, for people; what it has not is left out."""
    cost = f"${usd_text(event.cost_nano_usd)}" if event.HasField("cost_nano_usd") else "unpriced"
    origin = " ".join(filter(None, [event.cost_source, event.price_version]))
    pairs = [
        ("event", event.event_id),
        ("request", event.request_id),
        ("time", iso(event.time_ms)),
        ("received", iso(event.received_ms)),
        ("cost", f"{cost} ({origin})" if origin else cost),
        ("recorded as", _history(event)),
        ("no rate for", ", ".join(event.unrated_units)),
        ("status", event.status),
        ("latency", f"{event.latency_ms} ms" if event.HasField("latency_ms") else ""),
        ("job", event.job),
    ]
    for mapping in (event.units, event.price_context):
        pairs += sorted(mapping.items())
    pairs += sorted((name, value) for name, value in event.dimensions.items() if name != "status")
    return [pair for pair in pairs if pair[1]]
