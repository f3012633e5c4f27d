"""Providers' own usage objects, converted once into inclusive units and the context that selects price variants.

Sources: the API references of OpenAI (chat completions, responses, realtime, images, embeddings), Anthropic (messages),
Amazon Bedrock (Converse), Google (generateContent, Vertex AI), Mistral, Cohere (v2), Perplexity and xAI, and the
extractors of genai-prices. The shape of the object tells the dialect; the provider decides only where two share one.

Beside the provider's own counts the object may hold `other_units`: counts by unit that its dialect has no place for.

Counts of zero are left out of sub-counts. An overlap of two sub-counts that a provider itemises stays even when it is
zero: a model that prices it cannot be priced without knowing it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

from costd.domain.errors import Invalid
from costd.domain.units import MAX_QUANTITY, Quantity

Context = tuple[tuple[str, str], ...]
Raw = Mapping[str, object]

#: Longer than any provider's word for a tier or a modality; the word may become a metric's label.
MAX_WORD = 64

_BATCH: Context = (("processing", "batch"),)

#: Words for how a call was served that do not change its price: no context.
_STANDARD_WORDS = frozenset({"", "auto", "on_demand", "standard", "standard_only", "unspecified"})
_GEMINI_TRAFFIC = {"on_demand_flex": "flex", "on_demand_priority": "priority", "traffic_type_unspecified": ""}

_MODALITIES = {"TEXT": "text", "AUDIO": "audio", "IMAGE": "image", "DOCUMENT": "image", "VIDEO": "video"}

#: Who reports reasoning beside the completion instead of within it.
_REASONING_APART = ("x-ai", "xai", "x_ai", "grok", "perplexity", "pplx")
_ANTHROPIC_WORDS = ("anthropic", "claude", "bedrock", "aws", "vertex")
_ANTHROPIC_FIELDS = ("cache_creation_input_tokens", "cache_read_input_tokens", "cache_creation", "server_tool_use")


def units_from_provider(provider: str, raw: Raw) -> tuple[dict[str, Quantity], Context]:
    """(units, context) of a provider's `usage` object, under any of the provider's names.

    Unknown fields are ignored. Raises Invalid naming `usage.<field>` where a known one has a wrong type or is negative,
    and `usage` where the object has no usage in any known form.
    """
    name = provider.strip().lower()
    for wrapper in ("usageMetadata", "usage_metadata", "usage", "usage_info"):
        inner = raw.get(wrapper)
        if isinstance(inner, Mapping):
            raw = inner
            break
    usage, units = _Node(raw, "usage"), _Units()
    is_known = any(read(name, usage, units) for read in _DIALECTS)
    if not (_others(raw, units) or is_known):
        raise Invalid("usage", "has no token counts in a form that is known; send `units` instead")
    return units.counts, _context(raw, usage)


def _others(raw: Raw, units: _Units) -> bool:
    """Take what whoever sent the object put beside the provider's own counts; a count of the provider's own wins."""
    others = raw.get("other_units")
    if others is None:
        return False
    if not isinstance(others, Mapping):
        raise Invalid("usage.other_units", "must be an object")
    for unit, value in others.items():
        units.counts.setdefault(str(unit), _quantity(value, f"usage.other_units.{str(unit)[:MAX_WORD]}"))
    return bool(others)


def tier_context(word: str) -> Context:
    """The context of a provider's `service_tier` word: batch is a way of processing, standard words say nothing."""
    tier = word.strip().lower()
    if tier == "batch":
        return _BATCH
    return () if tier in _STANDARD_WORDS else (("service_tier", tier),)


