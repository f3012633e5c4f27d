"""Between costd.v1's messages and the domain's values."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import TYPE_CHECKING

from costd.domain.errors import Invalid, Refused
from costd.domain.money import usd_text
from costd.domain.projection import per_hour_nano
from costd.domain.usage import SUCCESS, Usage, check_string
from costd.v1 import admin_pb2, query_pb2, usage_pb2
from costd.wire.rpc import provider_usage

if TYPE_CHECKING:
    from costd.domain.spend import Spend
    from costd.services.access import KeyInfo
    from costd.services.admission import Decision
    from costd.services.metering import Receipt
    from costd.store.events import EventView
    from costd.store.rollups import SummaryRow, Totals

Units = tuple[tuple[str, int | Decimal], ...]

#: What the domain calls a field, and where it is in a request of ours.
_FIELDS = {
    **{
        name: f"dimensions.{name}"
        for name in (
            "source_app",
            "provider",
            "model",
            "user",
            "project",
            "team",
            "product",
            "job",
            "prompt_key",
            "prompt_version",
            "tags",
            "endpoint",
        )
    },
    "feature_tags": "dimensions.tags",
    "timestamp": "time_ms",
    "cost_usd": "cost_nano_usd",
    "context": "price_context",
}

#: The price list knows two names; a few more may come, and all of them are kept with the record.
MAX_CONTEXT = 16

_DECIMAL = re.compile(r"[0-9]{1,13}(\.[0-9]{1,30})?\Z", re.ASCII)


def named_as_here(error: Refused) -> Refused:
    """A refusal of a usage, its field named as in the message it came in."""
    if isinstance(error, Invalid) and error.field in _FIELDS:
        return error.renamed(field_name(error.field))
    return error


def field_name(field: str) -> str:
    """Where a field of the domain's is in a record of ours."""
    return _FIELDS.get(field, field)


def estimate(request: usage_pb2.PreflightRequest) -> Usage:
    """The usage a caller expects; raises Invalid."""
    said = request.dimensions
    return Usage(
        said.source_app,
        said.model,
        units(request.estimated_units, "estimated_units"),
        said.user,
        said.project,
        said.team,
        said.product,
        said.job,
        said.provider,
        said.prompt_key,
        said.prompt_version,
        tuple(said.tags) if said.tags else (),
        said.endpoint,
        SUCCESS,
        None,
        None,
        None,
        context(request.price_context),
        request.request_id,
    )


def usage(request: usage_pb2.RecordRequest) -> Usage:
    """The usage a caller reports; raises Invalid."""
    said = request.dimensions
    chosen = context(request.price_context)
    if request.provider_usage:
        used, found = provider_usage.units_and_context(request)
        # What the caller says outright wins over what the provider reports.
        chosen = tuple(sorted({**dict(found), **dict(chosen)}.items())) if found else chosen
    else:
        used = units(request.units, "units")
    return Usage(
        said.source_app,
        said.model,
        used,
        said.user,
        said.project,
        said.team,
        said.product,
        said.job,
        said.provider,
        said.prompt_key,
        said.prompt_version,
        tuple(said.tags) if said.tags else (),
        said.endpoint,
        request.status or SUCCESS,
        request.latency_ms if request.HasField("latency_ms") else None,
        request.time_ms if request.HasField("time_ms") else None,
        request.cost_nano_usd if request.HasField("cost_nano_usd") else None,
        chosen,
        request.request_id,
    )


def context(said: Mapping[str, str], field: str = "price_context") -> tuple[tuple[str, str], ...]:
    """A price context as the domain has it; raises Invalid naming `field`."""
    if not said:
        return ()
    if len(said) > MAX_CONTEXT:
        raise Invalid(field, f"must be at most {MAX_CONTEXT} entries")
    for name, value in said.items():
        check_string(name, field)
        check_string(value, f"{field}.{name}")
    return tuple(sorted(said.items()))


def units(said: Iterable[usage_pb2.Quantity], field: str) -> Units:
    """Quantities by name, sorted; raises Invalid naming `field` where one is named twice or has no amount."""
    found: dict[str, int | Decimal] = {}
    for index, quantity in enumerate(said):
        name = quantity.unit
        if name in found:
            raise Invalid(f"{field}[{index}].unit", "names a unit that was named before; add the two amounts up")
        # A count above zero is the common case, and asking which of the two is set costs as much as the rest.
        found[name] = quantity.count or _other_amount(quantity, f"{field}[{index}]")
    return tuple(sorted(found.items()))


