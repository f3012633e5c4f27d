"""`costd status`: how a daemon is."""

from __future__ import annotations

from typing import NamedTuple

import click

from costd.cli import link
from costd.cli.connection import Daemon, connected
from costd.cli.moments import iso_or_none
from costd.cli.options import Reach, daemon_options, json_option
from costd.cli.output import print_json, print_pairs, print_table
from costd.domain.errors import DaemonUnreachable
from costd.v1 import admin_pb2, budget_pb2


class _Budgets(NamedTuple):
    """How many budgets there are, and the names of hard ones that deny calls."""

    total: int
    hard: int
    spent: list[str]


@click.command("status", epilog="Example: costd status --address costd.internal:7430 --ca /etc/costd/ca.pem")
@daemon_options
@json_option
def command(reach: Reach, *, as_json: bool) -> None:
    """Show how a daemon is: its queue, its ledger, its road to the hub, how fresh its records are.

    Where no daemon holds the data folder the state is "stopped", and the ledger is shown as it lies there.
    """
    with connected(reach) as daemon:
        answer: admin_pb2.StatusResponse = daemon.ask(daemon.admin.Status, admin_pb2.StatusRequest())
        budgets = _budgets(daemon)
        is_offline = daemon.target.is_offline
    if as_json:
        print_json(
            {**_described(answer, is_offline=is_offline), "budgets": None if budgets is None else budgets._asdict()}
        )
        return
    road = link.pairs(answer.hub) if answer.HasField("hub") else []
    print_pairs([*_pairs(answer, is_offline=is_offline), *_budget_pairs(budgets), *road])
    if answer.providers:
        rows = [[entry.provider, entry.freshness, iso_or_none(entry.newest_ms) or "-"] for entry in answer.providers]
        print_table(["provider", "freshness", "newest record"], rows)


def _described(answer: admin_pb2.StatusResponse, *, is_offline: bool) -> dict[str, object]:
    return {
        "state": "stopped" if is_offline else answer.state,
        "problems": [] if is_offline else list(answer.problems),
        "version": answer.version,
        "mode": answer.mode,
        "data_dir": answer.data_dir,
        "grpc": None if is_offline else answer.grpc_address or None,
        "http": None if is_offline else answer.http_address or None,
        "socket": None if is_offline else answer.socket_path or None,
        "auth": answer.auth,
        "started": None if is_offline else iso_or_none(answer.started_ms),
        "last_commit": None if is_offline else iso_or_none(answer.last_commit_ms),
        "queue": {
            "records": answer.queued_records,
            "bytes": answer.queued_bytes,
            "max_records": answer.queue_max_records,
            "max_bytes": answer.queue_max_bytes,
        },
        "events": answer.events,
        "accepted": answer.accepted,
        "duplicates": answer.duplicates,
        "rejected": answer.rejected,
        "database_bytes": answer.database_bytes,
        "wal_bytes": answer.wal_bytes,
        "price_list": answer.price_list,
        "freshness": answer.freshness,
        "providers": {
            entry.provider: {"freshness": entry.freshness, "newest": iso_or_none(entry.newest_ms)}
            for entry in answer.providers
        },
        "hub": link.described(answer.hub) if answer.HasField("hub") else None,
    }


def _budgets(daemon: Daemon) -> _Budgets | None:
    """What is said of budgets; None by an older daemon."""
    try:
        answer: budget_pb2.ListBudgetsResponse = daemon.ask(daemon.query.ListBudgets, budget_pb2.ListBudgetsRequest())
    except DaemonUnreachable:
        return None
    hard = [found for found in answer.budgets if found.budget.hard]
    # A sidecar that has a hub does not know what is left of the hub's.
    known = [found for found in hard if found.HasField("window") and not found.window.partial]
    spent = [found.budget.name for found in known if not found.window.available_nano_usd]
    return _Budgets(len(answer.budgets), len(hard), spent)


def _budget_pairs(budgets: _Budgets | None) -> list[tuple[str, str]]:
    if budgets is None:
        return []
    spent = f"; spent: {', '.join(budgets.spent)}" if budgets.spent else ""
    return [("budgets", f"{budgets.total:,}, {budgets.hard:,} of them hard{spent}" if budgets.total else "none")]


def _pairs(answer: admin_pb2.StatusResponse, *, is_offline: bool) -> list[tuple[str, str]]:
    pairs = [
        ("state", "stopped" if is_offline else ": ".join(filter(None, [answer.state, "; ".join(answer.problems)]))),
        ("version", answer.version),
        ("mode", answer.mode),
        ("data folder", answer.data_dir),
        ("records", f"{answer.events:,}"),
        ("database", f"{answer.database_bytes:,} bytes, log {answer.wal_bytes:,} bytes"),
        ("price list", answer.price_list),
        ("freshness", answer.freshness),
    ]
    if is_offline:
        return pairs
    return [
        *pairs,
        ("started", iso_or_none(answer.started_ms) or "-"),
        ("last commit", iso_or_none(answer.last_commit_ms) or "none since the start"),
        ("since start", f"{answer.accepted:,} accepted, {answer.duplicates:,} duplicates, {answer.rejected:,} refused"),
        (
            "queue",
            _share(answer.queued_records, answer.queue_max_records, "records")
            + ", "
            + _share(answer.queued_bytes, answer.queue_max_bytes, "bytes"),
        ),
        ("gRPC", answer.grpc_address or "off"),
        ("HTTP", answer.http_address or "off"),
        ("socket", answer.socket_path or "off"),
        ("keys", "needed" if answer.auth else "not needed (auth is off)"),
    ]


def _share(part: int, whole: int, noun: str) -> str:
    return f"{part:,} of {whole:,} {noun}"
