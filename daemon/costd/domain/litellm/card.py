"""Rate cards that LiteLLM's prices make: what they leave open is filled where it follows from the rest, or taken out.

costd's counts nest: `input_tokens` contains cached and audio tokens, and cached audio tokens are in both. A rate for a
part needs one for its whole, and where two priced parts overlap, one for what is in both. LiteLLM prices parts alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from decimal import Context as Arithmetic
from decimal import Decimal, Inexact
from typing import Any, TypeAlias

#: {threshold in input tokens: USD for one of the unit}, 0 being the first tier. Ascending.
Steps: TypeAlias = Mapping[int, Decimal]
#: {unit: its steps}.
Card: TypeAlias = dict[str, Steps]

#: Wide enough for any product of two prices of `read_number`; anything rounded is a bug.
EXACT = Arithmetic(prec=200, traps=[Inexact])

MODALITIES = ("audio", "image", "video")
#: Kinds of cached tokens, and how the part of one modality in each is called.
_CACHED = {
    "cache_read_tokens": "cache_{}_read_tokens",
    "cache_write_tokens": "cache_{}_write_tokens",
    "cache_write_1h_tokens": "cache_{}_write_1h_tokens",
}
_KINDS_OF_OUTPUT = ("output_reasoning_tokens", "output_citation_tokens")
_PAGES = {"input_annotated_document_pages": "input_document_pages"}


class Notes:
    """What was decided about an entry, by unit; each thing once."""

    def __init__(self) -> None:
        self.missed: dict[tuple[str, str], None] = {}
        self.assumed: dict[tuple[str, str], None] = {}

    def miss(self, subject: str, reason: str) -> None:
        """A price that is left out."""
        self.missed[subject, reason] = None

    def assume(self, subject: str, reason: str) -> None:
        """A price that the file leaves open, and what it was taken to be."""
        self.assumed[subject, reason] = None


def whole_of(unit: str) -> str:
    """The unit that contains all others of its family and direction; the unit itself where it is that one."""
    if unit in _PAGES:
        return _PAGES[unit]
    if not is_token(unit):
        return unit
    return "output_tokens" if unit.startswith("output_") else "input_tokens"


def is_token(unit: str) -> bool:
    """Whether a unit counts tokens of the calls themselves (those of computer use are billed beside them)."""
    return unit.endswith("_tokens") and not unit.startswith("computer_use_")


def complete(card: Card, notes: Notes) -> Card:
    """The same card, usable: every part has its whole, every overlap a rate."""
    card = dict(card)
    _add_first_tiers(card, notes)
    _add_wholes(card, notes)
    _remove_loose_parts(card, notes)
    _add_cache_wholes(card)
    _add_cached_modalities(card, notes)
    _remove_unsplit_output(card, notes)
    return card


def _add_first_tiers(card: Card, notes: Notes) -> None:
    """Tokens up to the first threshold cost what others of their kind do, where only those above have a price."""
    for unit, steps in list(card.items()):
        if 0 in steps:
            continue
        whole = card.get(whole_of(unit), {})
        if 0 in whole and whole is not steps:
            first = min(steps)
            card[unit] = {**{above: price for above, price in whole.items() if above < first}, **steps}
        else:
            del card[unit]
            notes.miss(unit, "has a price above a number of tokens, but none up to it")


def _add_wholes(card: Card, notes: Notes) -> None:
    for direction in ("input", "output"):
        whole = f"{direction}_tokens"
        parts = [unit for unit in (f"{direction}_{each}_tokens" for each in MODALITIES) if unit in card]
        if whole in card or not parts:
            continue
        if all(card[part] == card[parts[0]] for part in parts):
            card[whole] = card[parts[0]]
            notes.assume(parts[0], f"the file has no price for other {direction} tokens: they are priced the same")


def _remove_loose_parts(card: Card, notes: Notes) -> None:
    for unit in list(card):
        whole = whole_of(unit)
        if whole not in card:
            del card[unit]
            notes.miss(unit, f"is a price for a part of {whole}, which have none")


def _add_cache_wholes(card: Card) -> None:
    """What a cached part needs above it costs what plain input does: LiteLLM bills cached tokens without a price so."""
    for kind, pattern in _CACHED.items():
        for modality in MODALITIES:
            if pattern.format(modality) in card:
                card.setdefault(f"input_{modality}_tokens", card["input_tokens"])
                card.setdefault(kind, card["input_tokens"])
    if "cache_write_1h_tokens" in card:
        card.setdefault("cache_write_tokens", card["input_tokens"])


def _add_cached_modalities(card: Card, notes: Notes) -> None:
    """Cached audio costs what other cached tokens do, as LiteLLM bills it, unless it has a price of its own."""
    for kind, pattern in _CACHED.items():
        for modality in MODALITIES:
            if kind in card and f"input_{modality}_tokens" in card and pattern.format(modality) not in card:
                card[pattern.format(modality)] = card[kind]
                notes.assume(kind, f"the file has no price for {modality} among them: it is priced the same")


def _remove_unsplit_output(card: Card, notes: Notes) -> None:
    if not any(f"output_{modality}_tokens" in card for modality in MODALITIES):
        return
    for unit in _KINDS_OF_OUTPUT:
        if unit in card:
            if card[unit] != card["output_tokens"]:
                notes.miss(unit, "nothing says what tokens cost that are of this kind and audio, image or video too")
            del card[unit]


def without_idle_parts(cards: Iterable[Card]) -> None:
    """Take out, of all of them at once, parts that cost what their whole costs: they need not be counted apart."""
    cards = list(cards)
    for modality in MODALITIES:
        joins = {pattern.format(modality): kind for kind, pattern in _CACHED.items()}
        if all(_is_idle(card, f"input_{modality}_tokens", joins) for card in cards):
            for card in cards:
                for unit in (f"input_{modality}_tokens", *joins):
                    card.pop(unit, None)
    for unit in ("output_audio_tokens", "output_image_tokens", "output_video_tokens", *_KINDS_OF_OUTPUT):
        if all(_is_idle(card, unit, {}) for card in cards):
            for card in cards:
                card.pop(unit, None)


def _is_idle(card: Card, unit: str, joins: Mapping[str, str]) -> bool:
    if unit not in card:
        return True
    same = (card[join] == card[kind] for join, kind in joins.items() if join in card)
    return card[unit] == card[whole_of(unit)] and all(same)


def multiplied(card: Card, factor: Decimal) -> Card:
    """The card with the prices of its tokens and characters times a factor."""
    return {
        unit: {above: EXACT.multiply(price, factor) for above, price in steps.items()}
        if is_token(unit) or unit.endswith("_characters")
        else steps
        for unit, steps in card.items()
    }


def table_rates(card: Card, per: Mapping[str, int]) -> dict[str, list[Any]]:
    """The rates as a compiled table holds them (costd.store.price_compiler)."""
    return {unit: list(_rate(steps, per.get(unit, 1))) for unit, steps in card.items()}


def _rate(steps: Steps, per: int) -> Iterator[Any]:
    previous: Decimal | None = None
    for above, price in sorted(steps.items()):
        if price == previous:
            continue
        mantissa, power = _exact(price, per)
        if previous is None:
            yield mantissa
            yield power
        else:
            yield [above, mantissa, power]
        previous = price


def _exact(price: Decimal, per: int) -> tuple[int, int]:
    """(mantissa, power of ten) of a price for `per`, without trailing zeros in the mantissa."""
    _, digits, exponent = price.as_tuple()
    assert isinstance(exponent, int)
    mantissa = int("".join(map(str, digits))) * per
    while mantissa and mantissa % 10 == 0:
        mantissa, exponent = mantissa // 10, exponent + 1
    return (mantissa, exponent) if mantissa else (0, 0)
