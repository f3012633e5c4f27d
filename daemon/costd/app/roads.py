"""The roads between sidecar and hub, built at whichever end a daemon is."""

from __future__ import annotations

from typing import NamedTuple

from costd.clock import Clock
from costd.config import Config
from costd.metrics import Metrics
from costd.services.access import Access
from costd.services.budgets import Budgets
from costd.services.forwarding import Forwarding
from costd.services.health import Health
from costd.services.hub import Hub
from costd.services.hub_sync import HubSync
from costd.services.joined import Joined
from costd.services.membership import Membership
from costd.services.outbox import Outbox
from costd.services.prices import Prices
from costd.services.proxy_endpoints import ProxyEndpoints
from costd.services.sources import Sources
from costd.store.reader import Readers
from costd.store.writer import Writer


class Ground(NamedTuple):
    """What the roads are built on; `sync_readers` are apart, so that no report holds up a revocation on its way."""

    config: Config
    clock: Clock
    metrics: Metrics
    writer: Writer
    readers: Readers
    sync_readers: Readers


class Rules(NamedTuple):
    """What a hub's word decides at its sources: prices, budgets and proxy endpoints."""

    prices: Prices
    budgets: Budgets
    endpoints: ProxyEndpoints


def build_hub(ground: Ground, sources: Sources | None) -> Hub | None:
    """What takes over what sources forward; None at a sidecar."""
    if sources is None:
        return None
    from costd.wire.forwarded.decode import decode  # noqa: PLC0415 - only where it is needed, here and below

    hub = Hub(ground.writer, ground.readers, ground.clock, ground.metrics, decode)
    sources.read_live_from(hub.live)
    ground.metrics.read_sources_from(sources.readings)
    return hub


def build_hub_sync(
    ground: Ground, sources: Sources | None, hub: Hub | None, health: Health, access: Access, rules: Rules
) -> HubSync | None:
    """What tells sources of keys, catalog, prices, budgets and proxy endpoints; None at a sidecar."""
    if sources is None or hub is None:
        return None
    orders = {"retry": hub.retry, "drop": hub.drop}
    return HubSync(ground.writer, ground.sync_readers, access, *rules, sources, health, orders=orders)


def build_forwarding(ground: Ground) -> Forwarding | None:
    """What forwards to the hub; None where there is none."""
    hub = ground.config.hub
    if hub.address is None:
        return None
    from costd.wire.forwarded.encode import encode  # noqa: PLC0415
    from costd.wire.outbound.channel import HubDoor  # noqa: PLC0415
    from costd.wire.outbound.forward_link import ForwardLink  # noqa: PLC0415

    return Forwarding(
        Outbox(ground.writer, ground.readers, encode),
        ground.readers,
        ground.clock,
        ground.metrics,
        lambda: ForwardLink(HubDoor(ground.config)),
        address=str(hub.address),
        name=hub.name or "",
    )


def build_joined(ground: Ground, access: Access, rules: Rules, membership: Membership) -> Joined | None:
    """What takes over what the hub says; None where there is none."""
    hub = ground.config.hub
    if hub.address is None:
        return None
    from costd.wire.outbound.channel import HubDoor  # noqa: PLC0415
    from costd.wire.outbound.sync_link import SyncLink  # noqa: PLC0415

    return Joined(
        ground.writer,
        ground.sync_readers,
        access,
        *rules,
        membership,
        lambda: SyncLink(HubDoor(ground.config)),
        name=hub.name or "",
    )
