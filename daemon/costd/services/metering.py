"""Metering: a caller's usage is checked, priced and handed to the writer; idempotency comes before validation."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from costd.clock import Clock
from costd.domain.access import Caller
from costd.domain.errors import Forbidden, Invalid, Overloaded, Refused
from costd.domain.ids import uuid_text
from costd.domain.money import MAX_RECORD_NANO, usd_text
from costd.domain.pricebook import Quote
from costd.domain.series import TAG_SEPARATOR, Series
from costd.domain.usage import TimeLimits, Usage, check_text, status_class
from costd.services.access import check_binding
from costd.services.prices import Prices
from costd.store.commit import Change, Commit
from costd.store.ledger import EventDraft
from costd.store.requests import Stored, find_requests, stored_event, stored_request_id

if TYPE_CHECKING:
    from costd.metrics import Metrics
    from costd.services.tills import Tills
    from costd.store.ticket import Ticket
    from costd.store.writer import Writer

#: Units with a column of their own; every other goes into the event's extra.
COLUMN_UNITS = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "output_reasoning_tokens")
_COLUMN_UNITS = frozenset(COLUMN_UNITS)


class Receipt(NamedTuple):
    """The answer to a record that is on disk: its id and its cost in nano-USD (None: unpriced)."""

    event_id: str
    cost_nano: int | None
    provider: str
    request_id: str
    duplicate: bool
    warnings: tuple[str, ...]
    at_ms: int


class Metering:
    """Records usage."""

    def __init__(
        self,
        writer: Writer,
        prices: Prices,
        limits: TimeLimits,
        clock: Clock,
        metrics: Metrics,
        tills: Tills,
    ) -> None:
        self._writer = writer
        self._prices = prices
        self._limits = limits
        self._tills = tills
        self._clock = clock
        self._metrics = metrics

    def record(self, caller: Caller, usage: Usage, door: str, *, awaited: bool = True) -> Ticket[Receipt]:
        """Record one call; the ticket resolves when it is on disk, a little later where nobody is held up (`awaited`).

        Raises Invalid, Forbidden, Overloaded, OutOfSpace or Unavailable at once; Conflict comes from the ticket.
        """
        try:
            caller.require("ingest")
            try:
                draft, quote = self.draft(caller, usage, door)
            except (Invalid, Forbidden) as refusal:
                if not usage.request_id:
                    raise
                return self._repeat_or_refuse(caller, usage, door, refusal)
            return self._writer.submit_event(draft, _receipt_of(draft, quote), awaited=awaited)
        except Refused as refusal:
            self._metrics.rejected(door, reason_of(refusal))
            raise

    @property
    def has_room(self) -> bool:
        """Whether one more record may wait for the disk."""
        return not self._writer.queue.is_full

    @property
    def hindrance(self) -> str:
        """Why a record would not be taken now, in a sentence; "" where it would be."""
        refused = self._writer.records_refused or (None if self.has_room else Overloaded())
        return "" if refused is None else refused.message

    def draft(
        self, caller: Caller, usage: Usage, door: str, limits: TimeLimits | None = None
    ) -> tuple[EventDraft, Quote]:
        """The row a record becomes, and its price; raises Invalid or Forbidden.

        `limits` are for its time, where they are not the usual ones.
        """
        now_ms = self._clock.now_ms()
        if not usage.model:
            raise Invalid("model", "is required: the model as the provider names it")
        check_text(usage)
        at_ms = now_ms
        if usage.at_ms is not None:
            (limits or self._limits).check(usage.at_ms, now_ms)
            at_ms = usage.at_ms
        book = self._prices.book
        units = book.units.canonical(dict(usage.units))
        book.units.check(units)
        quote = book.price(caller.org_id, usage.provider, usage.model, units, at_ms, usage.context)
        cost_nano, source_id = self._cost(usage, quote)
        series = series_of(caller, usage, quote.provider)
        rare = tuple((name, units[name]) for name in units if name not in _COLUMN_UNITS)
        unrated = quote.unrated if usage.cost_nano is None else ()
        if quote.unmapped_tier:
            self._metrics.unmapped_tier()
        count = units.get
        draft = EventDraft(
            series,
            at_ms,
            self.charged_at(caller.org_id, usage.request_id),
            int(count("input_tokens", 0)),
            int(count("output_tokens", 0)),
            int(count("cache_read_tokens", 0)),
            int(count("cache_write_tokens", 0)),
            int(count("output_reasoning_tokens", 0)),
            cost_nano,
            source_id,
            usage.latency_ms,
            extra_of(usage, rare, unrated, series.status),
            rare,
            bool(unrated),
            usage.request_id,
            usage.fingerprint() if usage.request_id else b"",
            door,
        )
        return draft, quote

    def charged_at(self, org_id: int, request_id: str | bytes) -> int | None:
        """When a call reserved money that is still reserved: that is when budgets are charged. None: at its own time.

        `request_id` is "" where it has none, and may be in its stored form.
        """
        if not request_id or not self._tills.open_reservations:
            return None
        name = stored_request_id(request_id) if isinstance(request_id, str) else request_id
        return self._tills.reserved_at((org_id, name))

    def charged_column(self, org_id: int, request_ids: Sequence[str | bytes] | None) -> Sequence[int | None]:
        """The same of many, their ids in their stored form; empty where none of them reserved anything."""
        if not request_ids or not self._tills.open_reservations:
            return ()
        charged = [self._tills.reserved_at((org_id, name)) if name else None for name in request_ids]
        return charged if any(charged) else ()

    def _cost(self, usage: Usage, quote: Quote) -> tuple[int | None, int | None]:
        """The cost and where it comes from: the caller's own word wins over the list."""
        if usage.cost_nano is not None:
            if not 0 <= usage.cost_nano <= MAX_RECORD_NANO:
                raise Invalid("cost_usd", f"must be between 0 and {usd_text(MAX_RECORD_NANO)} USD")
            return usage.cost_nano, self._prices.caller_id
        if quote.cost_nano is None:
            return None, None
        if quote.cost_nano > MAX_RECORD_NANO:
            raise Invalid("units", f"cost more than {usd_text(MAX_RECORD_NANO)} USD; no single call does")
        return quote.cost_nano, quote.source_id

    def _repeat_or_refuse(self, caller: Caller, usage: Usage, door: str, refusal: Refused) -> Ticket[Receipt]:
        """A record that would be refused now may be held already: then it gets its first answer again."""
        fingerprint = usage.fingerprint()
        key = (caller.org_id, stored_request_id(usage.request_id))

        def apply(commit: Commit) -> Stored:
            held = find_requests(commit.connection, [key]).get(key)
            answer = refusal if held is None else stored_event(commit, held, fingerprint)
            if isinstance(answer, Refused):
                self._metrics.rejected(door, reason_of(answer))
                raise answer
            self._metrics.duplicate(door)
            commit.named.append(key)
            return answer

        return self._writer.submit(Change(apply), lambda stored: _repeated_receipt(stored, usage.request_id, ()))


