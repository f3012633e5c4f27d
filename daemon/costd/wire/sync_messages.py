"""What hub and source tell each other on a Sync stream, as its messages: both directions, at both ends.

What cannot be read raises Invalid. What a newer release added is passed over.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from typing import Any, TypeVar

from costd.domain.errors import Invalid
from costd.domain.price_rule import PriceRule
from costd.domain.synced import (
    News,
    Outcome,
    Standing,
    SyncedItem,
    SyncedKey,
    SyncedPrices,
    SyncedRule,
    SyncedTable,
    Upward,
    Versions,
)
from costd.v1 import hub_pb2, hub_state_pb2
from costd.wire.synced_budgets import budgets_message, read_budgets
from costd.wire.synced_endpoints import endpoints_message, read_endpoints

#: A price table of today has half a mebibyte; what comes to this is no table.
MAX_TABLE_BYTES = 256 * 1024 * 1024

_T = TypeVar("_T")


def upward_message(upward: Upward) -> hub_pb2.SyncRequest:
    """What a source tells."""
    message = hub_pb2.SyncRequest(
        uses=[hub_pb2.KeyUse(key_id=key_id, used_ms=at_ms) for key_id, at_ms in upward.uses.items()],
        revocations=[
            hub_pb2.KeyRevocation(key_id=key_id, revoked_ms=at_ms) for key_id, at_ms in upward.revocations.items()
        ],
        clock_skew_ms=upward.clock_skew_ms,
        orders=[hub_pb2.QuarantineOrder(id=id_, action=action) for id_, action in upward.orders.items()],
    )
    if (standing := upward.standing) is not None:
        message.hub_epoch = standing.hub_epoch
        message.price_list = standing.price_list
        message.keys_version, message.catalog_version = standing.versions[:2]
        message.prices_version, message.quarantine_version = standing.versions[2:4]
        message.budgets_version = standing.versions.budgets
    return message


def read_upward(message: hub_pb2.SyncRequest) -> Upward:
    """What a source tells; its standing is taken from every message, whether it is the first or not."""
    return Upward(
        Standing(message.hub_epoch, _versions(message), message.price_list),
        {use.key_id: use.used_ms for use in message.uses},
        {revocation.key_id: revocation.revoked_ms for revocation in message.revocations},
        message.clock_skew_ms,
        {order.id: order.action for order in message.orders},
    )


def news_message(news: News, compressed: Callable[[SyncedTable], bytes]) -> hub_pb2.SyncResponse:
    """What a hub tells; `compressed` gives the zlib form of a table's body."""
    message = hub_pb2.SyncResponse(
        hub_epoch=news.hub_epoch,
        time_ms=news.time_ms,
        source=news.source,
        organizations=news.organizations,
        all_keys=news.all_keys,
        keys=map(_key_message, news.keys),
        keys_version=news.versions.keys,
        catalog=map(_item_message, news.catalog),
        catalog_version=news.versions.catalog,
        prices_version=news.versions.prices,
        quarantine=[_outcome_message(id_, outcome) for id_, outcome in news.quarantine.items()],
        quarantine_version=news.versions.quarantine,
        budgets_version=news.versions.budgets,
        version=news.hub_version,
        more=news.more,
    )
    if news.budgets is not None:
        message.budgets.CopyFrom(budgets_message(news.budgets))
    if news.endpoints is not None:
        message.proxy_endpoints.CopyFrom(endpoints_message(news.endpoints))
    if news.prices is not None:
        message.prices.revision = news.prices.revision
        message.prices.rules.extend(map(_rule_message, news.prices.rules))
        message.prices.tables.extend(_table_message(table, compressed) for table in news.prices.tables)
    return message


def read_news(message: hub_pb2.SyncResponse) -> News:
    """What a hub tells."""
    budgets, unread = read_budgets(message.budgets)
    return News(
        hub_epoch=message.hub_epoch,
        time_ms=message.time_ms,
        source=message.source,
        organizations=list(message.organizations),
        versions=_versions(message),
        hub_version=message.version,
        all_keys=message.all_keys,
        keys=[_read_key(key) for key in message.keys],
        catalog=[_sound("catalog", _read_item, item) for item in message.catalog],
        prices=_read_prices(message.prices) if message.HasField("prices") else None,
        quarantine={
            outcome.id: Outcome(outcome.state, [(gone.first, gone.last) for gone in outcome.uncounted])
            for outcome in message.quarantine
        },
        budgets=budgets if message.HasField("budgets") else None,
        unread_budgets=unread,
        endpoints=read_endpoints(message.proxy_endpoints) if message.HasField("proxy_endpoints") else None,
        more=message.more,
    )


