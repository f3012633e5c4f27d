"""Budgets of one data folder, built: their definitions, and the tills that hold everybody to them."""

from __future__ import annotations

from typing import NamedTuple

from costd.app.roads import Ground
from costd.services.alert_outbox import AlertOutbox
from costd.services.alerts import Alerts
from costd.services.budget_gauges import BudgetGauges
from costd.services.budget_status import BudgetStatus
from costd.services.budgets import Budgets
from costd.services.burn import Burn
from costd.services.forwarding import Forwarding
from costd.services.hub import Hub
from costd.services.hub_sync import HubSync
from costd.services.leasing import Leasing
from costd.services.lending import Lending
from costd.services.membership import Membership
from costd.services.prices import Prices
from costd.services.slices import Slices
from costd.services.sources import Sources
from costd.services.till_keeper import TillKeeper
from costd.services.tills import Tills


class Treasury(NamedTuple):
    """All of it."""

    budgets: Budgets
    status: BudgetStatus
    tills: Tills
    keeper: TillKeeper
    alerts: Alerts


def build_treasury(ground: Ground, membership: Membership, prices: Prices) -> Treasury:
    """Everything about budgets; the writer charges them from now on."""
    config = ground.config
    budgets = Budgets(ground.writer, ground.readers, ground.clock, membership, prices.canonical_provider)
    tills = Tills(
        ground.writer,
        ground.readers,
        budgets,
        ground.clock,
        reservation_minutes=config.budgets.reservation_minutes,
        max_reservations=config.budgets.max_reservations,
        is_joined=config.hub.address is not None,
    )
    if tills.is_joined:
        tills.funding = Slices(tills, ground.clock, budgets.known_seq, lambda: ground.writer.ledger.last_seq)
    ground.writer.budgeting = tills
    status = BudgetStatus(budgets, ground.readers, ground.clock)
    status.read_tills_from(tills.books_of, tills.reserved_in)
    burn = Burn(ground.clock)
    tills.charged_watchers.append(burn.note)
    status.read_burn_from(burn.of)
    gauges = BudgetGauges(
        budgets,
        status,
        tills,
        max_series=config.metrics.max_series,
        max_reservations=config.budgets.max_reservations,
    )
    ground.metrics.read_budgets_from(gauges.readings, gauges.reservations)
    alerts = _build_alerts(ground, budgets)
    tills.charged_watchers.append(alerts.charged)
    return Treasury(budgets, status, tills, TillKeeper(tills), alerts)


def build_lending(
    ground: Ground, tills: Tills, sources: Sources | None, hub: Hub | None, hub_sync: HubSync | None
) -> Lending | None:
    """What grants sources slices; None at a sidecar."""
    if sources is None or hub is None or hub_sync is None:
        return None
    use_minutes = ground.config.budgets.use_minutes
    lending = Lending(ground.writer, ground.readers, ground.clock, ground.metrics, tills, hub, use_minutes=use_minutes)
    tills.funding = lending
    sources.tell_forgotten(lending.forget)
    sources.read_awaited_from(lambda: lending.awaited)
    hub_sync.watch_epoch(lending.look)
    return lending


def build_leasing(ground: Ground, tills: Tills, forwarding: Forwarding | None) -> Leasing | None:
    """What asks the hub for slices; None where there is no hub, or in a process that serves one command."""
    if forwarding is None or not isinstance(tills.funding, Slices):
        return None
    from costd.wire.outbound.channel import HubDoor  # noqa: PLC0415 - only where it is needed
    from costd.wire.outbound.lease_link import LeaseLink  # noqa: PLC0415

    return Leasing(
        ground.writer,
        ground.readers,
        ground.clock,
        ground.metrics,
        tills.funding,
        forwarding,
        lambda: LeaseLink(HubDoor(ground.config)),
        ttl_ms=round(ground.config.budgets.reservation_minutes * 60_000),
    )


def _build_alerts(ground: Ground, budgets: Budgets) -> Alerts:
    from costd.wire.outbound.alert_channels import build_channels  # noqa: PLC0415 - only what is needed is imported

    config, clock, metrics = ground.config, ground.clock, ground.metrics
    channels = build_channels(config.alerts, clock)
    outbox = AlertOutbox(ground.writer, ground.readers, clock, metrics, channels)
    metrics.read_alerts_from(outbox.readings)
    is_authority = config.hub.address is None
    return Alerts(ground.writer, ground.readers, clock, metrics, budgets, outbox, is_authority=is_authority)
