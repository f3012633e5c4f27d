"""Quotes: models are found as people send them, what is not known is said, and memory stays bounded."""

from __future__ import annotations

from decimal import Decimal
from importlib import resources

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from costd.domain import price_table, pricebook
from costd.domain.errors import Invalid
from costd.domain.matching import dashed_date, is_match, other_forms
from costd.domain.price_table import PriceTable, read_header
from costd.domain.pricebook import PriceBook, Quote
from costd.domain.rates import RateCard
from costd.domain.units import Quantity

BODY = resources.files("costd").joinpath("data", "prices.txt").read_bytes()
NOW_MS = 1_795_000_000_000  # 2026-11-18
TOKENS: dict[str, Quantity] = {"input_tokens": 1000, "output_tokens": 200}
TABLE = PriceTable(BODY)


@pytest.fixture
def book() -> PriceBook:
    return PriceBook(PriceTable(BODY))


NAMES = [
    # provider, model as sent, provider and model found
    ("openai", "gpt-4o", "openai", "gpt-4o"),
    ("", "gpt-4o", "openai", "gpt-4o"),
    (" OpenAI ", " GPT-4o-2024-08-06 ", "openai", "gpt-4o"),
    ("", "openai/gpt-4o", "openai", "gpt-4o"),
    ("", "gpt-4o-20240806", "openai", "gpt-4o"),
    ("", "gpt-4o-2099-01-01", "openai", "gpt-4o"),
    ("openai", "gpt-5.2-20251211", "openai", "gpt-5.2"),
    ("", "ft:gpt-4o-mini-2024-07-18:acme::abc", "openai", "ft:gpt-4o-mini"),
    ("", "chatgpt-4o-latest", "openai", "chatgpt-4o-latest"),
    ("", "text-embedding-3-small", "openai", "text-embedding-3-small"),
    ("", "azure/gpt-4o", "azure", "gpt-4o"),
    ("azure_ai", "gpt-4o", "azure", "gpt-4o"),
    ("azure_openai", "gpt-4o", "openai", "gpt-4o"),
    ("litellm", "openai/gpt-4o", "openai", "gpt-4o"),
    ("litellm", "azure_ai/gpt-4o", "azure", "gpt-4o"),
    ("litellm", "gpt-4o", "openai", "gpt-4o"),
    ("", "litellm_proxy/gpt-4o", "openai", "gpt-4o"),
    ("anthropic", "claude-3-5-sonnet@20240620", "anthropic", "claude-3-5-sonnet"),
    ("anthropic", "us.anthropic.claude-sonnet-4-20250514-v1:0", "anthropic", "claude-sonnet-4-0"),
    ("vertex_ai", "claude-sonnet-4@20250514", "google", "claude-4-sonnet"),
    ("vertex", "publishers/anthropic/models/claude-sonnet-4", "google", "claude-4-sonnet"),
    ("", "vertex_ai/gemini-2.5-flash", "google", "gemini-2.5-flash"),
    ("google", "models/gemini-2.5-flash", "google", "gemini-2.5-flash"),
    ("", "models/gemini-2.5-flash", "google", "gemini-2.5-flash"),
    ("", "gemini-embedding-001", "google", "gemini-embedding-001"),
    ("", "openrouter/anthropic/claude-sonnet-4", "openrouter", "anthropic/claude-sonnet-4"),
    (
        "BEDROCK",
        "us.anthropic.claude-sonnet-4-20250514-v1:0",
        "aws",
        "regional.anthropic.claude-sonnet-4-20250514-v1:0",
    ),
    ("", "us.anthropic.claude-sonnet-4-20250514-v1:0", "aws", "regional.anthropic.claude-sonnet-4-20250514-v1:0"),
    ("", "us.amazon.nova-pro-v1:0", "aws", "amazon.nova-pro-v1:0"),
    ("", "amazon/nova-pro-v1", "aws", "amazon.nova-pro-v1:0"),
    ("", "meta.llama3-8b-instruct-v1:0", "aws", "meta.llama3-8b-instruct-v1:0"),
    (
        "bedrock",
        "arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.anthropic.claude-3-haiku-20240307-v1:0",
        "aws",
        "regional.anthropic.claude-3-haiku-20240307-v1:0",
    ),
    ("", "mistralai/mistral-embed", "mistral", "mistral-embed"),
    ("", "cohere/embed-v4.0", "cohere", "embed-v4.0"),
    ("", "command-r-plus", "cohere", "command-r-plus"),
    ("", "xai/grok-4", "x-ai", "grok-4-0709"),
    ("", "groq/llama-3.3-70b-versatile", "groq", "llama-3.3-70b-versatile"),
    ("", "voyage-3", "voyageai", "voyage-3"),
    ("", "sonar-pro", "perplexity", "sonar-pro"),
]


@pytest.mark.parametrize(("provider", "model", "found_provider", "found_model"), NAMES)
def test_names_are_found_as_people_send_them(
    book: PriceBook, provider: str, model: str, found_provider: str, found_model: str
) -> None:
    """Prefixes, suffixes and any case, with and without a provider."""
    quote = book.price(1, provider, model, {"input_tokens": 1}, NOW_MS)
    assert (quote.provider, quote.model) == (found_provider, found_model)


