"""What a caller says about one call to a provider: the record, its limits, and the fingerprint of its content."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from hashlib import blake2b
from typing import NamedTuple

from costd.domain.errors import Invalid

MAX_TEXT = 256
MAX_TAGS = 32
MAX_LATENCY_MS = 7 * 24 * 3600 * 1000  # a week: nothing a provider answers takes longer
FINGERPRINT_BYTES = 8

SUCCESS = "success"
ERROR = "error"
INCOMPLETE = "incomplete"
SANDBOX = "sandbox"
_STATUS_CLASSES = {
    "success": SUCCESS,
    "succeeded": SUCCESS,
    "ok": SUCCESS,
    "completed": SUCCESS,
    "complete": SUCCESS,
    "incomplete": INCOMPLETE,
    "sandbox": SANDBOX,
}

#: Nobody paid for a model's tokens before: 2000-01-01, UTC. An older time is a mistake of its sender.
HISTORY_FROM_MS = 946_684_800_000

Hasher = blake2b

Units = Mapping[str, int | Decimal]


class Usage(NamedTuple):
    """One call as its caller described it, normalised but with nothing filled in.

    Text is "" and numbers are None where the caller said nothing. `units` are sorted by name; `at_ms` is UTC
    milliseconds; `cost_nano` is the caller's own price in nano-USD; `context` selects price variants
    (("processing", "batch"), …).
    """

    source_app: str
    model: str
    units: tuple[tuple[str, int | Decimal], ...]
    user: str = ""
    project: str = ""
    team: str = ""
    product: str = ""
    job: str = ""
    provider: str = ""
    prompt_key: str = ""
    prompt_version: str = ""
    tags: tuple[str, ...] = ()
    endpoint: str = ""
    status: str = SUCCESS
    latency_ms: int | None = None
    at_ms: int | None = None
    cost_nano: int | None = None
    context: tuple[tuple[str, str], ...] = ()
    request_id: str = ""

    def shared(self) -> tuple[object, ...]:
        """The part of the content that many records have in common; tags are a set, in whatever order they came."""
        tags = tuple(sorted(set(self.tags))) if self.tags else ()
        return (*self[:2], *self[3:7], *self[8:11], tags, *self[12:14], self.context)

    def fingerprint(self) -> bytes:
        """A digest of everything the caller sent but the id: equal exactly when the content is equal.

        A count of zero says nothing, and is left out.
        """
        units = ";".join([f"{name}={amount}" for name, amount in self.units if amount])
        own = own_content(units, self.latency_ms, self.at_ms, self.cost_nano, self.job)
        return fingerprint(shared_content(self.shared()), own)


def shared_content(shared: tuple[object, ...]) -> Hasher:
    """The beginning of the fingerprint of every record that shares this (see Usage.shared)."""
    return blake2b(repr(shared).encode(), digest_size=FINGERPRINT_BYTES)


def own_content(units: str, latency_ms: int | None, at_ms: int | None, cost_nano: int | None, job: str) -> str:
    """What a fingerprint says of a record alone; `units` are "name=amount", sorted, joined by ";", without zeros."""
    return f"{units}|{latency_ms}|{at_ms}|{cost_nano}|{job}"


def fingerprint(shared: Hasher, own: str) -> bytes:
    """The digest of shared and own content together."""
    whole = shared.copy()
    whole.update(own.encode("utf-8", "surrogatepass"))
    return whole.digest()


class TimeLimits(NamedTuple):
    """How far from now a record's own time may lie, in milliseconds."""

    past_ms: int
    future_ms: int

    def for_history(self, now_ms: int) -> TimeLimits:
        """The limits of records that are history: as far back as HISTORY_FROM_MS, with a day to spare."""
        return TimeLimits(now_ms - HISTORY_FROM_MS + 86_400_000, self.future_ms)

    def check(self, at_ms: int, now_ms: int, field: str = "timestamp") -> None:
        """Raise Invalid when `at_ms` is outside [now − past, now + future]."""
        if at_ms < now_ms - self.past_ms:
            raise Invalid(field, f"is more than {self.past_ms // 86_400_000} days ago; older usage is not accepted")
        if at_ms > now_ms + self.future_ms:
            raise Invalid(field, f"is more than {self.future_ms // 60_000} minutes in the future; check the clock")


def status_class(status: str) -> str:
    """The class a status word belongs to: success, incomplete, sandbox, and error for everything else."""
    return _STATUS_CLASSES.get(status.lower(), ERROR)


def check_text(usage: Usage) -> None:
    """Raise Invalid for text that is too long or holds control characters, for too many or odd tags."""
    texts = (*usage[:2], *usage[3:11], usage.endpoint, usage.status, usage.request_id)
    joined = "".join(texts)
    # Nearly every record passes here; the loop is for naming the field that does not.
    if not joined.isprintable() or (len(joined) > MAX_TEXT and max(map(len, texts)) > MAX_TEXT):
        for name, text in zip(_TEXT_FIELDS, texts, strict=True):
            check_string(text, name)
    if len(usage.tags) > MAX_TAGS:
        raise Invalid("feature_tags", f"must be at most {MAX_TAGS} tags")
    for tag in usage.tags:
        check_string(tag, "feature_tags")
        if "," in tag:
            raise Invalid("feature_tags", "must not contain a comma")
    if usage.latency_ms is not None and not 0 <= usage.latency_ms <= MAX_LATENCY_MS:
        raise Invalid("latency_ms", f"must be between 0 and {MAX_LATENCY_MS}")


def check_string(text: str, field: str) -> None:
    """Raise Invalid unless `text` is at most MAX_TEXT characters and free of control characters."""
    if len(text) > MAX_TEXT:
        raise Invalid(field, f"must be at most {MAX_TEXT} characters")
    if not text.isprintable() and any(c < " " or "\x7f" <= c < "\xa0" or "\ud800" <= c < "\ue000" for c in text):
        raise Invalid(field, "must not contain control characters")


_TEXT_FIELDS = (
    "source_app",
    "model",
    "user",
    "project",
    "team",
    "product",
    "job",
    "provider",
    "prompt_key",
    "prompt_version",
    "endpoint",
    "status",
    "request_id",
)
