"""`costd prices show`: what a model costs, and why."""

from __future__ import annotations

from collections.abc import Sequence

import click

from costd.cli.connection import connected
from costd.cli.moments import iso, read_moment
from costd.cli.options import Reach, csv_option, daemon_options, json_option
from costd.cli.output import print_csv, print_json, print_pairs, print_table
from costd.cli.price_entries import described
from costd.cli.price_text import each_words, per_mtok_text, per_words, rate_words, span_words, when_words, whom_words
from costd.clock import Clock
from costd.domain.errors import ConfigError
from costd.v1 import prices_pb2

_COLUMNS = ("unit", "usd_each", "usd_per_mtok", "usd", "per", "source", "source_id", "scaled_by")


@click.command("show", epilog="Example: costd prices show gpt-4o --at 2026-11-01 --when processing=batch")
@click.argument("model")
@click.option("--provider", default="", metavar="PROVIDER", help="Who sells it. [default: found by its name]")
@click.option("--at", metavar="DATE", help="At that moment; a date is its first one (UTC). [default: now]")
@click.option("--when", multiple=True, metavar="KEY=VALUE", help="In this price context. Repeatable.")
@click.option("--org", default="", metavar="NAME", help="For this organization. [default: the key's own]")
@daemon_options
@json_option
@csv_option
def show(
    model: str,
    provider: str,
    at: str | None,
    when: tuple[str, ...],
    org: str,
    reach: Reach,
    *,
    as_json: bool,
    as_csv: bool,
) -> None:
    """Show what MODEL costs, where each rate comes from, and which prices that were set match."""
    request = prices_pb2.MatchPriceRequest(model=model, provider=provider, when=read_when(when), org=org)
    request.at_ms = Clock().now_ms() if at is None else read_moment(at, Clock().now_ms(), "--at")
    with connected(reach) as daemon:
        found: prices_pb2.MatchedPrice = daemon.ask(daemon.admin.MatchPrice, request)
    if as_json:
        print_json({"asked": {"model": model, "provider": provider}, **matched(found)})
    elif as_csv:
        rows = [_rate(rate) for rate in found.rates]
        print_csv(_COLUMNS, ([row[name] for name in _COLUMNS] for row in rows))
    else:
        _print(found)


def read_when(texts: Sequence[str]) -> dict[str, str]:
    """A price context from flags; ConfigError where one makes no sense."""
    words: dict[str, str] = {}
    for text in texts:
        name, equals, word = text.partition("=")
        if not (equals and name.strip() and word.strip()):
            raise ConfigError("--when", text, "must be KEY=VALUE, such as processing=batch")
        if words.setdefault(name.strip(), word.strip()) != word.strip():
            raise ConfigError("--when", text, f"must name {name.strip()} once")
    return words


def matched(found: prices_pb2.MatchedPrice) -> dict[str, object]:
    """What a model costs, for programs."""
    return {
        "provider": found.provider,
        "model": found.model,
        "at": iso(found.at_ms),
        "when": dict(sorted(found.when.items())),
        "rates": [_rate(rate) for rate in found.rates],
        "free": found.is_free,
        "defect": found.defect or None,
        "since": iso(found.since_ms) if found.HasField("since_ms") else None,
        "until": iso(found.until_ms) if found.HasField("until_ms") else None,
        "varies_by_time_of_day": found.is_timed,
        "base": {"kind": found.base, "version": found.base_version, "name": found.base_name} if found.base else None,
        "prices": [described(price) for price in found.prices],
        "variants": [
            {
                "when": dict(sorted(variant.when.items())),
                "free": variant.is_free,
                "rates": [_plain_rate(rate) for rate in variant.rates],
            }
            for variant in found.variants
        ],
    }


def _rate(rate: prices_pb2.MatchedRate) -> dict[str, object]:
    return {
        **_plain_rate(rate),
        "source": rate.origin.kind,
        "source_id": rate.origin.id,
        "scaled_by": list(rate.origin.scaled_by),
    }


def _plain_rate(rate: prices_pb2.MatchedRate) -> dict[str, object]:
    return {
        "unit": rate.unit,
        "usd_each": rate.usd_each,
        "usd_each_is_rounded": rate.is_rounded,
        "usd_per_mtok": per_mtok_text(rate),
        "usd": rate.usd,
        "per": rate.per,
        "above": {str(tier.above_input_tokens): tier.usd for tier in rate.tiers},
    }


def _print(found: prices_pb2.MatchedPrice) -> None:
    since = f"since {iso(found.since_ms)}" if found.HasField("since_ms") else "always so far"
    until = f", until {iso(found.until_ms)}" if found.HasField("until_ms") else ""
    table = " ".join(filter(None, [found.base, found.base_version, found.base_name]))
    print_pairs(
        [
            ("model", found.model),
            ("provider", found.provider or "any (nobody named one)"),
            ("at", iso(found.at_ms)),
            ("this price", since + until + (", varies by the time of day" if found.is_timed else "")),
            *([("context", when_words(found.when))] if found.when else []),
            ("below prices set", table or "nothing: neither list nor file knows it"),
            *([("not priced", found.defect)] if found.defect else []),
        ]
    )
    if found.is_free:
        click.echo("free of charge, whatever is used")
    elif found.rates:
        rows = [
            [rate.unit, rate_words(rate.usd, rate.tiers), per_words(rate.per), each_words(rate), _source(rate)]
            for rate in found.rates
        ]
        print_table(["unit", "price", "for", "each", "from"], rows, numbers=["each"])
    elif not found.defect:
        click.echo("nothing of it has a rate: whatever is used adds nothing")
    _print_prices(found)
    _print_variants(found)


def _source(rate: prices_pb2.MatchedRate) -> str:
    origin = rate.origin
    scaled = f", scaled by {', '.join(origin.scaled_by)}" if origin.scaled_by else ""
    return f"{origin.kind} {origin.id}{scaled}"


def _print_prices(found: prices_pb2.MatchedPrice) -> None:
    if not found.prices:
        return
    used = {rate.origin.id for rate in found.rates} | {one for rate in found.rates for one in rate.origin.scaled_by}
    rows = [
        [
            price.id,
            whom_words(price),
            price.model,
            price.provider or "any",
            when_words(price.when) or "any",
            span_words(price),
            "yes" if price.id in used or (found.is_free and price.multiplier == "0") else "hidden by others",
        ]
        for price in found.prices
    ]
    columns = ["price", "for", "model", "provider", "context", "when", "decides"]
    print_table(columns, rows, title="prices that match, the strongest first")


def _print_variants(found: prices_pb2.MatchedPrice) -> None:
    plain = {rate.unit: (rate.usd, list(rate.tiers)) for rate in found.rates}
    rows = []
    for variant in found.variants:
        name = when_words(variant.when)
        if variant.is_free and not found.is_free:
            rows.append([name, "everything", "free", ""])
        others = [rate for rate in variant.rates if plain.get(rate.unit) != (rate.usd, list(rate.tiers))]
        rows += [[name, rate.unit, rate_words(rate.usd, rate.tiers), per_words(rate.per)] for rate in others]
    if rows:
        print_table(["context", "unit", "price", "for"], rows, title="in other contexts (--when)")