class _Node:
    """An object within the usage object, which knows its path. What is null in it is not there."""

    def __init__(self, raw: Raw, path: str) -> None:
        self._raw = {name: value for name, value in raw.items() if value is not None}
        self._path = path

    def has(self, *names: str) -> bool:
        return not self._raw.keys().isdisjoint(names)

    def count(self, *names: str) -> Quantity:
        """The first of the fields that is there, else 0."""
        if self._raw:
            for name in names:
                if name in self._raw:
                    return _quantity(self._raw[name], f"{self._path}.{name}")
        return 0

    def node(self, *names: str) -> _Node:
        """The first of the objects that is there, else an empty one."""
        for name in names:
            value = self._raw.get(name)
            if isinstance(value, Mapping):
                return _Node(value, f"{self._path}.{name}")
            if value is not None:
                raise Invalid(f"{self._path}.{name}", "must be an object")
        return _EMPTY

    def items(self, *names: str) -> Iterator[_Node]:
        """The objects of the first of the lists that is there."""
        for name in names:
            value = self._raw.get(name)
            if value is None:
                continue
            if not isinstance(value, list | tuple):
                raise Invalid(f"{self._path}.{name}", "must be a list")
            for position, item in enumerate(value):
                if not isinstance(item, Mapping):
                    raise Invalid(f"{self._path}.{name}[{position}]", "must be an object")
                yield _Node(item, f"{self._path}.{name}[{position}]")
            return

    def word(self, name: str) -> str:
        value = self._raw.get(name)
        if value is None:
            return ""
        if not isinstance(value, str):
            raise Invalid(f"{self._path}.{name}", "must be a string")
        if len(value) > MAX_WORD:
            raise Invalid(f"{self._path}.{name}", f"must be at most {MAX_WORD} characters")
        return value


_EMPTY = _Node({}, "")


class _Units:
    """The units read so far."""

    def __init__(self) -> None:
        self.counts: dict[str, Quantity] = {}

    def put(self, name: str, *values: Quantity) -> None:
        """A count of its own, kept when zero."""
        self.counts[name] = _sum(values)

    def add(self, name: str, *values: Quantity) -> None:
        """Added to what is there, kept when zero."""
        self.counts[name] = self.counts.get(name, 0) + _sum(values)

    def part(self, name: str, *values: Quantity) -> None:
        """A sub-count: added to what is there, left out when zero."""
        total = _sum(values)
        if total:
            self.counts[name] = self.counts.get(name, 0) + total

    def itemised(self, whole: str, direction: str, kind: str) -> None:
        """Say of every modality in use that none of it was of `whole`, unless it was said how much."""
        if not self.counts.get(whole):
            return
        for modality in dict.fromkeys(_MODALITIES.values()):
            if self.counts.get(f"{direction}_{modality}_tokens"):
                self.counts.setdefault(kind.format(modality), 0)


def _gemini(_provider: str, usage: _Node, units: _Units) -> bool:
    prompt = ("promptTokenCount", "prompt_token_count")
    candidates = ("candidatesTokenCount", "candidates_token_count", "responseTokenCount", "response_token_count")
    if not usage.has(*prompt, *candidates, "totalTokenCount", "total_token_count"):
        return False
    tool = usage.count("toolUsePromptTokenCount", "tool_use_prompt_token_count")
    thoughts = usage.count("thoughtsTokenCount", "thoughts_token_count")
    units.put("input_tokens", usage.count(*prompt), tool)
    units.put("output_tokens", usage.count(*candidates), thoughts)
    units.part("cache_read_tokens", usage.count("cachedContentTokenCount", "cached_content_token_count"))
    units.part("input_tool_tokens", tool)
    units.part("output_reasoning_tokens", thoughts)
    for modality, count in _by_modality(usage, "promptTokensDetails", "prompt_tokens_details"):
        units.part(f"input_{modality}_tokens", count)
    for modality, count in _by_modality(usage, "toolUsePromptTokensDetails", "tool_use_prompt_tokens_details"):
        units.part(f"input_{modality}_tokens", count)
        units.part(f"input_{modality}_tool_tokens", count)
    responses = ("candidatesTokensDetails", "candidates_tokens_details", "responseTokensDetails")
    for modality, count in _by_modality(usage, *responses):
        units.part(f"output_{modality}_tokens", count)
    cached = ("cacheTokensDetails", "cache_tokens_details")
    for modality, count in _by_modality(usage, *cached):
        units.part(f"cache_{modality}_read_tokens", count)
    if usage.has(*cached):
        units.itemised("cache_read_tokens", "input", "cache_{}_read_tokens")
    return True