@pytest.mark.parametrize(
    ("provider", "model", "named"),
    [("", "nonsense", ""), ("ollama", "llama3", "ollama"), ("Acme Gateway", "gpt-4o", "acme gateway"), ("", "", "")],
)
def test_unknown_models_are_unpriced_never_free(book: PriceBook, provider: str, model: str, named: str) -> None:
    """No match is None and a sentence, and the provider's name is still made one."""
    for _ in range(2):
        quote = book.price(1, provider, model, TOKENS, NOW_MS)
        assert (quote.cost_nano, quote.provider, quote.model) == (None, named, "")
        assert "no model" in quote.warnings[0]


def test_a_prefix_names_the_provider_where_the_callers_is_unknown(book: PriceBook) -> None:
    """A gateway's own name does not hide whose model it is, and stays the provider of the record."""
    quote = book.price(1, "acme-gateway", "openai/gpt-4o", TOKENS, NOW_MS)
    assert (quote.provider, quote.model) == ("acme-gateway", "gpt-4o")


def test_a_plain_quote_is_exact(book: PriceBook) -> None:
    """1,000 × $2.50/M + 200 × $10/M."""
    assert book.price(1, "openai", "gpt-4o", TOKENS, NOW_MS) == Quote(4_500_000, "openai", "gpt-4o")


def test_zero_tokens_cost_nothing(book: PriceBook) -> None:
    """A call that used nothing costs exactly nothing, without a warning."""
    assert book.price(1, "openai", "gpt-4o", {"input_tokens": 0, "output_tokens": 0}, NOW_MS).cost_nano == 0
    assert book.price(1, "openai", "gpt-4o", {}, NOW_MS) == Quote(0, "openai", "gpt-4o")


def test_units_without_a_rate_add_nothing_and_are_named(book: PriceBook) -> None:
    """A custom unit and one of the list that this model has no rate for; parts of a rated unit are rated."""
    units = {**TOKENS, "output_reasoning_tokens": 20, "rerank_searches": 1, "gpu_seconds": Decimal("0.5"), "pages": 0}
    quote = book.price(1, "openai", "gpt-4o", units, NOW_MS)
    assert quote.cost_nano == 4_500_000
    assert quote.unrated == ("rerank_searches", "gpu_seconds")
    assert "rerank_searches, gpu_seconds" in quote.warnings[0]


def test_an_unsaid_overlap_is_unpriced_not_guessed(book: PriceBook) -> None:
    """Audio and cache reads, both priced, may be the same tokens: the missing count is named."""
    units = {"input_tokens": 100, "output_tokens": 0, "input_audio_tokens": 60, "cache_read_tokens": 60}
    quote = book.price(1, "openai", "gpt-realtime", units, NOW_MS)
    assert quote.cost_nano is None
    assert quote.model == "gpt-realtime"
    assert "cache_audio_read_tokens" in quote.warnings[0]
    assert (
        book.price(1, "openai", "gpt-realtime", {**units, "cache_audio_read_tokens": 50}, NOW_MS).cost_nano is not None
    )


def test_counts_that_do_not_fit_are_refused(book: PriceBook) -> None:
    """Both fields are named, also where a caller skipped the check."""
    with pytest.raises(Invalid, match=r"units\.cache_read_tokens: is 60, above input_tokens"):
        book.price(1, "openai", "gpt-4o", {"input_tokens": 50, "output_tokens": 1, "cache_read_tokens": 60}, NOW_MS)
    with pytest.raises(Invalid, match=r"units\.cache_read_tokens: is counted within input_tokens"):
        book.price(1, "openai", "gpt-4o", {"output_tokens": 1, "cache_read_tokens": 60}, NOW_MS)


def test_tiers_apply_to_all_tokens_from_above_the_threshold(book: PriceBook) -> None:
    """The cliff: one token more than 200,000 reprices every token."""
    at, above = (
        book.price(1, "google", "gemini-2.5-pro", {"input_tokens": n, "output_tokens": 10}, NOW_MS).cost_nano or 0
        for n in (200_000, 200_001)
    )
    assert above > at * 1.9


def test_batch_is_a_variant_and_unheard_tiers_are_told(book: PriceBook) -> None:
    """Batch halves it; a word without a price is priced at standard, and said."""
    standard = book.price(1, "openai", "gpt-4o", TOKENS, NOW_MS)
    batch = book.price(1, "openai", "gpt-4o", TOKENS, NOW_MS, (("processing", "batch"),))
    assert batch == Quote(2_250_000, "openai", "gpt-4o")
    odd = book.price(1, "openai", "gpt-4o", TOKENS, NOW_MS, (("service_tier", "scale"),))
    assert (odd.cost_nano, odd.unmapped_tier) == (standard.cost_nano, "scale")
    assert '"scale"' in odd.warnings[0]
    assert book.price(1, "openai", "gpt-4o", TOKENS, NOW_MS, (("service_tier", "default"),)).unmapped_tier == ""
    # Azure sells OpenAI's models at its price, but not its variants.
    assert book.price(1, "azure", "gpt-4o", TOKENS, NOW_MS, (("processing", "batch"),)).unmapped_tier == "batch"


