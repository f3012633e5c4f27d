"""The preflight/record surface: preflights, records, upserts and its health."""

from __future__ import annotations

from costd.domain.access import Caller
from costd.domain.errors import Invalid
from costd.domain.provider_usage import Context, tier_context, units_from_provider
from costd.domain.units import Quantity
from costd.domain.usage import SUCCESS, Usage, check_string
from costd.services.live_window import Noted
from costd.services.metering import Receipt
from costd.store.catalog import ProjectRecord, UserRecord
from costd.wire.web.answers import Answer, encode, money, money_or_null, rfc3339
from costd.wire.web.fields import check_currency, record_id, rounded_of, units_of, usd_of
from costd.wire.web.moments import parse_timestamp
from costd.wire.web.route import DOOR, Call
from costd.wire.web.usage_structs import (
    Budget,
    HealthAnswer,
    PreflightAnswer,
    PreflightBody,
    ProjectAnswer,
    ProjectBody,
    RecordAnswer,
    RecordBody,
    ReleaseAnswer,
    UserAnswer,
    UserBody,
)

_MAX_CONTEXT = 16

#: The domain's names of fields → this surface's.
FIELD_NAMES = {
    "user": "user_external_id",
    "project": "project_external_id",
    "job": "job_external_id",
    "tags": "feature_tags",
}


async def health(call: Call) -> object:
    """200 while records can be taken, else 503."""
    if not call.services.health.problems():
        return HealthAnswer(status="ok", db="ok")
    return Answer(encode(HealthAnswer(status="error", db="error")), status=503)


async def preflight(call: Call) -> object:
    """Price the worst case of a call and say whether it may be made."""
    sent: PreflightBody = call.body
    estimate = Usage(
        source_app=_source_app(sent, call.caller),
        model=sent.model,
        units=units_of(sent.estimated_units, "estimated_units"),
        user=sent.user_external_id,
        project=sent.project_external_id or "",
        team=sent.team or "",
        product=sent.product or "",
        job=sent.job_external_id or "",
        provider=sent.provider or "",
        prompt_key=sent.prompt_key or "",
        prompt_version=_version_of(sent),
        tags=_tags_of(sent),
        endpoint=sent.endpoint or "",
        context=_context_of(sent, ()),
        request_id=record_id(sent.request_id, call.idempotency_key, "request_id"),
    )
    decision = await call.services.admission.decide(call.caller, estimate)
    return PreflightAnswer(
        allow=decision.allow,
        request_id=decision.request_id,
        estimated_cost_usd=money_or_null(decision.estimated_cost_nano),
        deny_reason=decision.deny_reason,
        budget=None if decision.budget is None else _budget_answer(decision.budget),
        warnings=decision.warnings,
    )


def _budget_answer(noted: Noted) -> Budget:
    return Budget(
        id=noted.id,
        name=noted.name,
        scope_type=noted.scope_type,
        limit_usd=money(noted.limit_nano),
        spent_usd=money(noted.spent_nano),
        remaining_usd=money(noted.remaining_nano),
        resets_at=None if noted.resets_ms is None else rfc3339(noted.resets_ms),
    )


async def release(call: Call) -> object:
    """Let go of what a preflight reserved for a call that will not be made."""
    request_id = record_id(call.body.request_id, call.idempotency_key, "request_id")
    released = call.services.admission.release(call.caller, request_id)
    return ReleaseAnswer(released=released, request_id=request_id)


async def record(call: Call) -> object:
    """Record one call; answered when it is on disk."""
    usage = usage_of(call.body, call.caller, call.idempotency_key)
    call.handed_over = True
    return record_answer(await call.services.metering.record(call.caller, usage, DOOR))


def record_answer(receipt: Receipt) -> RecordAnswer:
    """A receipt as this surface shows it."""
    return RecordAnswer(
        event_id=receipt.event_id,
        cost_usd=money_or_null(receipt.cost_nano),
        request_id=receipt.request_id or None,
        duplicate=receipt.duplicate,
        warnings=receipt.warnings,
    )