def reason_of(refusal: Refused) -> str:
    """The word a metric counts a refusal under."""
    return type(refusal).__name__.lower()


def series_of(caller: Caller, usage: Usage, provider: str) -> Series:
    """The series of a caller's usage; Forbidden where it says other than the key is bound to."""
    name = caller.name
    return Series(
        caller.org_id,
        caller.key_id,
        check_binding(caller.source_app, usage.source_app, "source_app", name),
        "",
        check_binding(caller.team, usage.team, "team", name),
        check_binding(caller.project, usage.project, "project", name),
        usage.product,
        usage.user,
        provider,
        usage.model,
        usage.prompt_key,
        usage.prompt_version,
        TAG_SEPARATOR.join(sorted(set(usage.tags))) if usage.tags else "",
        usage.endpoint,
        status_class(usage.status),
    )


def extra_of(usage: Usage, rare: tuple[tuple[str, Any], ...], unrated: tuple[str, ...], status: str) -> str | None:
    """What few records have, as JSON; quantities as text, because they may be decimals."""
    extra: dict[str, object] = {}
    if rare:
        extra["units"] = {name: str(quantity) for name, quantity in rare}
    if usage.job:
        extra["job"] = usage.job
    if usage.status != status:
        extra["status"] = usage.status
    if usage.context:
        extra["context"] = dict(usage.context)
    if unrated:
        extra["unrated"] = list(unrated)
    return json.dumps(extra, ensure_ascii=False, separators=(",", ":")) if extra else None


def _receipt_of(draft: EventDraft, quote: Quote) -> Callable[[Stored], Receipt]:
    def receipt(stored: Stored) -> Receipt:
        if stored.duplicate:
            return _repeated_receipt(stored, draft.request_id, quote.warnings)
        return Receipt(
            uuid_text(stored.event_id),
            draft.cost_nano,
            draft.series.provider,
            draft.request_id,
            duplicate=False,
            warnings=quote.warnings,
            at_ms=draft.at_ms,
        )

    return receipt


def _repeated_receipt(stored: Stored, request_id: str, warnings: tuple[str, ...]) -> Receipt:
    return Receipt(
        uuid_text(stored.event_id),
        stored.cost_nano,
        stored.provider,
        request_id,
        duplicate=True,
        warnings=warnings,
        at_ms=stored.at_ms,
    )
