"""Store and services of one data folder, built and taken down in order."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from costd.app.budgets import build_leasing, build_lending, build_treasury
from costd.app.roads import Ground, Rules, build_forwarding, build_hub, build_hub_sync, build_joined
from costd.clock import Clock
from costd.config import HUB
from costd.domain.usage import TimeLimits
from costd.metrics import Metrics
from costd.services.access import Access
from costd.services.admin_key import ensure_admin_key
from costd.services.admission import Admission
from costd.services.audit import AuditTrail
from costd.services.batching import Batching
from costd.services.catalog import Catalog
from costd.services.catalog_lists import CatalogLists
from costd.services.exports import Exports
from costd.services.health import Health
from costd.services.ledger_mode import settled_mode
from costd.services.link import Link
from costd.services.membership import Membership
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
from costd.services.services import Services
from costd.services.sources import Sources
from costd.services.spending import Spending
from costd.services.stale_keys import StaleKeys
from costd.services.tails import Tails
from costd.services.unpriced import Unpriced
from costd.services.upkeep import Upkeep
from costd.services.usage_log import UsageLog
from costd.store.commit import Change
from costd.store.connection import DATABASE_NAME, damaged
from costd.store.folder import make_private
from costd.store.hub_link import read_link
from costd.store.hub_state import ensure_hub_state
from costd.store.lock import FolderLock
from costd.store.price_list import load_price_list
from costd.store.reader import Readers
from costd.store.retention import RetentionLimits
from costd.store.space import DiskReserve
from costd.store.totals import load_adjustments, load_latencies, load_totals
from costd.store.writer import Writer

if TYPE_CHECKING:
    from costd.config import Config

DAY_MS = 86_400_000

_log = logging.getLogger(__name__)


class Core:
    """Store and services of one data folder, without doors; holds the folder's lock from start to close."""

    def __init__(self, config: Config, clock: Clock, *, local_token: str = "") -> None:
        make_private(config.data_dir, config.written("data_dir"))
        self._lock = FolderLock.acquire(config.data_dir)
        try:
            self._build(config, clock, local_token)
        except BaseException:
            self._lock.release()
            raise

    def _build(self, config: Config, clock: Clock, local_token: str) -> None:
        path = config.data_dir / DATABASE_NAME
        installed = load_price_list(config.data_dir)
        metrics = Metrics(config.metrics.labels, config.metrics.max_series)
        self.writer = _writer(path, config, clock, metrics)
        self.writer.start()
        try:
            self._open_readers(path, clock)
            config = settled_mode(config, self.readers, offline=bool(local_token))
            membership = self._membership(config)
            prices = Prices(self.writer, self.readers, clock, installed, membership)
            access = Access(
                self.writer, self.readers, clock, membership, auth_required=config.auth, local_token=local_token
            )
            self._load_metrics(metrics, config.metrics.labels, prices)
            self.admin_key_file = ensure_admin_key(access, config.data_dir)
            limits = TimeLimits(config.limits.past_days * DAY_MS, config.limits.future_minutes * 60_000)
            ground = Ground(config, clock, metrics, self.writer, self.readers, self.sync_readers)
            budgets, budget_status, tills, self.till_keeper, alerts = build_treasury(ground, membership, prices)
            rules = Rules(prices, budgets, self._proxy_endpoints(config, clock))
            metering = Metering(self.writer, prices, limits, clock, metrics, tills)
            health = Health(self.writer, self.readers, clock, metrics)
            self.services = Services(
                config=config,
                clock=clock,
                metrics=metrics,
                prices=prices,
                price_rules=PriceRules(prices, self.readers, clock),
                access=access,
                audit=AuditTrail(self.readers),
                budgets=budgets,
                budget_status=budget_status,
                tills=tills,
                alerts=alerts,
                metering=metering,
                batching=Batching(self.writer, metering, prices, limits, clock, metrics),
                admission=Admission(prices, tills, clock, metrics, hub_wait_ms=config.budgets.hub_wait_ms),
                months=Months(self.writer, metrics),
                catalog=Catalog(self.writer, self.readers),
                catalog_lists=CatalogLists(self.readers, clock),
                repricing=Repricing(self.writer, self.readers, prices),
                reports=Reports(self.readers, self.writer, clock),
                spending=Spending(self.readers, clock, prices.canonical_provider),
                unpriced=Unpriced(prices, self.readers, clock),
                usage_log=UsageLog(self.readers),
                exports=Exports(self.readers, health),
                tails=Tails(self.readers, self.writer, health),
                health=health,
                sources=(sources := self._sources(config, access, clock)),
                hub=(hub := build_hub(ground, sources)),
                hub_sync=(hub_sync := build_hub_sync(ground, sources, hub, health, access, rules)),
                lending=build_lending(ground, tills, sources, hub, hub_sync),
                quarantine=Quarantine(self.writer, self.readers, hub),
                forwarding=(forwarding := None if local_token else build_forwarding(ground)),
                joined=(joined := None if local_token else build_joined(ground, access, rules, membership)),
                proxy_endpoints=rules.endpoints,
                prompts=Prompts(self.readers, self.sync_readers, clock),
                proxied_bodies=ProxiedBodies(self.writer, self.readers, clock),
                link=Link(forwarding, joined, self.readers, clock, health),
            )
            self.leasing = build_leasing(ground, tills, forwarding)
            metrics.read_link_from(self.services.link.report)
            self.stale_keys = StaleKeys(access, clock, config.sync, joined.heard if joined else self._last_heard)
            self.stale_keys.beat()
            self.upkeep = Upkeep(self.writer, self.readers, access, _retention(config, limits))
        except BaseException as error:
            self.writer.stop(1.0)
            if self.writer.damaged:
                raise damaged(path, self.writer.last_error) from error
            raise

    def _open_readers(self, path: Path, clock: Clock) -> None:
        self.readers = Readers(path, clock)
        self.sync_readers = Readers(path, clock)

    def _load_metrics(self, metrics: Metrics, labels: Sequence[str], prices: Prices) -> None:
        metrics.read_price_version_from(lambda: prices.version)
        with self.readers.snapshot(unbounded=True) as connection:
            metrics.load_usage(load_totals(connection, labels), load_latencies(connection, labels))
            metrics.adjusted(load_adjustments(connection))

    def _proxy_endpoints(self, config: Config, clock: Clock) -> ProxyEndpoints:
        return ProxyEndpoints(self.writer, self.readers, clock, is_exposed=not config.http.listen.is_loopback)

    def _sources(self, config: Config, access: Access, clock: Clock) -> Sources | None:
        if config.mode != HUB:
            return None
        self.writer.submit(Change(ensure_hub_state)).wait()
        return Sources(self.writer, self.readers, access, clock)

    def _membership(self, config: Config) -> Membership:
        address = "" if config.hub.address is None else str(config.hub.address)
        return Membership(address, has_joined=self._last_heard() is not None)

    def _last_heard(self) -> int | None:
        """When the hub was last heard of, UTC milliseconds, as the ledger has it."""
        with self.readers.snapshot() as connection:
            link = read_link(connection)
        return None if link is None else link.heard_ms

    def close(self, timeout_s: float) -> bool:
        """Commit what was accepted and let go of the folder; False when the disk did not let that finish in time."""
        if self.services.forwarding is not None:
            self.services.forwarding.stop(timeout_s / 2)
        for road in (self.services.joined, self.leasing):
            if road is not None:
                road.stop(1.0)
        self.services.alerts.stop(1.0)
        self.till_keeper.stop(1.0)
        try:
            flush = self.services.access.flush_last_used()
            if flush is not None:
                flush.wait(min(1.0, timeout_s))
        except Exception as error:
            _log.warning("could not write down when keys were used: %s", error)
        stopped = self.writer.stop(timeout_s)
        self.readers.close()
        self.sync_readers.close()
        self._lock.release()
        return stopped


def _retention(config: Config, limits: TimeLimits) -> RetentionLimits:
    kept = config.retention
    return RetentionLimits(kept.events_days * DAY_MS, kept.rollups_days * DAY_MS, limits.future_ms)


def _writer(path: Path, config: Config, clock: Clock, metrics: Metrics) -> Writer:
    return Writer(
        path,
        clock,
        metrics,
        max_records=config.queue.max_records,
        max_bytes=config.queue.max_bytes,
        reserve=DiskReserve(config.data_dir, config.disk.reserve_bytes),
        max_ledger_bytes=config.storage.max_bytes,
    )
