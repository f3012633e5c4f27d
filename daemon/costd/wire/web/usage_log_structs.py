"""What the usage log takes and answers, field by field."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Raw, Struct

from costd.services.usage_log import DEFAULT_PAGE, MAX_PAGE
from costd.wire.web.aggregation_structs import End
from costd.wire.web.dashboard_structs import IsExact, Timezone
from costd.wire.web.fields import Text

#: US cents on their way out: the digits themselves.
Cents = Annotated[Raw, Meta(description="US cents, exact.", extra_json_schema={"type": "number"})]
CentsText = Annotated[str, Meta(description="US cents as decimal text, exact.")]


class UsageQuery(Struct, frozen=True, rename={"from_": "from"}):
    """Which records: all when nothing is said."""

    model: Text | None = None
    from_: End | None = None
    to: End | None = None
    api_key_id: Text | None = None
    proxy_endpoint_id: Text | None = None
    timezone: Timezone | None = None


class UsageListQuery(UsageQuery, frozen=True, rename={"from_": "from"}):
    """Which records, and which page of them."""

    cursor: Text | None = None
    limit: Annotated[int, Meta(ge=1, le=MAX_PAGE)] = DEFAULT_PAGE


class UsageItem(Struct, frozen=True):
    """One record. `cost_cents` is null while no price matches, `status_code` where the caller named none."""

    id: str
    model: str
    input_tokens: int
    output_tokens: int
    cost_cents: CentsText | None
    duration_ms: int | None
    status_code: int | None
    proxy_endpoint_id: str | None
    requested_at: str
    provider: str
    prompt_key: str
    api_key_id: str | None
    status: str


class UsageDetail(UsageItem, frozen=True):
    """One record in full. Bodies are null: they are not stored."""

    cache_creation_input_tokens: int
    cache_read_input_tokens: int
    request_body: str | None
    response_body: str | None


class UsagePage(Struct, frozen=True, rename="camel"):
    """Records, newest first."""

    items: list[UsageItem]
    next_cursor: str | None
    has_more: bool


class ModelUsage(Struct, frozen=True):
    """One model; `cost` is null where all requests are `unpriced`."""

    model: str
    cost: Cents | None
    requests: int
    tokens: int
    unpriced: int


class DayUsage(Struct, frozen=True):
    """One day that has records; `cost` is null where all requests are `unpriced`."""

    date: str
    cost: Cents | None
    requests: int
    tokens: int
    unpriced: int


class UsageSummaryAnswer(Struct, frozen=True, rename="camel"):
    """Records added up."""

    total_cost_cents: Cents | None
    total_requests: int
    total_input_tokens: int
    total_output_tokens: int
    unpriced: int
    by_model: list[ModelUsage]
    by_day: list[DayUsage]
    timezone: str
    exact: IsExact
