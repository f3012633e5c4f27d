"""AdminService, the part about prices: rules, what they come to, and the tables they stand over."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from hashlib import sha256

from costd.domain.access import Caller
from costd.domain.errors import Invalid
from costd.domain.pricebook import MatchedPrice
from costd.domain.usage import check_string
from costd.services.price_checks import entry_field
from costd.services.price_rules import PriceRules, RuleSet
from costd.services.prices import Prices, Tables
from costd.services.unpriced import Unpriced, UnpricedModel
from costd.store.price_list import PriceList
from costd.store.price_rules import StoredRule
from costd.store.price_sources import FILE, LIST
from costd.store.price_state import HeldTable
from costd.v1 import prices_pb2
from costd.wire.rpc import convert, price_messages
from costd.wire.rpc.usage import WRITE_TIMEOUT_S

#: Twenty times the list, and what a message of 4 MiB may become at most.
MAX_TABLE_BYTES = 64 * 1024 * 1024


class PricesService:
    """Answers the methods of costd.v1.AdminService about prices."""

    def __init__(self, prices: Prices, rules: PriceRules, unpriced: Unpriced) -> None:
        self._prices = prices
        self._rules = rules
        self._unpriced = unpriced

    def set_prices(self, caller: Caller, request: prices_pb2.SetPricesRequest) -> prices_pb2.SetPricesResponse:
        """Put prices in the books, all or none."""
        caller.require("admin")
        news = [price_messages.new_rule(said, entry_field(at, "")) for at, said in enumerate(request.prices)]
        try:
            done = self._rules.set_rules(caller, news)
        except Invalid as refusal:
            raise price_messages.named_as_here(refusal) from None
        stored = self._stored(caller, [found for each in done for found in (each.before, each.after) if found])
        return prices_pb2.SetPricesResponse(outcomes=[self._outcome(each, stored) for each in done])

    def remove_price(self, caller: Caller, request: prices_pb2.RemovePriceRequest) -> prices_pb2.Price:
        """Take a price out of the books."""
        return price_messages.price(self._rules.remove_rule(caller, request.id))

    def list_prices(self, caller: Caller, request: prices_pb2.ListPricesRequest) -> prices_pb2.ListPricesResponse:
        """The prices that were set."""
        check_string(request.model, "model")
        found = self._rules.rules(caller, model=request.model, removed=request.removed)
        return prices_pb2.ListPricesResponse(prices=map(price_messages.price, found))

    def match_price(self, caller: Caller, request: prices_pb2.MatchPriceRequest) -> prices_pb2.MatchedPrice:
        """What a model costs and why."""
        for field in ("model", "provider", "org"):
            check_string(getattr(request, field), field)
        at_ms = request.at_ms if request.HasField("at_ms") else self._prices.now_ms()
        when = convert.context(request.when, "when")
        found = self._prices.match(caller, request.provider, request.model, at_ms, when, request.org)
        return self._matched(found, at_ms, self._stored(caller, [found]))

    def get_price_tables(self, caller: Caller, request: prices_pb2.GetPriceTablesRequest) -> prices_pb2.PriceTables:
        """The tables in force."""
        caller.require("admin" if request.bodies else "read")
        return _tables(self._prices.tables(caller), bodies=request.bodies)

    def import_prices(self, caller: Caller, request: prices_pb2.ImportPricesRequest) -> prices_pb2.PriceTables:
        """Put a compiled table in force."""
        caller.require("admin")
        _check_kind(request.kind)
        check_string(request.version, "version")
        check_string(request.name, "name")
        body = _inflated(request.body)
        table = PriceList(request.version, sha256(body).hexdigest()[:16], body)
        done = self._prices.import_table(caller, request.kind, request.name, table).wait(WRITE_TIMEOUT_S)
        return _tables(done, bodies=False)

    def drop_prices(self, caller: Caller, request: prices_pb2.DropPricesRequest) -> prices_pb2.PriceTables:
        """Take an imported table out of force."""
        caller.require("admin")
        _check_kind(request.kind)
        return _tables(self._prices.drop_table(caller, request.kind).wait(WRITE_TIMEOUT_S), bodies=False)

    def list_unpriced(self, caller: Caller, request: prices_pb2.ListUnpricedRequest) -> prices_pb2.ListUnpricedResponse:
        """Usage without a price."""
        since_ms = request.since_ms if request.HasField("since_ms") else None
        until_ms = request.until_ms if request.HasField("until_ms") else None
        try:
            found = self._unpriced.models(caller, since_ms, until_ms)
        except Invalid as refusal:
            raise price_messages.named_as_here(refusal) from None
        return prices_pb2.ListUnpricedResponse(models=map(_unpriced, found))

    def _outcome(self, done: RuleSet, stored: Mapping[str, StoredRule]) -> prices_pb2.PriceOutcome:
        def shown(found: MatchedPrice | None) -> prices_pb2.MatchedPrice | None:
            return None if found is None else self._matched(found, done.at_ms, stored)

        return prices_pb2.PriceOutcome(
            price=price_messages.price(done.stored),
            is_new=done.is_new,
            from_chosen=done.from_chosen,
            before=shown(done.before),
            after=shown(done.after),
            at_ms=done.at_ms,
        )

    def _matched(self, found: MatchedPrice, at_ms: int, stored: Mapping[str, StoredRule]) -> prices_pb2.MatchedPrice:
        return price_messages.matched(found, at_ms, self._prices.state, self._prices.book.units, stored)

    def _stored(self, caller: Caller, matched: Sequence[MatchedPrice]) -> dict[str, StoredRule]:
        """The prices that these speak of, by id."""
        ids = {rule.id for found in matched for rule in found.rules}
        return self._rules.named(caller, ids) if ids else {}


def _tables(tables: Tables, *, bodies: bool) -> prices_pb2.PriceTables:
    return prices_pb2.PriceTables(
        list=_table(tables.list, bodies=bodies),
        file=_table(tables.file, bodies=bodies) if tables.file is not None else None,
        installed_version=tables.installed_version,
    )


def _table(held: HeldTable, *, bodies: bool) -> prices_pb2.PriceTableInfo:
    return prices_pb2.PriceTableInfo(
        kind=held.kind,
        version=held.version,
        name=held.name,
        digest=held.digest.hex(),
        imported_ms=held.imported_ms,
        body=zlib.compress(held.body) if bodies else b"",
    )


def _check_kind(kind: str) -> None:
    if kind not in {FILE, LIST}:
        raise Invalid("kind", f'must be "{FILE}" or "{LIST}"')


def _inflated(packed: bytes) -> bytes:
    """The table in a message; Invalid where it is none, or larger than any table is."""
    unpack = zlib.decompressobj()
    try:
        body = unpack.decompress(packed, MAX_TABLE_BYTES)
    except zlib.error:
        raise Invalid("body", "must be a compiled table, deflated with zlib") from None
    if not unpack.eof or unpack.unused_data:
        raise Invalid("body", f"must be one whole deflated table of at most {MAX_TABLE_BYTES} bytes")
    return body


def _unpriced(found: UnpricedModel) -> prices_pb2.UnpricedModel:
    return prices_pb2.UnpricedModel(
        provider=found.provider,
        model=found.model,
        source_apps=found.source_apps,
        requests=found.requests,
        unpriced=found.unpriced,
        unrated=found.unrated,
        input_tokens=found.input_tokens,
        output_tokens=found.output_tokens,
        first_ms=found.first_ms,
        last_ms=found.last_ms,
        units=found.units,
        is_priced_now=found.is_priced_now,
    )
