"""What budgets are asked before a proxied call, and what the ledger is told after it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from costd.domain.access import Caller
from costd.domain.errors import Conflict, CostdError, Forbidden, Invalid, Unavailable
from costd.domain.ids import quick_uuid7, uuid_text
from costd.domain.provider_usage import tier_context
from costd.domain.proxied.batch_files import FileReader
from costd.domain.proxied.batch_orders import ordered
from costd.domain.proxied.estimate import asked_units, estimate, likely_input_tokens
from costd.domain.proxied.routes import Kind, result_id, seller
from costd.domain.proxied.sold import Sold, bill
from costd.domain.units import Quantity
from costd.domain.usage import SANDBOX, Usage
from costd.proxy_settings import OPEN
from costd.services.admission import Decision
from costd.wire.proxy.awaited import Awaited, Order, Place
from costd.wire.proxy.called import NO_MODEL, Called, Metadata
from costd.wire.proxy.record_keeper import RecordKeeper
from costd.wire.proxy.uploaded import Uploaded

if TYPE_CHECKING:
    from costd.services.services import Services

#: What is reserved for a batch whose requests cannot be seen: it is made as long as there is any money.
_LEAST_NANO = 1

_log = logging.getLogger(__name__)


class LedgerLink:
    """Asks budgets and records, for all proxied calls."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._settings = services.config.proxy
        self._keeper = RecordKeeper(services)
        self._awaited = Awaited(services.metrics.proxy.awaited)
        self._uploaded = Uploaded()

    async def ask(self, called: Called) -> Decision | None:
        """Whether a call may be made; None where nobody could say, and it may all the same.

        Raises what a caller did wrong (Invalid, Forbidden), or what went wrong where calls are to be refused then.
        """
        if self._settings.on_failure != OPEN and (hindrance := self._services.metering.hindrance):
            raise Unavailable(hindrance)
        if self._keeper.waiting >= self._settings.waiting_records:
            raise Unavailable("too many records of proxied calls wait for the ledger (proxy.waiting_records)")
        if called.route.kind is Kind.ORDER:
            return await self._ask_for_order(called)
        units = estimate(called.route.endpoint, dict(called.said), self._settings.unlimited_output_tokens)
        usage = called.usage(
            model=called.model or NO_MODEL,
            provider=self._provider(called),
            units=tuple(sorted(units.items())),
            request_id=called.request_id,
        )
        return await self._decided(called, usage)

    def file_reader(self) -> FileReader:
        """What reads an upload that may be the input of a batch."""
        return FileReader(msgspec.json.decode, self._settings.unlimited_output_tokens)

    async def _ask_for_order(self, called: Called) -> Decision | None:
        """The same of a batch: for each of its models, all or none; for one whose requests are not in it, the least."""
        said, unlimited = dict(called.said), self._settings.unlimited_output_tokens
        wanted = await asyncio.to_thread(ordered, said, unlimited)
        file = said.get("input_file_id")
        if not wanted and isinstance(file, str):
            wanted = self._uploaded.find(self._place(called, file))
        known: dict[str, Any] = {"provider": self._provider(called), "context": tier_context("batch")}
        asked = [
            called.usage(
                model=model, units=tuple(sorted(units.items())), request_id=f"{called.request_id}.{n}", **known
            )
            for n, (model, units) in enumerate(wanted.items(), 1)
        ] or [called.usage(model=NO_MODEL, units=(), cost_nano=_LEAST_NANO, request_id=called.request_id, **known)]
        decision: Decision | None = None
        for usage in asked:
            called.also_reserved += (usage.request_id,)
            decision = await self._decided(called, usage)
            if decision is not None and not decision.allow:
                break
        return decision

    async def _decided(self, called: Called, usage: Usage) -> Decision | None:
        try:
            return await self._services.admission.decide(called.caller, usage)
        except (Invalid, Forbidden, Conflict):
            raise
        except CostdError as error:
            if self._settings.on_failure != OPEN:
                raise
            _log.warning("budgets could not be asked of a proxied call, which is made: %s", error.message)
            return None

    async def versioned(self, called: Called, said: Metadata | None) -> Metadata | None:
        """The metadata of a call with the active version of its prompt, where it names the prompt alone.

        Raises Unavailable where the ledger cannot be read, and calls are to be refused then.
        """
        if said is None or not said.prompt_key or said.version:
            return said
        try:
            active = await self._services.prompts.active(called.caller.org_id, said.prompt_key)
        except Unavailable as error:
            if self._settings.on_failure != OPEN:
                raise
            _log.warning("the version of a proxied call's prompt is not known: %s", error.message)
            return said
        return Metadata(said.prompt_key, active, said.tags)

    def release(self, called: Called) -> None:
        """Let go of what a call had reserved."""
        self._let_go(called.caller, (called.request_id, *called.also_reserved))

    def _let_go(self, caller: Caller, request_ids: Iterable[str]) -> None:
        for request_id in request_ids:
            self._services.admission.release(caller, request_id)

    def sandbox(self, called: Called) -> None:
        """Record a simulated call: it has no units and costs nothing."""
        self._record(called, called.request_id, called.model or NO_MODEL, SANDBOX, {}, cost_nano=0)

    def sold(self, called: Called, sold: Sold) -> None:
        """Hand over the record of a call that has ended; its reservation ends with it."""
        kind = called.route.kind
        if kind is Kind.UPLOAD:
            if called.file is not None and called.file.ordered.units and sold.response_id:
                self._uploaded.add(self._place(called, sold.response_id), called.file.ordered.units)
            return
        if kind is Kind.ORDER or sold.once_id or sold.is_pending or kind is Kind.RESULT:
            self._of_order(called, sold)
            return
        if kind is Kind.FREE or kind is Kind.BATCH:
            if kind is Kind.BATCH and sold.is_complete:
                self._fetched(called, result_id(called.path))
            self.release(called)
            return
        if kind is Kind.UNKNOWN and sold.usage is None:
            if not sold.is_error:
                self._services.metrics.proxy.unmetered.add(called.labels, 1)
            self.release(called)
            return
        self._bill(called, sold, called.request_id)

    def _of_order(self, called: Called, sold: Sold) -> None:
        """What is worked on without a caller waiting: it was ordered, is looked at, or is there at last."""
        is_new = called.route.kind is not Kind.RESULT
        if sold.is_error and not sold.once_id:  # nothing came of it, or nothing is told of it
            self.release(called)
        elif sold.once_id and sold.is_complete and not sold.is_pending:
            self.release(called)
            self._fetched(called, sold.once_id)
            # It may be told again by another call.
            self._bill(called, sold, f"{called.upstream.name}:{sold.once_id}"[:256])
        elif is_new and (sold.once_id or sold.response_id):
            # What it may cost stays reserved, for as long as reservations live.
            reserved = (called.request_id, *called.also_reserved)
            order = Order(called.caller, called.route.endpoint, reserved)
            self._awaited.add(self._place(called, sold.once_id or sold.response_id), order)
        elif not is_new and sold.is_complete and not sold.is_pending:  # a batch has come to its end
            if not sold.result_id:
                self._fetched(called, sold.response_id)
            elif sold.result_id != sold.response_id:
                self._awaited.move(self._place(called, sold.response_id), sold.result_id)

    def _fetched(self, called: Called, ident: str) -> None:
        order = self._awaited.take(self._place(called, ident))
        if order is not None:
            self._let_go(order.caller, order.request_ids)

    @staticmethod
    def _place(called: Called, ident: str) -> Place:
        return Place(called.caller.org_id, called.upstream.name, ident)

    def of_batch(self, called: Called, sold: Sold) -> None:
        """Hand over the record of one request of a batch, whose results are being fetched."""
        if sold.once_id and not sold.is_error:
            self._bill(called, sold, f"{called.upstream.name}:{sold.once_id}"[:256])

    def _bill(self, called: Called, sold: Sold, request_id: str) -> None:
        said = dict(called.said)
        provider, endpoint = self._provider(called), called.route.endpoint
        billed = bill(sold, provider, lambda: likely_input_tokens(endpoint, said))
        units: dict[str, Quantity] = {**billed.units}
        if not sold.is_error:
            units = {**asked_units(endpoint, said), **units}
        if not units and not sold.is_error:
            self._services.metrics.proxy.unmetered.add(called.labels, 1)
        model = self._model(called, sold, provider, units)
        # An answer that is an error is known by its HTTP status, as the usage log shows it.
        status = str(called.answered) if called.answered >= 400 else sold.status
        self._record(called, request_id, model, status, units, context=billed.context, provider=provider)

    def _model(self, called: Called, sold: Sold, provider: str, units: Mapping[str, Quantity]) -> str:
        """The model that was asked for, as budgets know it; the one that answered, where only that has a price."""
        asked = called.model
        answered = sold.model if len(sold.model) <= 256 else ""
        if not asked or not answered or asked == answered:
            return asked or answered or NO_MODEL
        org_id, now_ms = called.caller.org_id, self._services.clock.now_ms()
        price = self._services.prices.book.price
        has_price = price(org_id, provider, asked, dict(units), now_ms, ()).source_id is not None
        return asked if has_price else answered

    def _record(
        self,
        called: Called,
        request_id: str,
        model: str,
        status: str,
        units: Mapping[str, Quantity],
        **known: Any,
    ) -> None:
        usage = called.usage(
            model=model,
            units=tuple(sorted(units.items())),
            status=status,
            latency_ms=round((self._services.clock.monotonic_s() - called.began_s) * 1000),
            request_id=request_id,
            **{"provider": self._provider(called), **known},
        )
        self._keeper.keep(called, usage)

    async def flush(self, timeout_s: float) -> None:
        """Wait for records that are on their way."""
        await self._keeper.flush(timeout_s)

    @staticmethod
    def _provider(called: Called) -> str:
        return seller(called.upstream.provider, called.route.endpoint)


def new_request_id(now_ms: int) -> str:
    """The id of one proxied call, of its reservation and of its record."""
    return uuid_text(quick_uuid7(now_ms))
