"""Budgets for programs and for people: as JSON has them, in words, and how they stand in tables."""

from __future__ import annotations

from collections.abc import Sequence

import click

from costd.cli.moments import iso
from costd.cli.output import print_pairs, print_table
from costd.domain.budget import DIMENSIONS
from costd.domain.money import usd_text
from costd.domain.window import FOREVER_MS, TOTAL
from costd.v1 import budget_pb2 as pb

_MINUTE_S, _HOUR_S, _DAY_S = 60, 3_600, 86_400
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


def described(budget: pb.Budget) -> dict[str, object]:
    """A budget as JSON has it."""
    times = {"since": budget.since_ms, "created": budget.created_ms, "updated": budget.updated_ms}
    return {
        "id": budget.id,
        "organization": budget.organization,
        **_said(budget),
        **{name: iso(at_ms) for name, at_ms in times.items()},
    }


def described_change(change: pb.BudgetChange) -> dict[str, object]:
    """A change of a budget as JSON has it."""
    return {
        "at": iso(change.at_ms),
        "actor": change.actor or None,
        "actor_name": change.actor_name or None,
        "action": change.action,
        "budget": _said(change.budget),
    }


def _said(budget: pb.Budget) -> dict[str, object]:
    return {
        "name": budget.name,
        "scope": _scope(budget),
        "each": budget.each or None,
        "amount_usd": usd_text(budget.amount_nano_usd),
        "period": budget.period,
        "timezone": budget.timezone,
        "anchor_day": budget.anchor_day,
        "alert_thresholds": list(budget.alert_thresholds),
        "hard": budget.hard,
        "on_unpriced": budget.on_unpriced,
        "on_hub_down": budget.on_hub_down,
        "revision": budget.revision,
    }


def described_window(window: pb.WindowStanding) -> dict[str, object]:
    """How a window stands, as JSON has it."""
    return {
        "value": window.value or None,
        "start": iso(window.start_ms),
        "end": None if window.end_ms >= FOREVER_MS else iso(window.end_ms),
        "revision": window.revision,
        "limit_usd": usd_text(window.limit_nano_usd),
        "settled_usd": usd_text(window.settled_nano_usd),
        "reserved_usd": usd_text(window.reserved_nano_usd),
        "held_usd": usd_text(window.held_nano_usd),
        "available_usd": usd_text(window.available_nano_usd),
        "overshoot_usd": usd_text(window.overshoot_nano_usd),
        "forecast_usd": usd_text(window.forecast_nano_usd) if window.HasField("forecast_nano_usd") else None,
        "seconds_to_exhaustion": window.exhausted_in_s if window.HasField("exhausted_in_s") else None,
        "holders": [
            {
                "source": holder.source or None,
                "bound_usd": usd_text(holder.bound_nano_usd),
                "settled_usd": usd_text(holder.settled_nano_usd),
                "held_usd": usd_text(holder.held_nano_usd),
            }
            for holder in window.holders
        ],
        "partial": window.partial,
    }


def usd(nano: int) -> str:
    """`$12.5`."""
    return f"-${usd_text(-nano)}" if nano < 0 else f"${usd_text(nano)}"


def scope_words(budget: pb.Budget, *, with_each: bool = True) -> str:
    """`team=video, model=gpt-4o, each user`."""
    said = [f"{dimension}={value}" for dimension, value in _scope(budget).items()]
    return ", ".join([*said, *([f"each {budget.each}"] if budget.each and with_each else [])])


def amount_words(budget: pb.Budget) -> str:
    """`$100 a month`."""
    per = " in all" if budget.period == TOTAL else f" {'an' if budget.period == 'hour' else 'a'} {budget.period}"
    return f"{usd(budget.amount_nano_usd)}{per}"


def period_words(budget: pb.Budget) -> str:
    """`month from day 15, Asia/Kolkata`."""
    anchor = ""
    if budget.period == "week":
        anchor = f" from {_DAYS[(budget.anchor_day - 1) % 7]}"
    elif budget.anchor_day != 1:
        anchor = f" from day {budget.anchor_day}"
    return f"{budget.period}{anchor}, {budget.timezone}"


