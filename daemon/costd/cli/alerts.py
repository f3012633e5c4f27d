"""`costd alerts`: what budgets had to say, and whether anybody would hear of it."""

from __future__ import annotations

import click

from costd.cli.connection import connected
from costd.cli.moments import iso_or_none
from costd.cli.options import Reach, csv_option, daemon_options, json_option
from costd.cli.output import print_csv, print_json, print_table
from costd.domain.alerting import dollars
from costd.domain.money import usd_text
from costd.domain.window import FOREVER_MS
from costd.v1 import alert_pb2 as pb

#: What a line of CSV tells of an alert, by the names it has in JSON.
_COLUMNS = (
    "id",
    "at",
    "budget_id",
    "budget",
    "value",
    "kind",
    "threshold",
    "settled_usd",
    "limit_usd",
    "forecast_usd",
    "window_start",
    "window_end",
)


@click.group("alerts", epilog="Example: costd alerts list")
def command() -> None:
    """List alerts of budgets, and test where they go."""


@command.command("list", epilog="Example: costd alerts list --budget video")
@click.option("--budget", metavar="NAME", default="", help="Only of the budget with this name or id.")
@click.option("--limit", type=click.IntRange(1, 1000), default=None, metavar="N", help="At most so many; 100 if not.")
@click.option("--cursor", metavar="CURSOR", default="", help="Go on after a page: its next_cursor.")
@daemon_options
@json_option
@csv_option
def list_alerts(budget: str, limit: int | None, cursor: str, reach: Reach, *, as_json: bool, as_csv: bool) -> None:
    """List what budgets had to say, newest first, and how far each way out has come."""
    request = pb.ListAlertsRequest(budget=budget, cursor=cursor, limit=limit or 0)
    with connected(reach) as daemon:
        answer: pb.ListAlertsResponse = daemon.ask(daemon.query.ListAlerts, request)
    alerts = [_described(alert) for alert in answer.alerts]
    if as_json:
        print_json({"alerts": alerts, "next_cursor": answer.next_cursor or None})
    elif as_csv:
        print_csv(_COLUMNS, ([alert[name] for name in _COLUMNS] for alert in alerts))
    elif not alerts:
        click.echo("there are no alerts")
    else:
        columns = ["at", "budget", "value", "kind", "threshold", "settled", "limit", "forecast", "delivered"]
        print_table(columns, [_row(alert) for alert in answer.alerts], numbers=["settled", "limit", "forecast"])
        if answer.next_cursor:
            click.echo(f"there are more: --cursor {answer.next_cursor}", err=True)


@command.command("test", epilog="Example: costd alerts test")
@daemon_options
@json_option
def test(reach: Reach, *, as_json: bool) -> None:
    """Send a test by every way out that is configured; exit 1 where one does not accept it, or there is none."""
    with connected(reach) as daemon:
        answer: pb.TestAlertsResponse = daemon.ask(daemon.admin.TestAlerts, pb.TestAlertsRequest())
    if as_json:
        print_json(
            {"deliveries": [{"channel": tried.channel, "error": tried.error or None} for tried in answer.deliveries]}
        )
    elif not answer.deliveries:
        click.echo("alerts go nowhere but to the log: set alerts.webhook_url, alerts.slack_url or alerts.smtp_host")
    else:
        print_table(["channel", "test"], [[tried.channel, tried.error or "accepted"] for tried in answer.deliveries])
    if not answer.deliveries or any(tried.error for tried in answer.deliveries):
        raise click.exceptions.Exit(1)


def _described(alert: pb.Alert) -> dict[str, object]:
    return {
        "id": alert.id,
        "at": iso_or_none(alert.at_ms),
        "budget_id": alert.budget_id,
        "budget": alert.budget,
        "value": alert.value or None,
        "kind": alert.kind,
        "threshold": alert.threshold,
        "settled_usd": usd_text(alert.settled_nano_usd),
        "limit_usd": usd_text(alert.limit_nano_usd),
        "forecast_usd": usd_text(alert.forecast_nano_usd) if alert.HasField("forecast_nano_usd") else None,
        "window_start": iso_or_none(alert.window_start_ms),
        "window_end": iso_or_none(alert.window_end_ms if alert.window_end_ms < FOREVER_MS else 0),
        "deliveries": [
            {
                "channel": delivery.channel,
                "attempts": delivery.attempts,
                "delivered": iso_or_none(delivery.delivered_ms),
                "next": iso_or_none(delivery.next_ms),
                "error": delivery.error or None,
            }
            for delivery in alert.deliveries
        ],
    }


def _row(alert: pb.Alert) -> list[str]:
    return [
        iso_or_none(alert.at_ms) or "-",
        alert.budget,
        alert.value or "-",
        alert.kind,
        alert.threshold,
        dollars(alert.settled_nano_usd),
        dollars(alert.limit_nano_usd),
        dollars(alert.forecast_nano_usd) if alert.HasField("forecast_nano_usd") else "-",
        ", ".join(f"{delivery.channel}: {_word(delivery)}" for delivery in alert.deliveries) or "-",
    ]


def _word(delivery: pb.AlertDelivery) -> str:
    if delivery.delivered_ms:
        return "accepted"
    return f"tried {delivery.attempts} times: {delivery.error}" if delivery.attempts else "waits"