def test_a_request_fee_is_counted_once_a_request() -> None:
    """requests_kcount: $5 per thousand requests is 5,000,000 nano each, whatever the units."""
    card = RateCard({"input_tokens": [1, 0], "output_tokens": [1, 0], "requests": [5, 0]}, TABLE.units)
    assert card.cost_nano({"input_tokens": 1, "output_tokens": 0}) == 5_001_000
    assert card.cost_nano({}) == 5_000_000


def test_groq_bills_at_least_ten_seconds(book: PriceBook) -> None:
    """$0.111 an hour: 1 second costs what 10 do."""
    one, ten, none = (
        book.price(1, "groq", "whisper-large-v3", {"audio_seconds": n}, NOW_MS).cost_nano for n in (1, 10, 0)
    )
    assert (one, ten, none) == (308_333, 308_333, 0)


def test_the_total_is_rounded_once_half_to_even() -> None:
    """Halves go to the even nano-dollar, and parts are not rounded before they are added."""
    card = RateCard({"input_tokens": [5, -4], "output_tokens": [5, -4]}, TABLE.units)  # half a nano each
    counts = [(1, 0, 0), (3, 0, 2), (1, 1, 1), (2, 3, 2)]
    for tokens_in, tokens_out, nano in counts:
        units: dict[str, Quantity] = {"input_tokens": tokens_in, "output_tokens": tokens_out}
        assert card.plain_cost_nano(units) == card.cost_nano(units) == nano


def test_a_broken_rate_card_prices_nothing() -> None:
    """A part with a rate whose whole has none cannot be priced, and says so."""
    card = RateCard({"cache_read_tokens": [1, 0]}, TABLE.units)
    assert "none for input_tokens" in str(card.cost_nano({"input_tokens": 1}))


def test_inventions_of_callers_do_not_grow_memory(book: PriceBook) -> None:
    """Names, spellings and contexts are remembered within bounds."""
    for n in range(3000):
        book.price(1, "", f"nonsense-{n}", TOKENS, NOW_MS)
        book.price(1, "openai", "gpt-4o", TOKENS, NOW_MS, (("service_tier", f"w{n}"),))
    assert len(book._misses) <= pricebook.MAX_REMEMBERED_MISSES
    assert len(book._entries) <= pricebook.MAX_REMEMBERED


def test_decoded_models_are_bounded() -> None:
    """Pricing every model keeps only so many decoded, and each is decoded alike again."""
    table = PriceTable(BODY)
    for provider in table.providers:
        for position in range(provider.model_count()):
            table.model(provider, position).card(NOW_MS, ())
    assert len(table._models) <= price_table.MAX_DECODED


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=256), st.text(max_size=256), st.dictionaries(st.sampled_from(["service_tier", "x"]), st.text()))
def test_any_text_is_answered(provider: str, model: str, context: dict[str, str]) -> None:
    """No name, however odd, is an error."""
    assert isinstance(PriceBook(TABLE).price(1, provider, model, TOKENS, NOW_MS, tuple(context.items())), Quote)


@pytest.mark.parametrize(
    ("rule", "name", "matches"),
    [
        (["=", "a"], "a", True),
        (["^", "a"], "ab", True),
        (["$", "b"], "ab", True),
        (["*", "b"], "abc", True),
        (["~", "^ab-\\d{2}$"], "ab-12", True),
        (["~", "^ab-\\d{2}$"], "ab-1", False),
        (["~", "^abc?d"], "abd", True),
        (["~", "^ab|^cd"], "cd", True),
        (["~", "^(x/)?ab"], "ab", True),
        (["|", ["=", "a"], ["=", "b"]], "b", True),
        (["&", ["^", "a"], ["$", "b"]], "ac", False),
    ],
)
def test_rules(rule: list[object], name: str, matches: bool) -> None:
    """Each kind of rule, and regular expressions whose literal start is not all of it."""
    assert is_match(rule, name) is matches


def test_dates_are_written_out_only_when_they_are_dates() -> None:
    """The 31st of February is part of a name."""
    assert dashed_date("gpt-5.2-20251211") == "gpt-5.2-2025-12-11"
    assert dashed_date("m-20250231") == "m-20250231"


def test_other_forms_are_few_and_in_order() -> None:
    """Shorter paths after longer ones, each form once, and no flood for a hostile name."""
    forms = list(other_forms("bedrock/us.anthropic.claude-x-20250101-v1:0"))
    assert (
        forms.index("us.anthropic.claude-x-20250101-v1:0") < forms.index("claude-x-20250101") < forms.index("claude-x")
    )
    assert len(forms) == len(set(forms))
    assert len(list(other_forms("/".join("us.meta.a@1-v1:0" for _ in range(14))))) <= 24


def test_a_header_tells_a_whole_table() -> None:
    """Cut short, or no table at all, is not complete."""
    assert read_header(BODY).complete
    assert not read_header(BODY[:-1]).complete
    assert not read_header(b"").complete
    assert not read_header(b"[]\n").complete