def _by_modality(usage: _Node, *names: str) -> Iterator[tuple[str, Quantity]]:
    for item in usage.items(*names):
        modality = _MODALITIES.get(item.word("modality").upper())
        if modality is not None:
            yield modality, item.count("tokenCount", "token_count")


def _bedrock(_provider: str, usage: _Node, units: _Units) -> bool:
    if not usage.has("inputTokens", "outputTokens"):
        return False
    read = usage.count("cacheReadInputTokens", "cacheReadInputTokenCount")
    written = usage.count("cacheWriteInputTokens", "cacheWriteInputTokenCount")
    units.put("input_tokens", usage.count("inputTokens"), read, written)
    units.put("output_tokens", usage.count("outputTokens"))
    units.part("cache_read_tokens", read)
    units.part("cache_write_tokens", written)
    for item in usage.items("cacheDetails"):
        ttl = item.word("ttl")
        if ttl in {"5m", "1h"}:
            units.part(f"cache_write_{ttl}_tokens", item.count("inputTokens"))
    return True


def _chat(provider: str, usage: _Node, units: _Units) -> bool:
    """OpenAI's chat completions, and all who speak their dialect: Mistral, Groq, DeepSeek, xAI, Perplexity."""
    if not usage.has("prompt_tokens", "completion_tokens"):
        return False
    prompt = usage.node("prompt_tokens_details")
    completion = usage.node("completion_tokens_details")
    reasoning = completion.count("reasoning_tokens") or usage.count("reasoning_tokens")
    citations = usage.count("citation_tokens")
    apart = reasoning if any(word in provider for word in _REASONING_APART) else 0
    units.put("input_tokens", usage.count("prompt_tokens"))
    if usage.has("completion_tokens"):
        units.put("output_tokens", usage.count("completion_tokens"), apart, citations)
    units.part("cache_read_tokens", prompt.count("cached_tokens") or usage.count(*_CHAT_CACHE_READS))
    units.part("cache_write_tokens", prompt.count("cache_write_tokens") or usage.count("cache_creation_input_tokens"))
    units.part("input_audio_tokens", prompt.count("audio_tokens"))
    units.part("input_image_tokens", prompt.count("image_tokens"))
    units.part("output_audio_tokens", completion.count("audio_tokens"))
    units.part("output_image_tokens", completion.count("image_tokens"))
    units.part("output_reasoning_tokens", reasoning)
    units.part("output_citation_tokens", citations)
    units.part("web_searches", usage.count("num_search_queries"))
    return True


_CHAT_CACHE_READS = ("cached_tokens", "prompt_cache_hit_tokens", "cache_read_input_tokens", "cached_prompt_text_tokens")


def _anthropic(provider: str, usage: _Node, units: _Units) -> bool:
    if not usage.has("input_tokens", "output_tokens") or usage.has("input_tokens_details", "input_token_details"):
        return False
    if not usage.has(*_ANTHROPIC_FIELDS) and not any(word in provider for word in _ANTHROPIC_WORDS):
        return False
    # The rounds of a request are counted in its totals; making the conversation shorter, between rounds, is not.
    compactions = [entry for entry in usage.items("iterations") if entry.word("type") == "compaction"]
    for part in (usage, *compactions):
        _anthropic_tokens(part, units)
    units.part("output_reasoning_tokens", usage.node("output_tokens_details").count("thinking_tokens"))
    units.part("web_searches", usage.node("server_tool_use").count("web_search_requests"))
    return True


def _anthropic_tokens(usage: _Node, units: _Units) -> None:
    """Add the tokens of a request, or of a step of it that is billed beside it."""
    creation = usage.node("cache_creation")
    short, long = creation.count("ephemeral_5m_input_tokens"), creation.count("ephemeral_1h_input_tokens")
    written = usage.count("cache_creation_input_tokens") or _sum((short, long))
    read = usage.count("cache_read_input_tokens")
    units.add("input_tokens", usage.count("input_tokens"), written, read)
    units.add("output_tokens", usage.count("output_tokens"))
    units.part("cache_read_tokens", read)
    units.part("cache_write_tokens", written)
    units.part("cache_write_5m_tokens", short)
    units.part("cache_write_1h_tokens", long)


