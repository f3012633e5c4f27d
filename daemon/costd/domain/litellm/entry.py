"""One entry of LiteLLM's price file as the prices of a model in a compiled table, with notes of what was decided."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from itertools import product
from typing import Any, NamedTuple

from costd.domain.litellm.card import Card, complete, is_token, multiplied, table_rates, without_idle_parts
from costd.domain.litellm.compound import read_compound
from costd.domain.litellm.fields import (
    BATCH,
    COMPOUND,
    NOT_IN_USD,
    UNIT_OF,
    UNPRICEABLE,
    WORDS,
    Field,
    looks_like_a_price,
    read_name,
    read_price,
)
from costd.domain.litellm.gathered import Gathered
from costd.domain.rates import Context

_AUDIO_MODES = frozenset({"audio_transcription", "audio_speech", "realtime"})
_CALL_MODES = frozenset({"chat", "completion", "embedding", "responses", None})
_QUERY_UNITS = {"rerank": "rerank_searches", "search": "web_searches", "vector_store": "storage_searches"}

#: Units that measure what tokens of other units measure too; where those have a price, only they count.
_INSTEAD_OF_TOKENS = {
    "input_characters": ("input_tokens",),
    "output_characters": ("output_tokens",),
    "input_images": ("input_image_tokens",),
    "output_images": ("output_image_tokens",),
    "input_video_seconds": ("input_video_tokens",),
    "output_video_seconds": ("output_video_tokens",),
    "audio_seconds": ("input_audio_tokens", "output_audio_tokens"),
    "call_seconds": ("input_tokens", "output_tokens"),
}


class EntryPrices(NamedTuple):
    """What an entry says. `model` is as a table holds it, without an id; None where nothing of it can be used.

    `missed` and `assumed` are (field, reason); `unknown` are fields that have to do with money and that nothing here
    knows; `units` are those the prices are for. `has_price` is whether any field of the entry is a price at all.
    """

    model: dict[str, Any] | None
    missed: tuple[tuple[str, str], ...]
    assumed: tuple[tuple[str, str], ...]
    unknown: tuple[str, ...]
    units: frozenset[str]
    is_free: bool
    has_price: bool


def read_entry(entry: Mapping[str, object], per: Mapping[str, int]) -> EntryPrices:
    """Read an entry; `per` says how many of each unit of the list its prices are for."""
    mode = entry.get("mode")
    gathered = Gathered(str(entry.get("litellm_provider")), mode if isinstance(mode, str) else None)
    unknown = _read_fields(entry, gathered)
    has_price = any(gathered.cards.values()) or bool(gathered.notes.missed or unknown or gathered.asides)
    read_compound(entry, gathered)
    _drop_what_tokens_measure(gathered)
    model, cards = _model(gathered, per)
    units = frozenset(unit for card in cards for unit in card)
    return EntryPrices(
        model if units else None,
        _by_field(gathered, gathered.notes.missed),
        _by_field(gathered, gathered.notes.assumed) if units else (),
        tuple(unknown),
        units | {unit for _, unit in gathered.asides},
        is_free=bool(units) and not any(price for card in cards for steps in card.values() for price in steps.values()),
        has_price=has_price or bool(units or gathered.notes.missed),
    )


def _by_field(gathered: Gathered, notes: Mapping[tuple[str, str], None]) -> tuple[tuple[str, str], ...]:
    return tuple((gathered.fields.get(subject, subject), reason) for subject, reason in notes)


def _read_fields(entry: Mapping[str, object], gathered: Gathered) -> list[str]:
    """Read all fields that say one price each; returns those that nothing knows."""
    unknown: list[str] = []
    fields: list[tuple[Field, str]] = []
    for name, value in entry.items():
        if value is None or name in COMPOUND or name in NOT_IN_USD:
            continue
        field = read_name(name)
        if field is not None:
            fields.append((field, name))
        elif reason := _unpriceable(name):
            gathered.notes.miss(name, reason)
        elif looks_like_a_price(name):
            unknown.append(name)
    for field, name in sorted(fields, key=lambda each: (each[0].rank, each[0].above, each[1])):
        price = read_price(field.base, entry[name])
        if isinstance(price, str):
            gathered.notes.miss(name, price)
        else:
            _put(gathered, entry, field, name, price)
    return unknown


def _unpriceable(name: str) -> str:
    return next((reason for base, reason in UNPRICEABLE.items() if name.startswith(base)), "")


def _put(gathered: Gathered, entry: Mapping[str, object], field: Field, name: str, price: Decimal) -> None:
    unit = _unit(field.base, gathered.mode, entry)
    if not unit:
        gathered.notes.miss(name, f"what a model of mode {gathered.mode!r:.64} measures in it is not known")
    elif field.size:
        gathered.asides[("resolution", field.size), unit] = price
        gathered.fields.setdefault(unit, name)
    else:
        # xAI bills the higher price from the threshold on, all others above it.
        above = field.above - 1 if field.above and gathered.provider == "xai" else field.above
        if unit == "audio_seconds" and not price and unit in gathered.cards[""]:
            return
        if unit == "audio_seconds" and gathered.cards[""].get(unit) == {0: Decimal(0)}:
            del gathered.cards[""][unit]
        gathered.put(name, unit, price, above, field.word)


def _unit(base: str, mode: str | None, entry: Mapping[str, object]) -> str:
    """The unit that a base prices in an entry; "" where its mode leaves that open."""
    if base in {"cost_per_second", "input_cost_per_second", "output_cost_per_second"}:
        if mode in _AUDIO_MODES:
            return "audio_seconds"
        if mode == "video_generation":
            return "input_video_seconds" if base.startswith("input") else "output_video_seconds"
        return "call_seconds" if mode in _CALL_MODES else ""
    if base == "input_cost_per_query":
        return _QUERY_UNITS.get(mode or "", "input_queries")
    if base == "input_cost_per_image" and mode in {"image_generation", "image_edit"}:
        # Older entries price the images made with it; LiteLLM counts them so.
        return "input_images" if entry.get("output_cost_per_image") is not None else "output_images"
    if base == "output_cost_per_image" and mode == "audio_speech":
        return "output_clips"
    return UNIT_OF[base]


def _drop_what_tokens_measure(gathered: Gathered) -> None:
    standard = gathered.cards[""]
    for unit, tokens in _INSTEAD_OF_TOKENS.items():
        is_all_audio = unit == "audio_seconds" and gathered.mode in _AUDIO_MODES
        counted = (*tokens, "input_tokens", "output_tokens") if is_all_audio else tokens
        by = next((each for each in counted if any(standard.get(each, {}).values())), "")
        if unit not in gathered.fields or not by:
            continue
        for card in gathered.cards.values():
            card.pop(unit, None)
        gathered.asides = {key: price for key, price in gathered.asides.items() if key[1] != unit}
        gathered.notes.miss(unit, f"measures what {gathered.fields[by]} does, which is what counts")


def _model(gathered: Gathered, per: Mapping[str, int]) -> tuple[dict[str, Any], list[Card]]:
    """The model as a table holds it, and the cards behind it, the standard one first."""
    notes = gathered.notes
    standard = complete(dict(gathered.cards[""]), notes)
    cards = {word: complete(_over(gathered, word), notes) for word in gathered.cards if word}
    flat = {unit: {0: price} for unit, price in gathered.off_peak.items()}
    words = gathered.cards if gathered.windows else ()
    off_peak = {word: complete({**_over(gathered, word), **flat}, notes) for word in words}
    every = [standard, *cards.values(), *off_peak.values()]
    without_idle_parts(every)
    model: dict[str, Any] = {"prices": [[None, table_rates(standard, per)]]}
    if off_peak:
        model["prices"] += [[["week", *span], table_rates(off_peak[""], per)] for span in gathered.windows]
    variants = list(_variants(standard, {"": standard, **cards}, off_peak, gathered, per))
    for ((key, word), unit), price in gathered.asides.items():
        variants.append([{key: word}, None, table_rates({unit: {0: price}}, per)])
    if variants:
        model["variants"] = variants
    return model, every


def _variants(
    standard: Card, cards: Mapping[str, Card], off_peak: Mapping[str, Card], gathered: Gathered, per: Mapping[str, int]
) -> Iterator[list[Any]]:
    """The variants, those for more words of a context before those for fewer, and timed ones before the others."""
    for factors in _factor_choices(gathered):
        for word, card in sorted(cards.items(), key=lambda each: not each[0]):
            if not word and not factors:
                continue
            whole, timed = card, off_peak.get(word, {})
            for _, _, factor in factors:
                whole, timed = multiplied(whole, factor), multiplied(timed, factor)
            changed = {unit: steps for unit, steps in whole.items() if standard.get(unit) != steps}
            for context in _contexts(word):
                when = {**dict(context), **{key: said for key, said, _ in factors}}
                for span in gathered.windows if timed else ():
                    yield [when, ["week", *span], table_rates(timed, per)]
                yield [when, None, table_rates(changed, per)]


def _contexts(word: str) -> tuple[Context, ...]:
    return WORDS[word] if word else ((),)


def _factor_choices(gathered: Gathered) -> list[tuple[tuple[str, str, Decimal], ...]]:
    """Every way in which factors can come together (one of each key at most), most of them first, none last."""
    by_key: dict[str, list[tuple[str, str, Decimal] | None]] = {}
    for factor in gathered.factors:
        by_key.setdefault(factor[0], [None]).append(factor)
    choices = [tuple(each for each in choice if each is not None) for choice in product(*by_key.values())]
    return sorted(choices, key=len, reverse=True)


def _over(gathered: Gathered, word: str) -> dict[str, Mapping[int, Decimal]]:
    """The standard card with a word's own prices over it, as LiteLLM falls back from one to the other."""
    standard, own = gathered.cards[""], gathered.cards[word]
    if not word:
        return dict(standard)
    merged: dict[str, Mapping[int, Decimal]] = dict(standard)
    for unit, steps in own.items():
        if word == BATCH and 0 not in steps:
            gathered.notes.miss(unit, "has a price for batches above a number of tokens, but none up to it")
        else:
            merged[unit] = steps if word == BATCH else {**standard.get(unit, {}), **steps}
    if "output_tokens" in own and "output_reasoning_tokens" in standard and "output_reasoning_tokens" not in own:
        merged["output_reasoning_tokens"] = merged["output_tokens"]
    if word == BATCH and own:
        _note_missing_batch_prices(gathered, own)
    return merged


def _note_missing_batch_prices(gathered: Gathered, own: Mapping[str, object]) -> None:
    for unit, steps in gathered.cards[""].items():
        if is_token(unit) and unit not in own and any(steps.values()) and unit != "output_reasoning_tokens":
            gathered.notes.assume(unit, "the file has no price for it in batches: it is the standard one")
