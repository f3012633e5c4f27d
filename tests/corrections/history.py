"""A ledger with history for the tests of corrections: records as the services make them, rated again in process."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path

from costd.app import Core
from costd.clock import Clock, ManualClock
from costd.config import load
from costd.domain.access import Caller
from costd.domain.price_rule import PriceRule, parse_multiplier, parse_rate
from costd.domain.usage import Usage
from costd.services.price_checks import NewRule
from costd.services.repricing import Progress, Scope
from costd.store.integrity import check_ledger
from ledger import NOW_MS

ADMIN = Caller(1, "admin", "admin", frozenset({"admin"}))
DAY_MS = 86_400_000
Amount = int | Decimal


@contextmanager
def opened(folder: Path, clock: Clock | None = None) -> Iterator[Core]:
    """Store and services of a folder, closed in the end."""
    core = Core(load({"data_dir": str(folder)}, {}).config, clock or ManualClock(NOW_MS))
    try:
        yield core
    finally:
        assert core.close(20)


def record(
    core: Core, model: str, units: Mapping[str, Amount], at_ms: int = NOW_MS, request_id: str = "", **more: object
) -> int | None:
    """Record one call; its cost."""
    usage = Usage("app", model, tuple(sorted(units.items())), at_ms=at_ms, request_id=request_id, **more)  # type: ignore[arg-type]
    return core.services.metering.record(ADMIN, usage, "test").wait(20).cost_nano


def set_price(
    core: Core,
    model: str,
    rates: Mapping[str, str] | None = None,
    multiplier: str = "",
    from_ms: int = 10**12,
    **more: object,
) -> str:
    """Put a rule in the books, in USD for one of a unit; its id."""
    exact = {unit: parse_rate(usd, unit) for unit, usd in (rates or {}).items()}
    factor = parse_multiplier(multiplier) if multiplier else None
    rule = PriceRule("", None, "", model, (), exact, factor, 0)._replace(**more)
    return core.services.price_rules.set_rules(ADMIN, [NewRule(rule, from_ms=from_ms)])[0].stored.rule.id


def reprice(core: Core, scope: Scope = Scope({}), day_ms: int | None = None) -> Progress:  # noqa: B008 - a constant
    """Rate again in earnest; the last word."""
    return list(core.services.repricing.reprice(ADMIN, scope, day_ms, "test"))[-1]


def costs(core: Core) -> list[int | None]:
    """What each record costs now, the newest first."""
    return [view.cost_nano for view in core.services.reports.list_events(ADMIN, limit=1000).events]


def total_nano(core: Core, models: Sequence[str] = ()) -> int:
    """What reports say it all costs."""
    rows = core.services.reports.summarize(ADMIN, ["model"]).rows
    return sum(row.totals.cost_nano for row in rows if not models or row.dimensions["model"] in models)


def findings(core: Core) -> list[str]:
    """What the check of the ledger finds wrong."""
    with core.readers.snapshot(unbounded=True) as connection:
        return check_ledger(connection).findings


def copied(folder: Path, to: Path) -> Path:
    """A copy of a closed ledger."""
    shutil.copytree(folder, to)
    return to
