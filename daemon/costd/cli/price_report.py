"""What importing a price table would change: the report, for people and for programs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import click

from costd.cli.output import print_table, safe
from costd.cli.price_text import when_words
from costd.domain.litellm_prices import ImportReport, Remark
from costd.domain.price_comparison import Difference, RateDifference, rate_text
from costd.domain.price_rule import PriceRule
from costd.v1 import prices_pb2

#: Names that a line of the short report gives.
_NAMED = 5


class Hidden(NamedTuple):
    """A model of the table that prices which were set speak of: they stay in front."""

    provider: str
    model: str
    prices: list[str]


class Report(NamedTuple):
    """What is in a table, how it differs, and what stays in front of it; `left_out` are sentences."""

    differences: Sequence[Difference]
    hidden: Sequence[Hidden]
    compiled: ImportReport | None = None
    left_out: Sequence[str] = ()

    @property
    def counts(self) -> dict[str, int]:
        """How many models are of each kind."""
        changes = Counter(each.change for each in self.differences)
        found = {word: changes[word] for word in ("new", "changed", "same", "gone")}
        if self.compiled is None:
            return found
        listings = Counter(each.listing for each in self.differences if each.change != "gone")
        return found | {word: listings[word] for word in ("unlisted", "divergent")}


def hidden_models(differences: Iterable[Difference], prices: Iterable[prices_pb2.Price], now_ms: int) -> list[Hidden]:
    """The models that prices which are or will be in force speak of."""
    rules = [_rule(price) for price in prices if not price.HasField("until_ms") or price.until_ms > now_ms]
    found = []
    for each in differences:
        name, listed = each.model.lower(), each.listed_as.lower()
        ids = [
            rule.id
            for rule in rules
            if rule.provider in {"", each.provider} and rule.closeness(name, listed) and each.change != "gone"
        ]
        if ids:
            found.append(Hidden(each.provider, each.model, ids))
    return found


def _rule(price: prices_pb2.Price) -> PriceRule:
    return PriceRule(price.id, None, price.provider, price.model, (), {}, None, price.from_ms)


def described(report: Report) -> dict[str, object]:
    """The whole report, for programs."""
    said: dict[str, object] = {"models": report.counts}
    if (compiled := report.compiled) is not None:
        said |= {
            "entries": compiled.entries,
            "imported": compiled.imported,
            "partly": compiled.partly,
            "unpriced": list(compiled.unpriced),
            "refused": [remark._asdict() for remark in compiled.refused],
            "free": list(compiled.free),
            "not_understood": [remark._asdict() for remark in compiled.not_understood],
            "assumed": [remark._asdict() for remark in compiled.assumed],
            "hidden_names": [remark._asdict() for remark in compiled.hidden],
            "unknown_fields": dict(sorted(compiled.unknown_fields.items())),
            "units": list(compiled.units),
        }
    return said | {
        "left_out": list(report.left_out),
        "behind_prices": [each._asdict() for each in report.hidden],
        "differences": [_difference(each) for each in report.differences if _is_told(each)],
    }


def _is_told(each: Difference) -> bool:
    return each.change != "same" or each.listing == "divergent"


def _difference(each: Difference) -> dict[str, object]:
    return {
        "provider": each.provider,
        "model": each.model,
        "change": each.change,
        "listing": each.listing,
        "listed_as": each.listed_as or None,
        "changed": [_rate(one) for one in each.changed],
        "divergent": [_rate(one) for one in each.divergent],
    }


def _rate(one: RateDifference) -> dict[str, object]:
    return {
        "unit": one.unit,
        "when": dict(one.context),
        "per": one.per,
        "new": None if one.new is None else rate_text(one.new),
        "other": None if one.other is None else rate_text(one.other),
    }


def print_report(report: Report, *, verbose: bool) -> None:
    """The report for people: counts and a few names, or everything."""
    counts = report.counts
    if (compiled := report.compiled) is not None:
        click.echo(
            f"{compiled.entries:,} entries: {compiled.imported:,} with prices ({compiled.partly:,} of them in part), "
            f"{len(compiled.unpriced):,} without, {len(compiled.refused):,} not usable"
        )
    click.echo(
        f"compared with what is in force: {counts['new']:,} new, {counts['changed']:,} changed, {counts['same']:,} as "
        f"they were, {counts['gone']:,} gone"
    )
    if compiled is not None:
        click.echo(
            f"compared with the list: {counts['divergent']:,} divergent, {counts['unlisted']:,} that it does not know"
        )
        _print_remarks(compiled, verbose=verbose)
    for sentence in report.left_out if verbose else report.left_out[:_NAMED]:
        click.echo(safe(f"left out: {sentence}"))
    if report.hidden:
        names = _names([each.model for each in report.hidden], verbose=verbose)
        click.echo(safe(f"behind prices that were set, which stay in front: {len(report.hidden):,}: {names}"))
    if verbose:
        _print_differences(report, with_list=compiled is not None)


def _names(names: Sequence[str], *, verbose: bool) -> str:
    shown = names if verbose else names[:_NAMED]
    rest = len(names) - len(shown)
    return ", ".join(shown) + (f" and {rest:,} more (--verbose)" if rest else "")


def _print_remarks(compiled: ImportReport, *, verbose: bool) -> None:
    kinds: tuple[tuple[str, Sequence[Remark]], ...] = (
        ("not usable", compiled.refused),
        ("not understood", compiled.not_understood),
        ("assumed", compiled.assumed),
        ("another entry's name", compiled.hidden),
    )
    for title, remarks in kinds:
        if remarks and verbose:
            rows = [[remark.model, remark.field or "-", remark.reason] for remark in remarks]
            print_table(["model", "field", "why"], rows, title=f"{title}: {len(remarks):,}")
        elif remarks:
            models = list(dict.fromkeys(remark.model for remark in remarks))
            click.echo(safe(f"{title}: {len(remarks):,} prices: {_names(models, verbose=False)}"))
    if compiled.free:
        names = _names(compiled.free, verbose=verbose)
        click.echo(safe(f"free of charge by the file, which also means unknown there: {len(compiled.free):,}: {names}"))
    if compiled.unknown_fields:
        fields = sorted(compiled.unknown_fields.items(), key=lambda item: (-item[1], item[0]))
        names = _names([f"{name} ({count:,})" for name, count in fields], verbose=verbose)
        click.echo(safe(f"fields about money that are not known: {names}"))


def _print_differences(report: Report, *, with_list: bool) -> None:
    rows = []
    for each in report.differences:
        rows += [_row(each, one, each.change) for one in each.changed]
        rows += [_row(each, one, "divergent from the list") for one in each.divergent if with_list]
        if each.change in {"new", "gone"} and not (each.changed or each.divergent):
            rows.append([each.provider, each.model, each.change, "", "", "", ""])
    if rows:
        columns = ["provider", "model", "what", "unit", "new", "other", "for"]
        print_table(columns, rows, title="models")


def _row(each: Difference, one: RateDifference, what: str) -> list[str]:
    unit = f"{one.unit} ({when_words(dict(one.context))})" if one.context else one.unit
    return [each.provider, each.model, what, unit, rate_text(one.new), rate_text(one.other), f"{one.per:,}"]