def _responses(_provider: str, usage: _Node, units: _Units) -> bool:
    """OpenAI's responses, realtime, images and transcriptions, and those who speak like them."""
    if not usage.has("input_tokens", "output_tokens"):
        return False
    given = usage.node("input_tokens_details", "input_token_details")
    made = usage.node("output_tokens_details", "output_token_details")
    cached = given.node("cached_tokens_details")
    units.put("input_tokens", usage.count("input_tokens"))
    units.put("output_tokens", usage.count("output_tokens"))
    units.part("cache_read_tokens", given.count("cached_tokens", "cache_read_input_tokens"))
    units.part("cache_write_tokens", given.count("cache_write_tokens"))
    units.part("output_reasoning_tokens", made.count("reasoning_tokens"))
    for modality in ("text", "audio", "image"):
        units.part(f"input_{modality}_tokens", given.count(f"{modality}_tokens"))
        units.part(f"output_{modality}_tokens", made.count(f"{modality}_tokens"))
        units.part(f"cache_{modality}_read_tokens", cached.count(f"{modality}_tokens"))
    if given.has("cached_tokens_details"):
        units.itemised("cache_read_tokens", "input", "cache_{}_read_tokens")
    units.part("audio_seconds", usage.count("billable_audio_seconds"))
    return True


def _cohere(_provider: str, usage: _Node, units: _Units) -> bool:
    if not usage.has("billed_units"):
        return False
    billed = usage.node("billed_units")
    units.put("input_tokens", billed.count("input_tokens"))
    if billed.has("output_tokens"):
        units.put("output_tokens", billed.count("output_tokens"))
    units.part("input_image_tokens", billed.count("image_tokens"))
    units.part("rerank_searches", billed.count("search_units"))
    units.part("cache_read_tokens", usage.count("cached_tokens"))
    return True


def _single(_provider: str, usage: _Node, units: _Units) -> bool:
    """Objects with one count: embeddings (total_tokens), transcriptions (seconds), document reading (pages)."""
    for field, unit in (
        ("total_tokens", "input_tokens"),
        ("seconds", "audio_seconds"),
        ("pages_processed", "input_document_pages"),
    ):
        if usage.has(field):
            units.put(unit, usage.count(field))
            return True
    return False


_DIALECTS = (_gemini, _bedrock, _cohere, _chat, _anthropic, _responses, _single)


def _context(raw: Raw, usage: _Node) -> Context:
    context = tier_context(usage.word("service_tier"))
    if not context and isinstance(raw.get("serviceTier"), str):
        context = tier_context(usage.word("serviceTier"))
    if not context:
        traffic = (usage.word("trafficType") or usage.word("traffic_type")).lower()
        context = tier_context(_GEMINI_TRAFFIC.get(traffic, traffic))
    speed = usage.word("speed").lower() if isinstance(raw.get("speed"), str) else ""
    return context if speed in _STANDARD_WORDS else (*context, ("speed", speed))


def _quantity(value: Any, path: str) -> Quantity:
    if type(value) is int and 0 <= value <= MAX_QUANTITY:
        return value
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        raise Invalid(path, "must be a number")
    exact = value if isinstance(value, int) else Decimal(repr(value)) if isinstance(value, float) else value
    if isinstance(exact, Decimal) and not exact.is_finite():
        raise Invalid(path, "must be a finite number")
    if exact < 0:
        raise Invalid(path, "must not be negative")
    if exact > MAX_QUANTITY:
        raise Invalid(path, f"must be at most {MAX_QUANTITY}")
    return int(exact) if exact == int(exact) else exact


def _sum(values: tuple[Quantity, ...]) -> Quantity:
    total: Quantity = 0
    for value in values:
        total = total + value
    return total
