"""The services of one daemon, as the doors are handed them."""

from __future__ import annotations

from dataclasses import dataclass

from costd.clock import Clock
from costd.config import Config
from costd.metrics import Metrics
from costd.services.access import Access
from costd.services.admission import Admission
from costd.services.alerts import Alerts
from costd.services.audit import AuditTrail
from costd.services.batching import Batching
from costd.services.budget_status import BudgetStatus
from costd.services.budgets import Budgets
from costd.services.catalog import Catalog
from costd.services.catalog_lists import CatalogLists
from costd.services.exports import Exports
from costd.services.forwarding import Forwarding
from costd.services.health import Health
from costd.services.hub import Hub
from costd.services.hub_sync import HubSync
from costd.services.joined import Joined
from costd.services.lending import Lending
from costd.services.link import Link
from costd.services.metering import Metering
from costd.services.months import Months
from costd.services.price_rules import PriceRules
from costd.services.prices import Prices
from costd.services.prompts import Prompts
from costd.services.proxied_bodies import ProxiedBodies
from costd.services.proxy_endpoints import ProxyEndpoints
from costd.services.quarantine import Quarantine
from costd.services.reports import Reports
from costd.services.repricing import Repricing
from costd.services.sources import Sources
from costd.services.spending import Spending
from costd.services.tails import Tails
from costd.services.tills import Tills
from costd.services.unpriced import Unpriced
from costd.services.usage_log import UsageLog


@dataclass(frozen=True, slots=True)
class Services:
    """Everything a door may call."""

    config: Config
    clock: Clock
    metrics: Metrics
    prices: Prices
    price_rules: PriceRules
    access: Access
    audit: AuditTrail
    budgets: Budgets
    budget_status: BudgetStatus
    tills: Tills
    alerts: Alerts
    metering: Metering
    batching: Batching
    admission: Admission
    months: Months
    catalog: Catalog
    catalog_lists: CatalogLists
    reports: Reports
    repricing: Repricing
    spending: Spending
    unpriced: Unpriced
    usage_log: UsageLog
    exports: Exports
    tails: Tails
    health: Health
    quarantine: Quarantine
    link: Link
    proxy_endpoints: ProxyEndpoints
    prompts: Prompts
    proxied_bodies: ProxiedBodies
    #: At a sidecar with a hub.
    forwarding: Forwarding | None
    joined: Joined | None
    #: At a hub.
    hub: Hub | None
    hub_sync: HubSync | None
    lending: Lending | None
    sources: Sources | None
