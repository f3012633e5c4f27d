"""The ingest surface: month-grained entries of costs and tokens, and keys for those who send them."""

from __future__ import annotations

from typing import Any

import msgspec

from costd.domain.errors import Invalid
from costd.domain.money import MAX_ENTRY_NANO
from costd.services.access import NewKey
from costd.services.months import MonthReceipt
from costd.store.months import MonthEntry
from costd.wire import decoding
from costd.wire.web.details import plain_details
from costd.wire.web.failures import Required
from costd.wire.web.fields import check_currency, is_number, record_id, usd_of, whole_of
from costd.wire.web.ingest_structs import (
    CostData,
    CostEntry,
    IngestAbout,
    IngestAnswer,
    IngestType,
    NewKeyAnswer,
    NewKeyBody,
    TokensData,
    TokensEntry,
)
from costd.wire.web.moments import parse_day
from costd.wire.web.route import DOOR, Call

Entry = CostEntry | TokensEntry

#: The services' names of fields → this surface's.
FIELD_NAMES = {
    "amount": "data.amount",
    "month": "data.month",
    "year": "data.year",
    "tokens_used": "data.tokens_used",
    "input_tokens": "data.input_tokens",
    "output_tokens": "data.output_tokens",
    "cached_tokens": "data.cached_tokens",
    "request_id": "Idempotency-Key",
}

_ENTRY_FORM = 'type ("cost" or "tokens"), service (string), data (object)'
_COST_FORM = "amount (number), month (number), year (number)"
_TOKENS_FORM = "month (number), year (number), tokens_used (number)"
_NUMBERS = {"cost": ("amount", "month", "year"), "tokens": ("month", "year", "tokens_used")}
_FORMS = {"cost": _COST_FORM, "tokens": _TOKENS_FORM}

_decoder: msgspec.json.Decoder[Entry] = decoding.decoder(Entry)


class _Head(msgspec.Struct):
    """Just enough of an entry to say what it lacks."""

    type: Any = None


_head = msgspec.json.Decoder(_Head)


async def about(_: Call) -> object:
    """Say what the endpoint takes."""
    return IngestAbout(
        success=True,
        endpoint="/api/ingest",
        method="POST",
        authentication="Authorization: Bearer <API_KEY>",
        contentType="application/json",
        required=["type", "service", "data"],
        optional=["project", "product"],
        types={
            "cost": IngestType(
                required=["amount", "month", "year"],
                optional=["payment_source", "breakdown", "notes", "tokens_used", "tokens_limit"],
            ),
            "tokens": IngestType(
                required=["month", "year", "tokens_used"],
                optional=[
                    "cost",
                    "input_tokens",
                    "output_tokens",
                    "cached_tokens",
                    "billing_start_date",
                    "billing_end_date",
                ],
            ),
        },
        documentation="/openapi.json",
    )


async def ingest(call: Call) -> object:
    """Store a month's cost or tokens; answered when it is on disk."""
    sent = _decode(call.raw)
    entry = _cost_entry(sent) if isinstance(sent, CostEntry) else _tokens_entry(sent)
    receipt = await add_entry(call, entry)
    what = "Cost data" if isinstance(sent, CostEntry) else "Token usage data"
    return IngestAnswer(
        success=True,
        message=f"{what} ingested successfully",
        recordId=receipt.record_id,
        duplicate=receipt.duplicate,
    )


async def add_entry(call: Call, entry: MonthEntry) -> MonthReceipt:
    """Hand an entry to the service, under the header's id if there is one."""
    request_id = record_id(None, call.idempotency_key, "Idempotency-Key")
    call.handed_over = True
    return await call.services.months.add(call.caller, entry, request_id, DOOR)


def _decode(raw: bytes) -> Entry:
    try:
        return decoding.decode(_decoder, raw)
    except Invalid as error:
        form = _form(error.field, raw)
        if form and not isinstance(error, Required):
            raise Required(error.field, error.reason, form) from None
        raise


def _form(field: str, raw: bytes) -> str:
    """The form that a wrong field is part of; "" where none of the required ones is wrong."""
    if field in {"type", "service", "data"}:
        return _ENTRY_FORM
    kind = decoding.decode(_head, raw).type
    if not isinstance(kind, str) or field.removeprefix("data.") not in _NUMBERS.get(kind, ()):
        return ""
    return _FORMS[kind]


def _check_numbers(data: CostData | TokensData, kind: str) -> None:
    for name in _NUMBERS[kind]:
        if not is_number(getattr(data, name)):
            raise Required(f"data.{name}", "must be a number", _FORMS[kind])


def _cost_entry(sent: CostEntry) -> MonthEntry:
    data = sent.data
    _check_numbers(data, "cost")
    check_currency(data.currency, "data.currency")
    return MonthEntry(
        kind="cost",
        service=sent.service,
        year=whole_of(data.year, "data.year") or 0,
        month=whole_of(data.month, "data.month") or 0,
        project=sent.project or "",
        product=sent.product or "",
        amount_nano=usd_of(data.amount, "data.amount", limit_nano=MAX_ENTRY_NANO),
        tokens_used=whole_of(data.tokens_used, "data.tokens_used"),
        details=plain_details(
            "data",
            payment_source=data.payment_source,
            breakdown=data.breakdown,
            notes=data.notes,
            tokens_limit=whole_of(data.tokens_limit, "data.tokens_limit"),
        ),
    )


def _tokens_entry(sent: TokensEntry) -> MonthEntry:
    data = sent.data
    _check_numbers(data, "tokens")
    check_currency(data.currency, "data.currency")
    for name in ("billing_start_date", "billing_end_date"):
        if getattr(data, name) is not None:
            parse_day(getattr(data, name), f"data.{name}")
    return MonthEntry(
        kind="tokens",
        service=sent.service,
        year=whole_of(data.year, "data.year") or 0,
        month=whole_of(data.month, "data.month") or 0,
        project=sent.project or "",
        product=sent.product or "",
        amount_nano=usd_of(data.cost, "data.cost", limit_nano=MAX_ENTRY_NANO),
        tokens_used=whole_of(data.tokens_used, "data.tokens_used"),
        input_tokens=whole_of(data.input_tokens, "data.input_tokens"),
        output_tokens=whole_of(data.output_tokens, "data.output_tokens"),
        cached_tokens=whole_of(data.cached_tokens, "data.cached_tokens"),
        details=plain_details(
            "data", billing_start_date=data.billing_start_date, billing_end_date=data.billing_end_date
        ),
    )


async def generate_key(call: Call) -> object:
    """Make a key that may ingest and read."""
    sent: NewKeyBody = call.body
    created = await call.services.access.create_key(
        call.caller, NewKey(name=sent.keyName, description=sent.description or "")
    )
    return NewKeyAnswer(
        success=True,
        message="API key generated successfully",
        keyName=created.info.name,
        apiKey=created.secret,
        instructions='Keep this key now: it is not shown again. Send it as "Authorization: Bearer <key>".',
    )
