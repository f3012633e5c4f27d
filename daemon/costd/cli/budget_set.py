"""`costd budgets set`: how much may be spent on what, how often anew, and what happens then."""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal

import click

from costd.cli.budget_text import amount_words, described, period_words, scope_words
from costd.cli.connection import connected
from costd.cli.options import Reach, daemon_options, json_option
from costd.cli.output import print_json, safe
from costd.cli.suggestions import budget_dimensions, budget_scopes, words
from costd.domain.budget import DIMENSIONS, POLICIES
from costd.domain.budget_change import parse_thresholds
from costd.domain.errors import Invalid
from costd.domain.money import MAX_ENTRY_NANO, parse_usd
from costd.domain.window import PERIODS
from costd.v1 import budget_pb2 as pb

#: What the daemon calls a field, and the flag that says it.
_FLAGS = {
    "name": "NAME",
    "scope": "--scope",
    "each": "--each",
    "amount_nano_usd": "--amount",
    "period": "--period",
    "timezone": "--timezone",
    "anchor_day": "--anchor-day",
    "alert_thresholds": "--alert",
    "on_unpriced": "--on-unpriced",
    "on_hub_down": "--on-hub-down",
}
_AMOUNT = re.compile(r"\d{1,30}(\.\d{1,30})?|\.\d{1,30}", re.ASCII)
_NONE = "none"
_MAX_DAY = 31


@click.command("set", epilog="Example: costd budgets set video --scope team=video --amount 100 --alert 0.5,0.8,1.0")
@click.argument("name", metavar="NAME")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    metavar="DIMENSION=VALUE",
    shell_complete=budget_scopes,
    help=f"What it is for: {', '.join(DIMENSIONS)}. Repeatable: a record must have all of them.",
)
@click.option(
    "--each",
    default="",
    metavar="DIMENSION",
    shell_complete=budget_dimensions,
    help='Every value of this has the whole amount for itself; "none": all share it. [default: none]',
)
@click.option("--amount", metavar="USD", help="How much may be spent in one period; needed where it is new.")
@click.option(
    "--period",
    default="",
    metavar="PERIOD",
    shell_complete=words(PERIODS),
    help=f"{', '.join(PERIODS)}. [default: month]",
)
@click.option("--timezone", metavar="ZONE", help="Whose days these are: Europe/London. [default: UTC]")
@click.option(
    "--anchor-day", type=int, metavar="DAY", help="On which day of the month, or of the week, it begins. [default: 1]"
)
@click.option(
    "--alert",
    metavar="SHARES",
    help='At which shares of the amount an alert goes out: 0.5,0.8,1.0; or "none". [default: none]',
)
@click.option("--hard", is_flag=True, help="Calls are denied once it is spent, which is the default.")
@click.option("--soft", is_flag=True, help="Nothing is denied; it is counted, and alerts go out.")
@click.option(
    "--on-unpriced",
    default="",
    metavar="POLICY",
    shell_complete=words(POLICIES),
    help="Calls whose price is not known: deny or allow. [default: allow]",
)
@click.option(
    "--on-hub-down",
    default="",
    metavar="POLICY",
    shell_complete=words(POLICIES),
    help="Calls for which no money is at hand while the hub is out of reach: deny or allow. [default: deny]",
)
@daemon_options
@json_option
def set_budget(
    name: str,
    reach: Reach,
    *,
    scopes: tuple[str, ...],
    each: str,
    amount: str | None,
    period: str,
    timezone: str,
    anchor_day: int | None,
    alert: str | None,
    hard: bool,
    soft: bool,
    on_unpriced: str,
    on_hub_down: str,
    as_json: bool,
) -> None:
    """Make the budget called NAME, or change it: what is not given stays as it is.

    In force when this returns, at sidecars of a hub within seconds. What was recorded in the present period counts.
    Another scope, --each, period, time zone or anchor day begins anew; another amount keeps what is spent.
    """
    if hard and soft:
        raise click.UsageError("--hard and --soft exclude each other")
    request = pb.SetBudgetRequest(
        name=name,
        scope=_scope(scopes),
        each="-" if each == _NONE else each,
        amount_nano_usd=None if amount is None else _amount(amount),
        period=period,
        timezone=timezone,
        anchor_day=None if anchor_day is None else _day(anchor_day),
        alert_thresholds=_shares(alert),
        no_alerts=alert is not None and not _shares(alert),
        hard=hard if hard or soft else None,
        on_unpriced=on_unpriced,
        on_hub_down=on_hub_down,
    )
    with connected(reach, create=True) as daemon:
        try:
            made: pb.Budget = daemon.ask(daemon.admin.SetBudget, request)
        except Invalid as refusal:
            raise _flagged(refusal) from None
    if as_json:
        print_json(described(made))
        return
    kind = "hard" if made.hard else "soft"
    click.echo(safe(f'set "{made.name}": {scope_words(made)}: {amount_words(made)} ({period_words(made)}), {kind}'))
    if made.revision > 1 and made.since_ms == made.updated_ms:
        click.echo(f"revision {made.revision}: what was spent is counted anew by what it says now", err=True)


def _scope(scopes: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in scopes:
        dimension, equals, value = text.partition("=")
        if not (equals and dimension.strip() and value.strip()):
            raise Invalid("--scope", f'"{text[:64]}" must be DIMENSION=VALUE, such as team=video')
        if dimension.strip() in found:
            raise Invalid("--scope", f"names {dimension.strip()} twice; a record has to have all of them at once")
        found[dimension.strip()] = value.strip()
    return found


def _amount(text: str) -> int:
    if not _AMOUNT.fullmatch(text.strip()):
        raise Invalid("--amount", f'"{text[:32]}" must be an amount of USD in digits, such as 100 or 2.50')
    return parse_usd(Decimal(text.strip()), "--amount", limit_nano=MAX_ENTRY_NANO)


def _day(day: int) -> int:
    if not 1 <= day <= _MAX_DAY:
        raise Invalid("--anchor-day", f"must be between 1 and {_MAX_DAY}, and for weeks between 1 (Monday) and 7")
    return day


def _shares(alert: str | None) -> list[str]:
    texts = [] if alert is None or alert.strip() in {"", _NONE} else alert.split(",")
    parse_thresholds(texts, "--alert")
    return [text.strip() for text in texts]


def _flagged(refusal: Invalid) -> Invalid:
    """What the daemon refused, in terms of the flags."""
    path, colon, reason = refusal.message.partition(": ")
    head, _, rest = path.partition(".")
    if not colon or head not in _FLAGS:
        return refusal
    return Invalid(f"{_FLAGS[head]} {rest}".rstrip(), reason)