def _versions(message: hub_pb2.SyncRequest | hub_pb2.SyncResponse) -> Versions:
    return Versions(
        message.keys_version,
        message.catalog_version,
        message.prices_version,
        message.quarantine_version,
        message.budgets_version,
    )


def _outcome_message(id_: str, outcome: Outcome) -> hub_pb2.QuarantineOutcome:
    gone = [hub_pb2.LostRange(first=first, last=last) for first, last in outcome.uncounted]
    return hub_pb2.QuarantineOutcome(id=id_, state=outcome.state, uncounted=gone)


def _key_message(key: SyncedKey) -> hub_state_pb2.SyncedKey:
    return hub_state_pb2.SyncedKey(
        id=key.id,
        organization=key.organization,
        name=key.name,
        digest=key.digest,
        key_prefix=key.key_prefix,
        roles=key.roles,
        team=key.team,
        project=key.project,
        source_app=key.source_app,
        description=key.description,
        created_ms=key.created_ms,
        revoked_ms=key.revoked_ms or 0,
        renamed_ms=key.renamed_ms or 0,
    )


def _read_key(key: hub_state_pb2.SyncedKey) -> SyncedKey:
    return SyncedKey(
        key.id,
        key.organization,
        key.name,
        key.digest,
        key.key_prefix,
        tuple(key.roles),
        key.team,
        key.project,
        key.source_app,
        key.description,
        key.created_ms,
        key.revoked_ms or None,
        key.renamed_ms or None,
    )


def _item_message(item: SyncedItem) -> hub_state_pb2.SyncedCatalogItem:
    return hub_state_pb2.SyncedCatalogItem(
        kind=item.kind,
        organization=item.organization,
        source_app=item.source_app,
        id=item.id,
        values=_json(dict(item.values)),
        registered=item.is_registered,
        created_ms=item.created_ms,
        updated_ms=item.updated_ms,
    )


def _read_item(item: hub_state_pb2.SyncedCatalogItem) -> SyncedItem:
    values = {str(name): None if value is None else str(value) for name, value in json.loads(item.values).items()}
    return SyncedItem(
        item.kind,
        item.organization,
        item.source_app,
        item.id,
        values,
        item.registered,
        item.created_ms,
        item.updated_ms,
    )


def _rule_message(synced: SyncedRule) -> hub_state_pb2.SyncedPriceRule:
    rule = synced.rule
    return hub_state_pb2.SyncedPriceRule(
        id=rule.id,
        organization=synced.organization or "",
        provider=rule.provider,
        model=rule.model,
        context=_json(dict(rule.context)),
        rates=_json(rule.rates),
        multiplier=_json(rule.multiplier),
        from_ms=rule.from_ms,
        until_ms=rule.until_ms or 0,
        note=rule.note,
    )


def _read_rule(message: hub_state_pb2.SyncedPriceRule) -> SyncedRule:
    multiplier = json.loads(message.multiplier)
    rule = PriceRule(
        message.id,
        None,
        message.provider,
        message.model,
        tuple(sorted((str(key), str(word)) for key, word in json.loads(message.context).items())),
        {str(unit): rate for unit, rate in json.loads(message.rates).items()},
        None if multiplier is None else (int(multiplier[0]), int(multiplier[1])),
        message.from_ms,
        message.until_ms or None,
        message.note,
    )
    return SyncedRule(message.organization or None, rule)


def _table_message(table: SyncedTable, compressed: Callable[[SyncedTable], bytes]) -> hub_state_pb2.SyncedPriceTable:
    body = compressed(table) if table.body else b""
    return hub_state_pb2.SyncedPriceTable(
        kind=table.kind, version=table.version, name=table.name, digest=table.digest, body=body
    )


def _read_prices(message: hub_state_pb2.SyncedPrices) -> SyncedPrices:
    return SyncedPrices(
        message.revision,
        [_sound("prices.rules", _read_rule, rule) for rule in message.rules],
        [_sound("prices.tables", _read_table, table) for table in message.tables],
    )


def _read_table(message: hub_state_pb2.SyncedPriceTable) -> SyncedTable:
    body = b""
    if message.body:
        inflate = zlib.decompressobj()
        body = inflate.decompress(message.body, MAX_TABLE_BYTES)
        if not inflate.eof:
            raise ValueError("too long, or cut off")
    return SyncedTable(message.kind, message.version, message.name, message.digest, body)


def _sound(field: str, read: Callable[[Any], _T], message: Any) -> _T:
    try:
        return read(message)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, zlib.error) as error:
        raise Invalid(field, f"cannot be read: {error}") from None


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
