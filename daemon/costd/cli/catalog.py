"""What `costd users`, `projects`, `teams` and `workspaces` share: their options, reading pages, and how rows look."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import click

from costd.cli.connection import connected
from costd.cli.moments import iso_or_none
from costd.cli.options import Reach
from costd.cli.output import print_csv, print_json, print_table
from costd.v1 import catalog_pb2

#: A row as JSON and CSV have it: by name, None where there is nothing.
Row = Mapping[str, Any]

_PAGE = 1000

spend_option = click.option(
    "--spend", "with_spend", is_flag=True, help="Show what each has used and spent in the last 30 days, too."
)
limit_option = click.option("--limit", type=click.IntRange(min=1), metavar="N", help="At most so many. [default: all]")
app_filter = click.option("--source-app", metavar="APP", help="Only those of this application.")
team_filter = click.option("--team", metavar="TEAM", help="Only those assigned to this team; '' for those of none.")
workspace_filter = click.option(
    "--workspace", metavar="WORKSPACE", help="Only those in this workspace; '' for those in none."
)
unregistered_option = click.option(
    "--unregistered", is_flag=True, help="Only those that are named somewhere, but that nobody has registered."
)
whose_option = click.option(
    "--source-app", metavar="APP", help="The application whose ids these are; needed where several have the same."
)
name_option = click.option("--name", metavar="NAME", help="What people call it; '' for nothing.")
team_option = click.option("--team", metavar="TEAM", help="The team it belongs to; '' for none.")
workspace_option = click.option("--workspace", metavar="WORKSPACE", help="The workspace it belongs to; '' for none.")


class Listing(NamedTuple):
    """One kind's list: the call of AdminService, the field of its rows, and how a row looks to programs and people."""

    call: str
    name: str
    message: Callable[..., Any]
    row: Callable[[Any], Row]
    cells: Callable[[Row], Mapping[str, str]]


def print_list(reach: Reach, listing: Listing, request: Any, limit: int | None, *, as_json: bool, as_csv: bool) -> None:
    """Read all rows, or `limit` of them, and print them: JSON, CSV with the same columns, or a table."""
    rows = [listing.row(message) for message in _read(reach, listing, request, limit)]
    if as_json:
        print_json({listing.name: rows})
    elif as_csv:
        spend = catalog_pb2.CatalogSpend() if request.with_spend else None
        print_csv([*listing.row(listing.message(spend=spend))], ([*row.values()] for row in rows))
    elif rows:
        cells = [{**listing.cells(row), **_spend_cells(row)} for row in rows]
        print_table([*cells[0]], [[*row.values()] for row in cells], numbers=[*_COUNTS, *_SPEND])
    else:
        click.echo(f"no {listing.name}")


def _read(reach: Reach, listing: Listing, request: Any, limit: int | None) -> list[Any]:
    found: list[Any] = []
    with connected(reach) as daemon:
        while limit is None or len(found) < limit:
            request.limit = _PAGE if limit is None else min(_PAGE, limit - len(found))
            answer = daemon.ask(getattr(daemon.admin, listing.call), request)
            found += getattr(answer, listing.name)
            request.cursor = answer.next_cursor
            if not request.cursor:
                break
    return found


def spend_of(row: Any) -> dict[str, object]:
    """The columns of a row's spend; none where it was not asked for."""
    if not row.HasField("spend"):
        return {}
    spend: catalog_pb2.CatalogSpend = row.spend
    return {
        "requests_30d": spend.requests,
        "cost_usd_30d": spend.cost_usd if spend.HasField("cost_usd") else None,
        "unpriced_30d": spend.unpriced,
    }


def times_of(row: Any) -> dict[str, object]:
    """When a row was made and last changed."""
    return {"created": iso_or_none(row.created_ms), "updated": iso_or_none(row.updated_ms)}


def shown(value: object) -> str:
    """A cell for people."""
    return "-" if value is None else f"{value:,}" if isinstance(value, int) else str(value)


def print_set(kind: str, row: Row, *, as_json: bool) -> None:
    """What a setting came to."""
    if as_json:
        print_json(row)
        return
    of = f' of "{row["source_app"]}"' if "source_app" in row else ""
    click.echo(f'set {kind} "{row["id"]}"{of}')


def change(reach: Reach, call: str, request: Any) -> Any:
    """The answer to a change."""
    with connected(reach) as daemon:
        return daemon.ask(getattr(daemon.admin, call), request)


def assign(reach: Reach, request: catalog_pb2.AssignRequest, *, as_json: bool) -> None:
    """Assign, and say what came of it; slips of the keyboard are hinted at on stderr."""
    made: catalog_pb2.AssignResponse = change(reach, "Assign", request)
    if as_json:
        print_json(
            {
                "changed": made.changed,
                "unchanged": made.unchanged,
                "new_teams": list(made.new_teams),
                "unregistered_team": made.unregistered_team or None,
                "unregistered_workspace": made.unregistered_workspace or None,
            }
        )
    else:
        already = f"; {made.unchanged:,} belonged there already" if made.unchanged else ""
        click.echo(f"assigned {made.changed:,}{already}")
    for team in made.new_teams:
        click.echo(f'the team "{team}" is registered now', err=True)
    for kind, id_ in (("team", made.unregistered_team), ("workspace", made.unregistered_workspace)):
        if id_:
            said = f'nobody has registered the {kind} "{id_}"; `costd {kind}s set` does, if it is meant'
            click.echo(said, err=True)


def _spend_cells(row: Row) -> dict[str, str]:
    if "requests_30d" not in row:
        return {}
    requests, unpriced, usd = row["requests_30d"], row["unpriced_30d"], row["cost_usd_30d"]
    cost = [] if usd is None or not requests else [f"${usd}"]
    cost += [f"unpriced: {unpriced:,}"] if unpriced else []
    return dict(zip(_SPEND, (shown(requests), " + ".join(cost) or "-"), strict=True))


_SPEND = ("requests in 30 days", "cost in 30 days")
_COUNTS = ("projects", "users", "keys", "teams")
