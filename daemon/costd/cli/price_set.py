"""`costd prices set`: what a model costs, for whom and from when on."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import click

from costd.cli.connection import connected
from costd.cli.moments import read_moment
from costd.cli.options import Reach, daemon_options, json_option
from costd.cli.output import print_json, print_table, safe
from costd.cli.price_entries import described, entry_name, message, read_file, read_from
from costd.cli.price_show import matched
from costd.cli.price_text import changed_rows, span_words, unit_words, what_words, when_words, whom_words
from costd.clock import Clock
from costd.domain.errors import Invalid
from costd.domain.price_form import PER_MTOK
from costd.domain.price_rule import (
    FREE,
    MIN_MS,
    Multiplier,
    PriceRule,
    check_rule,
    parse_multiplier,
    parse_rate,
    parse_threshold,
)
from costd.domain.rates import Context, Rates
from costd.domain.units import ALIASES
from costd.v1 import prices_pb2

#: The units that have an option of their own.
_PER_MTOK = {
    "input_tokens": "--input-per-mtok",
    "output_tokens": "--output-per-mtok",
    "cache_read_tokens": "--cache-read-per-mtok",
    "cache_write_tokens": "--cache-write-per-mtok",
}
#: What the domain calls a field, and the flag that says it.
_FLAGS = {
    "model": "MODEL",
    "provider": "--provider",
    "org": "--org",
    "note": "--note",
    "when": "--when",
    "context": "--when",
    "multiplier": "--multiplier",
    "from": "--from",
    "from_ms": "--from",
    "until": "--until",
    "until_ms": "--until",
}
_ENTRY = re.compile(r"prices\[(\d+)\]\.?(.*)", re.DOTALL)


@click.command(
    "set",
    epilog="Example: costd prices set gpt-4o --provider openai --input-per-mtok 2.5 --output-per-mtok 10 "
    "--from 2026-11-01",
)
@click.argument("model", required=False)
@click.option("--provider", default="", metavar="PROVIDER", help="Only where it is bought from this provider.")
@click.option("--input-per-mtok", metavar="USD", help="USD for a million input tokens.")
@click.option("--output-per-mtok", metavar="USD", help="USD for a million output tokens.")
@click.option("--cache-read-per-mtok", metavar="USD", help="USD for a million input tokens read from a cache.")
@click.option("--cache-write-per-mtok", metavar="USD", help="USD for a million input tokens written to a cache.")
@click.option(
    "--unit", "units", multiple=True, metavar="NAME=USD", help="USD for one of any unit: chars, images, … Repeatable."
)
@click.option(
    "--tier",
    "tiers",
    multiple=True,
    metavar="UNIT@TOKENS=USD",
    help="Another rate for calls with more input tokens than this, in the measure of the unit's own. Repeatable.",
)
@click.option(
    "--when", multiple=True, metavar="KEY=VALUE", help="Only in this price context: processing=batch. Repeatable."
)
@click.option("--multiplier", metavar="NUMBER", help="All other units cost this share of what they would: 0.8.")
@click.option("--free", is_flag=True, help="All other units are free of charge.")
@click.option(
    "--from", "from_", metavar="DATE", help='From when on, or "always". [default: now; always if it had no price]'
)
@click.option("--until", metavar="DATE", help="Until when; a date's first moment is the first without. [default: ever]")
@click.option("--org", default="", metavar="NAME", help="Only for this organization. [default: for everybody]")
@click.option("--note", default="", metavar="TEXT", help="A note for people.")
@click.option("--file", "file", metavar="FILE", help='Set all prices of a TOML or JSON file ("-": stdin), or none.')
@daemon_options
@json_option
def set_prices(model: str | None, file: str | None, reach: Reach, *, as_json: bool, **said: Any) -> None:
    """Say what MODEL costs; with "*" at its end, all models that begin so.

    What is left open stays what it is without this price. In force for the very next record; what was recorded before
    keeps its cost until `costd prices reprice`.
    """
    now_ms = Clock().now_ms()
    if file is not None:
        if model is not None or any(value for value in said.values()):
            raise click.UsageError("--file has everything in it: give it without MODEL and other prices")
        news = read_file(file, now_ms)
    elif model is None:
        raise click.UsageError("say which MODEL, or give a --file")
    else:
        news = [_read(model, now_ms, **said)]
    with connected(reach, create=True) as daemon:
        try:
            request = prices_pb2.SetPricesRequest(prices=news)
            answer: prices_pb2.SetPricesResponse = daemon.ask(daemon.admin.SetPrices, request)
        except Invalid as refusal:
            raise _named(refusal, news, file) from None
    if as_json:
        print_json({"prices": [_outcome(done) for done in answer.outcomes]})
    elif file is not None:
        _print_many(answer.outcomes)
    else:
        _print_one(answer.outcomes[0])


def _read(
    model: str,
    now_ms: int,
    *,
    provider: str,
    units: Sequence[str],
    tiers: Sequence[str],
    when: Sequence[str],
    multiplier: str | None,
    free: bool,
    from_: str | None,
    until: str | None,
    org: str,
    note: str,
    **per_mtok: str | None,
) -> prices_pb2.NewPrice:
    """The price that the flags mean; Invalid and ConfigError name the flag."""
    from_ms = None if from_ is None else read_from(from_, now_ms, "--from")
    until_ms = None if until is None else read_moment(until, now_ms, "--until")
    if from_ms is not None and until_ms is not None and until_ms <= from_ms:
        raise Invalid("--until", "must be after --from")
    rates, multiplier_ = _rates(per_mtok, units, tiers), _multiplier(multiplier, free=free)
    if not rates and multiplier_ is None:
        raise Invalid("", "say what it costs: --input-per-mtok, --unit, --multiplier, --free, …")
    rule = PriceRule("", None, provider, model, _context(when), rates, multiplier_, from_ms or MIN_MS, until_ms, note)
    try:
        return message(check_rule(rule), org, from_ms)
    except Invalid as refusal:
        raise _flagged(refusal.field, refusal.reason) from None


def _rates(per_mtok: dict[str, str | None], units: Sequence[str], tiers: Sequence[str]) -> Rates:
    rates: dict[str, list[Any]] = {}
    measures: dict[str, int] = {}
    for unit, flag in _PER_MTOK.items():
        text = per_mtok[flag[2:].replace("-", "_")]
        if text is not None:
            rates[unit], measures[unit] = list(parse_rate(text.strip(), flag, per=PER_MTOK)), PER_MTOK
    for text in units:
        name, equals, usd = text.partition("=")
        unit = ALIASES.get(name.strip(), name.strip())
        if not (equals and unit):
            raise Invalid("--unit", f'"{text[:64]}" must be NAME=USD, such as images=0.04')
        if unit in rates:
            raise Invalid("--unit", f"{unit[:64]} has its price already")
        rates[unit], measures[unit] = list(parse_rate(usd.strip(), f"--unit {unit[:64]}")), 1
    for text in tiers:
        _add_tier(text, rates, measures)
    return rates


def _add_tier(text: str, rates: dict[str, list[Any]], measures: dict[str, int]) -> None:
    left, equals, usd = text.rpartition("=")
    name, at, above = left.partition("@")
    unit = ALIASES.get(name.strip(), name.strip())
    if not (equals and at):
        raise Invalid("--tier", f'"{text[:64]}" must be UNIT@TOKENS=USD, such as input_tokens@200000=5')
    if unit not in rates:
        raise Invalid("--tier", f"{unit[:64]} has no price for shorter calls; give that too")
    flag = f"--tier {unit}@{above[:16]}"
    threshold = parse_threshold(above.strip().replace(",", ""), flag)
    rates[unit].append([threshold, *parse_rate(usd.strip(), flag, per=measures[unit])])


def _context(when: Sequence[str]) -> Context:
    words: dict[str, str] = {}
    for text in when:
        name, equals, word = text.partition("=")
        if not (equals and name.strip() and word.strip()):
            raise Invalid("--when", f'"{text[:64]}" must be KEY=VALUE, such as processing=batch')
        if words.setdefault(name.strip(), word.strip()) != word.strip():
            raise Invalid("--when", f"{name.strip()[:64]} can have one value only")
    return tuple(sorted(words.items()))


def _multiplier(text: str | None, *, free: bool) -> Multiplier | None:
    if text is None:
        return FREE if free else None
    if free:
        raise Invalid("--free", "says what --multiplier says; give one of them")
    return parse_multiplier(text.strip(), "--multiplier")


def _flagged(field: str, reason: str) -> Invalid:
    """A refusal, its field named as the flag that said it."""
    head, _, rest = field.partition(".")
    if head == "rates":
        flag = _PER_MTOK.get(rest, f"--unit {rest}") if rest else ""
        return Invalid(flag, reason if rest else f"the rates {reason}")
    return Invalid(_FLAGS.get(head, head), reason)


def _named(refusal: Invalid, news: Sequence[prices_pb2.NewPrice], file: str | None) -> Invalid:
    """What the daemon refused, in terms of the flags or of the file."""
    path, _, reason = refusal.message.partition(": ")
    found = _ENTRY.fullmatch(path)
    if found is None:
        return refusal if file is not None or path not in _FLAGS else _flagged(path, reason)
    if file is None:
        return _flagged(found[2], reason)
    at = int(found[1])
    return Invalid("", f"{file}: {entry_name(at, news[at])}: {f'{found[2]}: ' if found[2] else ''}{reason}")


def _outcome(done: prices_pb2.PriceOutcome) -> dict[str, object]:
    return {
        "price": described(done.price),
        "new": done.is_new,
        "from_chosen": done.from_chosen,
        "before": matched(done.before) if done.HasField("before") else None,
        "after": matched(done.after) if done.HasField("after") else None,
    }


def _print_one(done: prices_pb2.PriceOutcome) -> None:
    price = done.price
    multiplier = price.multiplier if price.HasField("multiplier") else None
    word = "set" if done.is_new else "was set already"
    click.echo(safe(f"{word}: {what_words(price)}, for {whom_words(price)}, {span_words(price)}"))
    if done.from_chosen and done.is_new:
        had = done.HasField("before") or price.model.endswith("*")
        click.echo("no date was given: " + ("from now on" if had else "for all times, as it had no price"))
    click.echo(safe(f"price {price.id}: {unit_words(price.rates, multiplier)}"))
    if done.HasField("after"):
        rows = changed_rows(done.before if done.HasField("before") else None, done.after)
        if rows and done.is_new:
            print_table(["unit", "before", "after", "for"], rows, numbers=["before", "after"])
        _warn(done)


def _warn(done: prices_pb2.PriceOutcome) -> None:
    """A price without a context holds in every context, also where the list has another rate for batches, say."""
    if done.price.when or not done.price.rates:
        return
    named = {rate.unit for rate in done.price.rates}
    was = {when_words(v.when): {r.unit: r.usd for r in v.rates} for v in done.before.variants}
    plain = {rate.unit: rate.usd for rate in done.before.rates}
    others = [name for name, rates in was.items() if any(rates.get(unit) != plain.get(unit) for unit in named)]
    if others and done.is_new:
        contexts = "; ".join(others)
        click.echo(
            safe(f"costd: it holds in every context, also where the price was another: {contexts} (see --when)"),
            err=True,
        )


def _print_many(outcomes: Sequence[prices_pb2.PriceOutcome]) -> None:
    rows = [
        [
            done.price.id,
            what_words(done.price),
            whom_words(done.price),
            span_words(done.price),
            unit_words(done.price.rates, done.price.multiplier if done.price.HasField("multiplier") else None),
            "new" if done.is_new else "as it was",
        ]
        for done in outcomes
    ]
    print_table(["price", "of", "for", "when", "rates", "state"], rows)
    new = sum(done.is_new for done in outcomes)
    click.echo(f"set {new:,} prices; {len(outcomes) - new:,} were set already")