def _other_amount(quantity: usage_pb2.Quantity, field: str) -> int | Decimal:
    match quantity.WhichOneof("amount"):
        case "count":
            return 0
        case "decimal":
            return _decimal(quantity.decimal, f"{field}.decimal")
        case _:
            raise Invalid(field, "needs an amount: count or decimal")


def _decimal(text: str, field: str) -> int | Decimal:
    """The number, an int where it is whole; 12.50 and 12.5 are the same content, so zeros at the end go."""
    if not _DECIMAL.match(text):
        raise Invalid(field, 'must be a decimal number such as "12.5", from 0 to 10^12')
    shortest = text.rstrip("0").rstrip(".") if "." in text else text
    return Decimal(shortest) if "." in shortest else int(shortest)


def decision(made: Decision) -> usage_pb2.PreflightResponse:
    """The answer to a preflight."""
    answer = usage_pb2.PreflightResponse(
        allow=made.allow, request_id=made.request_id, estimated_cost_nano_usd=made.estimated_cost_nano
    )
    # Seldom there, and each argument costs a sixth of the message.
    if made.deny_reason:
        answer.deny_reason = made.deny_reason
    if made.warnings:
        answer.warnings.extend(made.warnings)
    if (noted := made.budget) is not None:
        budget = answer.budget  # filled in place: every preflight passes here
        budget.id, budget.name, budget.scope_type = noted.id, noted.name, noted.scope_type
        budget.limit_nano_usd, budget.spent_nano_usd = noted.limit_nano, noted.spent_nano
        budget.remaining_nano_usd = noted.remaining_nano
        if noted.resets_ms is not None:
            budget.resets_ms = noted.resets_ms
    return answer


def receipt(given: Receipt) -> usage_pb2.RecordResponse:
    """The answer to a record."""
    return usage_pb2.RecordResponse(
        event_id=given.event_id,
        cost_nano_usd=given.cost_nano,
        request_id=given.request_id,
        duplicate=given.duplicate,
        warnings=given.warnings,
    )


def totals(summed: Totals) -> query_pb2.SummaryRow:
    """Totals without dimensions."""
    return query_pb2.SummaryRow(
        requests=summed.requests,
        errors=summed.errors,
        input_tokens=summed.input_tokens,
        output_tokens=summed.output_tokens,
        cache_read_tokens=summed.cache_read_tokens,
        cache_write_tokens=summed.cache_write_tokens,
        reasoning_tokens=summed.reasoning_tokens,
        cost_usd=usd_text(summed.cost_nano),
        unpriced=summed.unpriced,
        unrated=summed.unrated,
    )


def summary_row(row: SummaryRow) -> query_pb2.SummaryRow:
    """One row of a summary."""
    message = totals(row.totals)
    message.dimensions.update(row.dimensions)
    message.bucket_ms = row.bucket_ms
    return message


def event(view: EventView) -> query_pb2.Event:
    """One record."""
    return query_pb2.Event(
        event_id=view.event_id,
        request_id=view.request_id,
        time_ms=view.at_ms,
        received_ms=view.received_ms,
        dimensions=view.dimensions,
        units=view.units,
        cost_nano_usd=view.cost_nano,
        cost_source=view.cost_source,
        price_version=view.price_version,
        latency_ms=view.latency_ms,
        status=view.status,
        job=view.job,
        unrated_units=view.unrated,
        price_context=view.context,
        corrected=view.is_corrected,
        recorded_cost_nano_usd=view.recorded_nano if view.is_corrected else None,
        void=view.is_void,
    )


def burn(provider: str, spend: Spend, hours: int) -> query_pb2.Burn:
    """What one provider, or all, burnt in so many hours."""
    cost_nano = spend.shown_cost_nano
    return query_pb2.Burn(
        provider=provider,
        tokens_per_hour=spend.tokens / hours,
        tokens_per_day=spend.tokens * 24 / hours,
        cost_usd_per_hour=_usd_or_none(per_hour_nano(cost_nano, hours)),
        cost_usd_per_day=_usd_or_none(per_hour_nano(cost_nano, hours, 24)),
        requests=spend.requests,
        tokens=spend.tokens,
        cost_usd=_usd_or_none(cost_nano),
        unpriced=spend.unpriced,
    )


def _usd_or_none(nano: int | None) -> str | None:
    return None if nano is None else usd_text(nano)


def key(info: KeyInfo) -> admin_pb2.Key:
    """A key without its secret."""
    return admin_pb2.Key(
        id=info.id,
        name=info.name,
        key_prefix=info.key_prefix,
        roles=info.roles,
        team=info.team,
        project=info.project,
        source_app=info.source_app,
        created_ms=info.created_ms,
        last_used_ms=info.last_used_ms or 0,
        revoked_ms=info.revoked_ms or 0,
        organization=info.organization,
    )
