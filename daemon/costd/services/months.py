"""Month entries: checked, filed under one name per service, stored once per request id."""

from __future__ import annotations

from dataclasses import astuple, dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING

from costd.domain.access import Caller
from costd.domain.errors import Invalid, Refused
from costd.domain.ids import uuid_text
from costd.domain.money import MAX_ENTRY_NANO, usd_text
from costd.domain.units import MAX_QUANTITY
from costd.domain.usage import FINGERPRINT_BYTES, check_string
from costd.services.access import check_binding
from costd.services.metering import reason_of
from costd.store.commit import Change, Commit
from costd.store.months import MonthEntry, insert_month_entry
from costd.store.requests import Stored

if TYPE_CHECKING:
    from costd.metrics import Metrics
    from costd.store.ticket import Ticket
    from costd.store.writer import Writer

_FIRST_YEAR = 2000
_LAST_YEAR = 2100
#: Where an entry is filed that names no project or product, and whose key is not bound to one.
DEFAULT_PROJECT = "Production"
DEFAULT_PRODUCT = "default"
_KNOWN_SERVICES = {
    name.lower(): name for name in ("OpenAI", "Anthropic", "Google", "Mistral", "Cohere", "Amazon", "Bedrock")
}


@dataclass(frozen=True, slots=True)
class MonthReceipt:
    """The answer to a month entry that is on disk."""

    record_id: str
    duplicate: bool
    service: str


class Months:
    """Records month entries."""

    def __init__(self, writer: Writer, metrics: Metrics) -> None:
        self._writer = writer
        self._metrics = metrics

    def add(self, caller: Caller, entry: MonthEntry, request_id: str, door: str) -> Ticket[MonthReceipt]:
        """Store an entry; the ticket resolves when it is on disk. Raises as Metering.record does."""
        try:
            caller.require("ingest")
            _check(entry, request_id)
            service = shown_service(entry.service)
            filed = {
                "service": service,
                "project": check_binding(caller.project, entry.project, "project", caller.name) or DEFAULT_PROJECT,
                "product": entry.product or DEFAULT_PRODUCT,
            }
            fingerprint = blake2b(repr(("month", *astuple(entry))).encode(), digest_size=FINGERPRINT_BYTES).digest()

            def apply(commit: Commit) -> Stored:
                named = MonthEntry(**{**_fields(entry), **filed})  # type: ignore[arg-type]
                return insert_month_entry(
                    commit, caller.org_id, caller.key_id, named, service.lower(), request_id, fingerprint
                )

            return self._writer.submit(
                Change(apply, lambda stored: self._metrics.entry(door, duplicate=stored.duplicate), control=False),
                lambda stored: MonthReceipt(uuid_text(stored.event_id), stored.duplicate, service),
            )
        except Refused as refusal:
            self._metrics.rejected(door, reason_of(refusal))
            raise


def shown_service(service: str) -> str:
    """One spelling for the services everybody knows; any other name as it was sent."""
    return _KNOWN_SERVICES.get(service.strip().lower(), service.strip())


def _fields(entry: MonthEntry) -> dict[str, object]:
    return {name: getattr(entry, name) for name in MonthEntry.__dataclass_fields__}


def _check(entry: MonthEntry, request_id: str) -> None:
    if not entry.service.strip():
        raise Invalid("service", "is required")
    for field in ("service", "project", "product"):
        check_string(getattr(entry, field), field)
    check_string(request_id, "request_id")
    if not 1 <= entry.month <= 12:
        raise Invalid("month", "must be between 1 and 12")
    if not _FIRST_YEAR <= entry.year <= _LAST_YEAR:
        raise Invalid("year", f"must be between {_FIRST_YEAR} and {_LAST_YEAR}")
    if entry.amount_nano is not None and not 0 <= entry.amount_nano <= MAX_ENTRY_NANO:
        raise Invalid("amount", f"must be between 0 and {usd_text(MAX_ENTRY_NANO)} USD")
    for field in ("tokens_used", "input_tokens", "output_tokens", "cached_tokens"):
        count = getattr(entry, field)
        if count is not None and not 0 <= count <= MAX_QUANTITY:
            raise Invalid(field, f"must be between 0 and {MAX_QUANTITY}")
