"""The composition root: builds store, services and doors, runs them, and takes them down in order."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import uvloop

from costd import __version__, logs
from costd.clock import Clock
from costd.config import HUB
from costd.domain.usage import TimeLimits
from costd.metrics import Metrics
from costd.notify import Manager
from costd.services.access import Access
from costd.services.admin_key import ADMIN_KEY_NAME, ensure_admin_key
from costd.services.admission import Admission
from costd.services.batching import Batching
from costd.services.catalog import Catalog
from costd.services.catalog_lists import CatalogLists
from costd.services.exports import Exports
from costd.services.forwarding import Forwarding
from costd.services.health import Health
from costd.services.hub import Hub
from costd.services.hub_sync import HubSync
from costd.services.joined import Joined
from costd.services.ledger_mode import settled_mode
from costd.services.link import Link
from costd.services.membership import Membership
from costd.services.metering import Metering
from costd.services.months import Months
from costd.services.outbox import Outbox
from costd.services.price_rules import PriceRules
from costd.services.prices import Prices
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
from costd.store import runtime_file
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
    from costd.wire.tls import TlsFiles

DAY_MS = 86_400_000
BEAT_S = 1.0
TLS_EVERY_S = 2.0
UPKEEP_S = 60.0

#: A thread that wants the interpreter waits this long before it is handed over. At the default of 5 ms a busy event
#: loop would make every step of a commit wait that long; below 2 ms gRPC's threads take it from each other so often
#: that every call costs a tenth more.
SWITCH_INTERVAL_S = 0.002

#: Share of the grace period that the doors may use; the rest is the writer's.
_DOORS_SHARE = 0.6

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
        self.writer = Writer(
            path,
            clock,
            metrics,
            max_records=config.queue.max_records,
            max_bytes=config.queue.max_bytes,
            reserve=DiskReserve(config.data_dir, config.disk.reserve_bytes),
            max_ledger_bytes=config.storage.max_bytes,
        )
        self.writer.start()
        try:
            self._open_readers(path, clock)
            config = settled_mode(config, self.readers, offline=bool(local_token))
            membership = self._membership(config)
            prices = Prices(self.writer, self.readers, clock, installed, membership)
            access = Access(
                self.writer, self.readers, clock, membership, auth_required=config.auth, local_token=local_token
            )
            self._load_metrics(metrics, config.metrics.labels)
            metrics.read_price_version_from(lambda: prices.version)
            self.admin_key_file = ensure_admin_key(access, config.data_dir)
            limits = TimeLimits(config.limits.past_days * DAY_MS, config.limits.future_minutes * 60_000)
            metering = Metering(self.writer, prices, limits, clock, metrics)
            health = Health(self.writer, self.readers, clock, metrics)
            self.services = Services(
                config=config,
                clock=clock,
                metrics=metrics,
                prices=prices,
                price_rules=PriceRules(prices, self.readers, clock),
                access=access,
                metering=metering,
                batching=Batching(self.writer, metering, prices, limits, clock, metrics),
                admission=Admission(prices, clock, metrics),
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
                hub=(hub := self._hub(sources, clock, metrics)),
                hub_sync=self._hub_sync(sources, hub, health, access, prices),
                quarantine=Quarantine(self.writer, self.readers, hub),
                forwarding=(forwarding := None if local_token else self._forwarding(config, clock, metrics)),
                joined=(joined := None if local_token else self._joined(config, access, prices, membership)),
                link=Link(forwarding, joined, self.readers, clock, health),
            )
            metrics.read_link_from(self.services.link.report)
            retention = RetentionLimits(
                config.retention.events_days * DAY_MS, config.retention.rollups_days * DAY_MS, limits.future_ms
            )
            self.stale_keys = StaleKeys(access, clock, config.sync, joined.heard if joined else self._last_heard)
            self.stale_keys.beat()
            self.upkeep = Upkeep(self.writer, self.readers, access, retention)
        except BaseException as error:
            self.writer.stop(1.0)
            if self.writer.damaged:
                raise damaged(path, self.writer.last_error) from error
            raise

    def _open_readers(self, path: Path, clock: Clock) -> None:
        self.readers = Readers(path, clock)
        # Apart, so that no report holds up a revocation on its way.
        self.sync_readers = Readers(path, clock)

    def _load_metrics(self, metrics: Metrics, labels: Sequence[str]) -> None:
        with self.readers.snapshot(unbounded=True) as connection:
            metrics.load_usage(load_totals(connection, labels), load_latencies(connection, labels))
            metrics.adjusted(load_adjustments(connection))

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

    def _hub_sync(
        self, sources: Sources | None, hub: Hub | None, health: Health, access: Access, prices: Prices
    ) -> HubSync | None:
        if sources is None or hub is None:
            return None
        orders = {"retry": hub.retry, "drop": hub.drop}
        return HubSync(self.writer, self.sync_readers, access, prices, sources, health, orders)

    def _joined(self, config: Config, access: Access, prices: Prices, membership: Membership) -> Joined | None:
        if config.hub.address is None:
            return None
        from costd.wire.outbound.channel import HubDoor  # noqa: PLC0415
        from costd.wire.outbound.sync_link import SyncLink  # noqa: PLC0415

        return Joined(
            self.writer,
            self.sync_readers,
            access,
            prices,
            membership,
            lambda: SyncLink(HubDoor(config)),
            name=config.hub.name or "",
        )

    def _hub(self, sources: Sources | None, clock: Clock, metrics: Metrics) -> Hub | None:
        if sources is None:
            return None
        from costd.wire.forwarded.decode import decode  # noqa: PLC0415

        hub = Hub(self.writer, self.readers, clock, metrics, decode)
        sources.read_live_from(hub.live)
        metrics.read_sources_from(sources.readings)
        return hub

    def _forwarding(self, config: Config, clock: Clock, metrics: Metrics) -> Forwarding | None:
        if config.hub.address is None:
            return None
        from costd.wire.forwarded.encode import encode  # noqa: PLC0415
        from costd.wire.outbound.channel import HubDoor  # noqa: PLC0415
        from costd.wire.outbound.forward_link import ForwardLink  # noqa: PLC0415

        return Forwarding(
            Outbox(self.writer, self.readers, encode),
            self.readers,
            clock,
            metrics,
            lambda: ForwardLink(HubDoor(config)),
            address=str(config.hub.address),
            name=config.hub.name or "",
        )

    def close(self, timeout_s: float) -> bool:
        """Commit what was accepted and let go of the folder; False when the disk did not let that finish in time."""
        if self.services.forwarding is not None:
            self.services.forwarding.stop(timeout_s / 2)
        if self.services.joined is not None:
            self.services.joined.stop(1.0)
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


def run(config: Config, warnings: list[str]) -> int:
    """Run a daemon until SIGTERM or SIGINT; the exit status. Raises SetupError when it cannot start."""
    logs.configure(config.log.level, config.log.format)
    for warning in warnings:
        _log.warning("%s", warning)
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    tls = _tls_files(config)
    manager = Manager.of(os.environ)
    manager.status("opening the ledger")
    core = Core(config, Clock())
    try:
        uvloop.run(_serve(core, config, tls, manager))
    finally:
        stopped = core.close(config.shutdown.grace_s * (1 - _DOORS_SHARE))
    if not stopped:
        _log.error(
            "the disk did not let the last records be written in time; their callers were not told they were kept"
        )
        return 1
    _log.info("stopped")
    return 0


@contextmanager
def offline(config: Config) -> Iterator[tuple[str, str]]:
    """Serve a data folder to this process alone, on a private socket: (gRPC target, key) to reach it with.

    Raises DataFolderHeld when a daemon has the folder.
    """
    from costd.wire.rpc.server import RpcServer  # noqa: PLC0415 - commands that never get here start faster

    token = secrets.token_urlsafe(32)
    core = Core(config, Clock(), local_token=token)
    try:
        with tempfile.TemporaryDirectory(prefix="costd-") as folder:
            path = Path(folder) / "s"
            server = RpcServer(core.services, None, str(path))
            server.start()
            try:
                yield f"unix:{path}", token
            finally:
                server.stop(config.shutdown.grace_s)
    finally:
        core.close(config.shutdown.grace_s)


async def _serve(core: Core, config: Config, tls: TlsFiles | None, manager: Manager) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    runtime_path = config.data_dir / runtime_file.RUNTIME_NAME
    runtime_file.remove(runtime_path)  # of a daemon that was killed
    async with _doors(core, config, tls) as running:
        runtime_file.write(runtime_path, running)
        if config.ready_file is not None:
            runtime_file.write(config.ready_file, running, config.written("ready_file"))
        _log.info(
            "ready",
            extra={
                "version": __version__,
                "grpc": running.grpc,
                "http": running.http,
                "socket": running.socket,
                "data_dir": str(config.data_dir),
                "admin_key_file": running.admin_key_file,
            },
        )
        manager.ready(_status(core.services.health))
        if core.services.forwarding is not None:
            core.services.forwarding.start()
        if core.services.joined is not None:
            core.services.joined.start()
        if core.services.hub_sync is not None:
            core.services.hub_sync.start()
        # Upkeep waits for the writer; apart from it, the beat still tells of a writer that does not come back.
        chores = [asyncio.create_task(_beat(core, tls, manager)), asyncio.create_task(_keep_up(core))]
        await stop.wait()
        _log.info("stopping")
        manager.stopping()
        core.services.health.stopping()
        if core.services.hub is not None:
            core.services.hub.stop()
        for chore in chores:
            chore.cancel()
        runtime_file.remove(runtime_path)
        if config.ready_file is not None:
            runtime_file.remove(config.ready_file)


@asynccontextmanager
async def _doors(core: Core, config: Config, tls: TlsFiles | None) -> AsyncIterator[runtime_file.Running]:
    from costd.wire.rpc.server import RpcServer  # noqa: PLC0415
    from costd.wire.web.server import WebServer  # noqa: PLC0415

    grace_s = config.shutdown.grace_s * _DOORS_SHARE
    grpc = config.grpc
    rpc = RpcServer(
        core.services,
        str(grpc.listen) if grpc.listen else None,
        str(grpc.socket) if grpc.socket else None,
        tls.grpc_credentials() if tls else None,
    )
    web = WebServer(core.services, config.http.listen.host, config.http.listen.port, tls.http_context if tls else None)
    loop = asyncio.get_running_loop()
    grpc_port = rpc.start()
    try:
        http_host, http_port = await web.start()
        rpc.addresses.http = _joined(http_host, http_port)
        yield runtime_file.Running(
            grpc=None if grpc.listen is None or grpc_port is None else _joined(grpc.listen.host, grpc_port),
            http=_joined(http_host, http_port),
            socket=None if grpc.socket is None else str(grpc.socket),
            pid=os.getpid(),
            admin_key_file=str(config.data_dir / ADMIN_KEY_NAME),
        )
    finally:
        await asyncio.gather(web.stop(grace_s), loop.run_in_executor(None, rpc.stop, grace_s))


def _tls_files(config: Config) -> TlsFiles | None:
    if config.tls.cert is None or config.tls.key is None:
        return None
    from costd.wire.tls import TlsFiles  # noqa: PLC0415

    return TlsFiles(config.tls.cert, config.tls.key, config.written, config.tls.client_ca)


async def _beat(core: Core, tls: TlsFiles | None, manager: Manager) -> None:
    """Look after health and certificates, and tell the service manager, until cancelled."""
    health, clock = core.services.health, core.services.clock
    beat_s = min(BEAT_S, manager.ping_every_s or BEAT_S)
    next_ping_s = next_look_s = 0.0
    told, was_ready = _status(health), True
    while True:
        ready = health.beat()
        core.stale_keys.beat()
        now_s = clock.monotonic_s()
        if (status := _status(health)) != told:
            manager.status(status)
            told = status
        if ready != was_ready:
            _log.log(logging.INFO if ready else logging.WARNING, "%s", status)
            was_ready = ready
        if manager.ping_every_s is not None and now_s >= next_ping_s and health.stalled() is None:
            manager.ping()
            next_ping_s = now_s + manager.ping_every_s
        if tls is not None and now_s >= next_look_s:
            tls.reload_if_changed()
            next_look_s = now_s + TLS_EVERY_S
        await asyncio.sleep(beat_s)


def _status(health: Health) -> str:
    problems = health.problems()
    return f"not ready: {'; '.join(problems)}" if problems else "taking records"


async def _keep_up(core: Core) -> None:
    """Do what is due every minute, until cancelled."""
    while True:
        try:
            await core.upkeep.run_once()
        except Exception:
            _log.exception("upkeep failed; it is tried again in %d s", UPKEEP_S)
        await asyncio.sleep(UPKEEP_S)


def _joined(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