def print_budget(answer: pb.BudgetStatusResponse) -> None:
    """A budget and how it stands."""
    budget = answer.budget
    if any(window.partial for window in answer.windows):
        click.echo("these figures are this sidecar's own: its hub knows of the others", err=True)
    alerts = ", ".join(f"{threshold} ({usd(_share(budget, threshold))})" for threshold in budget.alert_thresholds)
    pairs = [
        ("budget", budget.name),
        ("id", budget.id),
        ("of", scope_words(budget)),
        ("amount", amount_words(budget)),
        ("period", period_words(budget)),
        ("kind", "hard: calls are denied once it is spent" if budget.hard else "soft: nothing is denied"),
        ("alerts at", alerts or "-"),
        ("unpriced calls", "denied" if budget.on_unpriced == "deny" else "allowed"),
        ("without the hub", "denied" if budget.on_hub_down == "deny" else "allowed"),
        ("revision", f"{budget.revision}, since {iso(budget.since_ms)}"),
    ]
    if budget.each:
        print_pairs(pairs)
        click.echo("")
        if answer.windows:
            print_windows(answer.windows)
        left = answer.window_count - len(answer.windows)
        if left or not answer.windows:
            click.echo(f"and {left:,} more" if answer.windows else "nothing was spent or reserved in this period yet")
        return
    for window in answer.windows:
        pairs += _figures(window)
    print_pairs(pairs)
    for window in answer.windows:
        _print_holders(window)


def print_windows(windows: Sequence[pb.WindowStanding], *, is_past: bool = False) -> None:
    """A line for each window; without where it is heading once it `is_past`."""
    columns = ["value", "from", "until", "limit", "settled", "reserved", "held", "available", "overshoot"]
    ahead = [] if is_past else ["forecast", "exhausted in"]
    rows = [
        [
            window.value or "-",
            iso(window.start_ms),
            _end(window),
            usd(window.limit_nano_usd),
            usd(window.settled_nano_usd),
            usd(window.reserved_nano_usd),
            usd(window.held_nano_usd),
            usd(window.available_nano_usd),
            usd(window.overshoot_nano_usd),
            *([] if is_past else [_forecast(window), _exhausted(window)]),
        ]
        for window in windows
    ]
    print_table([*columns, *ahead], rows, numbers=[*columns[3:], *ahead])


def _figures(window: pb.WindowStanding) -> list[tuple[str, str]]:
    return [
        ("window", f"{iso(window.start_ms)} until {_end(window)}"),
        ("limit", usd(window.limit_nano_usd)),
        ("settled", usd(window.settled_nano_usd)),
        ("held", f"{usd(window.held_nano_usd)}, of which {usd(window.reserved_nano_usd)} reserved here"),
        ("available", usd(window.available_nano_usd)),
        ("overshoot", usd(window.overshoot_nano_usd)),
        ("forecast", _forecast(window)),
        ("exhausted in", _exhausted(window)),
    ]


def _print_holders(window: pb.WindowStanding) -> None:
    if not any(holder.source for holder in window.holders):
        return
    click.echo("")
    rows = [
        [
            holder.source or "(this daemon)",
            usd(holder.bound_nano_usd),
            usd(holder.settled_nano_usd),
            usd(holder.held_nano_usd),
        ]
        for holder in window.holders
    ]
    print_table(["source", "granted", "settled", "held"], rows, numbers=["granted", "settled", "held"])


def _scope(budget: pb.Budget) -> dict[str, str]:
    """The scope in its order, which a message's map does not keep."""
    return {dimension: budget.scope[dimension] for dimension in DIMENSIONS if dimension in budget.scope}


def _share(budget: pb.Budget, threshold: str) -> int:
    digits = threshold.partition(".")[2]
    parts = 10 ** len(digits)
    return -(-budget.amount_nano_usd * int(threshold.replace(".", "")) // int(parts))


def _end(window: pb.WindowStanding) -> str:
    return "ever" if window.end_ms >= FOREVER_MS else iso(window.end_ms)


def _forecast(window: pb.WindowStanding) -> str:
    return usd(window.forecast_nano_usd) if window.HasField("forecast_nano_usd") else "-"


def _exhausted(window: pb.WindowStanding) -> str:
    """`2 h 5 min`; "-" where it lasts."""
    if not window.HasField("exhausted_in_s"):
        return "-"
    seconds = window.exhausted_in_s
    if not seconds:
        return "now"
    for length, unit, rest, smaller in ((_DAY_S, "d", _HOUR_S, "h"), (_HOUR_S, "h", _MINUTE_S, "min")):
        if seconds >= length:
            return f"{seconds // length} {unit} {seconds % length // rest} {smaller}"
    return f"{seconds // _MINUTE_S} min" if seconds >= _MINUTE_S else f"{seconds} s"
