"""What the ingest surface takes and answers, field by field."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, Struct

from costd.wire.web.fields import CountIn, Name, Text, UsdIn

# "Required" is said in this surface's own words, so these are held to their kind by the handler.
_Amount = Annotated[Any, Meta(description="USD.", extra_json_schema={"type": "number", "minimum": 0, "maximum": 10**9})]
_Month = Annotated[Any, Meta(extra_json_schema={"type": "integer", "minimum": 1, "maximum": 12})]
_Year = Annotated[Any, Meta(extra_json_schema={"type": "integer", "minimum": 2000, "maximum": 2100})]
_Tokens = Annotated[Any, Meta(extra_json_schema={"type": "integer", "minimum": 0})]
_Day = Annotated[str, Meta(extra_json_schema={"format": "date"})]
_Notes = Annotated[str, Meta(max_length=4096)]


class CostData(Struct, frozen=True):
    """What a month cost at one service."""

    amount: _Amount
    month: _Month
    year: _Year
    payment_source: Text | None = None
    breakdown: dict[str, Any] | None = None
    notes: _Notes | None = None
    tokens_used: CountIn = None
    tokens_limit: CountIn = None
    currency: Text | None = None


class TokensData(Struct, frozen=True):
    """The tokens a month used at one service."""

    month: _Month
    year: _Year
    tokens_used: _Tokens
    cost: UsdIn = None
    input_tokens: CountIn = None
    output_tokens: CountIn = None
    cached_tokens: CountIn = None
    billing_start_date: _Day | None = None
    billing_end_date: _Day | None = None
    currency: Text | None = None


class CostEntry(Struct, frozen=True, tag_field="type", tag="cost"):
    """A month's cost."""

    service: Name
    data: CostData
    project: Text | None = None
    product: Text | None = None


class TokensEntry(Struct, frozen=True, tag_field="type", tag="tokens"):
    """A month's tokens."""

    service: Name
    data: TokensData
    project: Text | None = None
    product: Text | None = None


class IngestAnswer(Struct, frozen=True):
    """An entry that is on disk."""

    success: bool
    message: str
    recordId: str  # noqa: N815 - the wire's name
    duplicate: bool


class IngestType(Struct, frozen=True):
    """One type of entry: which fields of `data` it must and may have."""

    required: list[str]
    optional: list[str]


class IngestAbout(Struct, frozen=True):
    """What the endpoint takes."""

    success: bool
    endpoint: str
    method: str
    authentication: str
    contentType: str  # noqa: N815 - the wire's name
    required: list[str]
    optional: list[str]
    types: dict[str, IngestType]
    documentation: str


class NewKeyBody(Struct, frozen=True):
    """The key to make."""

    keyName: Name  # noqa: N815 - the wire's name
    description: Text | None = None


class NewKeyAnswer(Struct, frozen=True):
    """The new key; `apiKey` is shown this once."""

    success: bool
    message: str
    keyName: str  # noqa: N815 - the wire's name
    apiKey: str  # noqa: N815 - the wire's name
    instructions: str