def usage_of(sent: RecordBody, caller: Caller, idempotency_key: str) -> Usage:
    """A record's body as usage; raises Invalid naming the field."""
    check_currency(sent.currency, "currency")
    units, context = _units_and_context(sent)
    return Usage(
        source_app=_source_app(sent, caller),
        model=sent.model,
        units=units,
        user=sent.user_external_id,
        project=sent.project_external_id or "",
        team=sent.team or "",
        product=sent.product or "",
        job=sent.job_external_id or "",
        provider=sent.provider or "",
        prompt_key=sent.prompt_key or "",
        prompt_version=_version_of(sent),
        tags=_tags_of(sent),
        endpoint=sent.endpoint or "",
        status=sent.status or SUCCESS,
        latency_ms=rounded_of(sent.latency_ms, "latency_ms"),
        at_ms=parse_timestamp(sent.timestamp, "timestamp"),
        cost_nano=usd_of(sent.cost_usd, "cost_usd"),
        context=context,
        request_id=record_id(sent.request_id, idempotency_key, "request_id"),
    )


def _units_and_context(sent: RecordBody) -> tuple[tuple[tuple[str, Quantity], ...], Context]:
    if sent.usage is None:
        if sent.units is None:
            raise Invalid("units", "is required: how much of each unit, or `usage` as the provider reports it")
        return units_of(sent.units, "units"), _context_of(sent, ())
    if sent.units is not None:
        raise Invalid("usage", "and units were both sent; send one of them")
    if not sent.provider:
        raise Invalid("provider", "is required with `usage`: it says how to read it")
    units, context = units_from_provider(sent.provider, sent.usage)
    return tuple(sorted(units.items())), _context_of(sent, context)


def _context_of(sent: PreflightBody | RecordBody, found: Context) -> Context:
    """What selects a price variant: the caller's explicit context over its service_tier over the provider's report."""
    if sent.price_context is None and sent.service_tier is None:
        return found
    chosen = dict(found)
    if sent.service_tier is not None:
        chosen.update(tier_context(sent.service_tier))
    for name, value in (sent.price_context or {}).items():
        check_string(name, "price_context")
        check_string(value, f"price_context.{name}")
        chosen[name] = value
    if len(chosen) > _MAX_CONTEXT:
        raise Invalid("price_context", f"must be at most {_MAX_CONTEXT} entries")
    return tuple(sorted(chosen.items()))


def _source_app(sent: PreflightBody | RecordBody, caller: Caller) -> str:
    if not sent.source_app and not caller.source_app:
        raise Invalid("source_app", "is required: the application that makes the call")
    return sent.source_app or ""


def _version_of(sent: PreflightBody | RecordBody) -> str:
    return "" if sent.prompt_version is None else str(sent.prompt_version)


def _tags_of(sent: PreflightBody | RecordBody) -> tuple[str, ...]:
    return tuple(sorted(set(sent.feature_tags))) if sent.feature_tags else ()


async def upsert_user(call: Call) -> object:
    """Create or update a user."""
    sent: UserBody = call.body
    stored = await call.services.catalog.upsert_user(
        call.caller,
        UserRecord(sent.external_id, _upserting_app(sent, call.caller), sent.email, sent.full_name),
    )
    return UserAnswer(
        external_id=stored.external_id,
        source_app=stored.source_app,
        email=stored.email,
        full_name=stored.full_name,
        created_at=rfc3339(stored.created_ms),
        updated_at=rfc3339(stored.updated_ms),
    )


async def upsert_project(call: Call) -> object:
    """Register or update a project."""
    sent: ProjectBody = call.body
    stored = await call.services.catalog.upsert_project(
        call.caller,
        ProjectRecord(sent.external_id, _upserting_app(sent, call.caller), sent.name, sent.workspace_id, sent.team_id),
    )
    return ProjectAnswer(
        external_id=stored.external_id,
        source_app=stored.source_app,
        name=stored.name,
        workspace_id=stored.workspace_id,
        team_id=stored.team_id,
        registered=stored.registered,
        created_at=rfc3339(stored.created_ms),
        updated_at=rfc3339(stored.updated_ms),
    )


def _upserting_app(sent: UserBody | ProjectBody, caller: Caller) -> str:
    if not sent.source_app and not caller.source_app:
        raise Invalid("source_app", "is required: the application whose id this is")
    return sent.source_app or ""
