"""Finding a name in the price list: the list's match rules, and the other spellings people send.

The list's own rules come first, on the name as sent. Only where they find nothing are other forms of the name tried, in
the order of `other_forms`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import date
from typing import Any, TypeAlias

#: ["=", text], ["^", text], ["$", text], ["*", text], ["~", regex], ["|", rule, …] or ["&", rule, …];
#: texts are lower case (costd.store.price_compiler writes them).
Rule: TypeAlias = Sequence[Any]

#: Deeper paths and more spellings than these are not names of models; the bounds keep a hostile name cheap.
_MAX_SEGMENTS = 8
_MAX_FORMS = 24
_REGIONS = r"(?:us-gov|us|eu|apac|global|jp|au|in|ca|sa|me|af)"
_VENDORS = (
    r"(?:ai21|amazon|anthropic|cohere|deepseek|google|luma|meta|minimax|mistral|moonshotai|nvidia|openai|qwen|stability"
    r"|twelvelabs|writer|zai)"
)
_REGION_PREFIX = re.compile(rf"\A{_REGIONS}\.(?={_VENDORS}\.)")
_VENDOR_PREFIX = re.compile(rf"\A{_VENDORS}\.")
_BEDROCK_NAME = re.compile(rf"(?:{_REGIONS}\.)?{_VENDORS}\.")
_BEDROCK_VERSION = re.compile(r"(?:-v\d+)?:\d+\w*\Z|-v\d+\Z")
_DATE_SUFFIX = re.compile(r"[-@](?:20\d\d-\d\d-\d\d|20\d{6}|latest|default)\Z")
_COMPACT_DATE = re.compile(r"-(20\d{2})(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])(?=-|:|$)")

#: Names of providers in wide use that the list's own rules do not know.
PROVIDER_ALIASES = {
    "azure-ai": "azure",
    "azure_ai": "azure",
    "azure_text": "azure",
    "azureai": "azure",
    "microsoft": "azure",
    "claude": "anthropic",
    "codestral": "mistral",
    "deepseek-ai": "deepseek",
    "deepseek_ai": "deepseek",
    "fireworks-ai": "fireworks",
    "fireworks_ai": "fireworks",
    "meta_llama": "meta",
    "grok": "x-ai",
    "x.ai": "x-ai",
    "x_ai": "x-ai",
    "groqcloud": "groq",
    "kimi": "moonshotai",
    "novita-ai": "novita",
    "perplexity-ai": "perplexity",
    "perplexity_ai": "perplexity",
    "pplx": "perplexity",
    "together.ai": "together",
    "togetherai": "together",
    "z-ai": "zai",
    "z.ai": "zai",
    "z_ai": "zai",
    "zhipu": "zhipuai",
}

#: Whose models these are, where neither the caller nor the list's rules name a provider: the maker's own price.
_MAKERS = (
    ("chatgpt-", "openai"),
    ("codex-", "openai"),
    ("computer-use-", "openai"),
    ("dall-e-", "openai"),
    ("davinci-", "openai"),
    ("babbage-", "openai"),
    ("ft:", "openai"),
    ("omni-moderation", "openai"),
    ("sora-", "openai"),
    ("text-davinci", "openai"),
    ("text-embedding-", "openai"),
    ("text-moderation", "openai"),
    ("gemma-", "google"),
    ("text-embedding-", "google"),
    ("c4ai-", "cohere"),
    ("command", "cohere"),
    ("embed-", "cohere"),
    ("rerank-", "cohere"),
    ("pplx-", "perplexity"),
    ("sonar", "perplexity"),
)


def is_match(rule: Rule, name: str) -> bool:
    """Whether a lower-case name satisfies a rule."""
    kind, text = rule[0], rule[1]
    if kind == "|":
        return any(is_match(each, name) for each in rule[1:])
    if kind == "&":
        return all(is_match(each, name) for each in rule[1:])
    return _is_text_match(kind, text, name)


def _is_text_match(kind: str, text: str, name: str) -> bool:
    if kind == "=":
        return name == text
    if kind == "*":
        return text in name
    if kind == "^":
        return name.startswith(text)
    if kind == "$":
        return name.endswith(text)
    return re.search(text, name) is not None


def _literal_prefix(regex: str) -> str:
    """The plain text every match of `regex` starts with: compiling is dear, and most names fail on this."""
    if not regex.startswith("^") or "|" in regex:
        return ""
    prefix = ""
    position = 1
    while position < len(regex):
        escaped = regex[position] == "\\"
        character = regex[position + 1] if escaped else regex[position]
        literal = not character.isalnum() if escaped else character.isalnum() or character in "-_/:@"
        if not literal:
            break
        position += 2 if escaped else 1
        if regex[position : position + 1] in {"?", "*", "{"}:
            break
        prefix += character
    return prefix


def _needed_text(rule: Rule) -> str:
    """The text that a name must contain or start with to match, for the rules where that is worth knowing."""
    if rule[0] in {"*", "^"}:
        return str(rule[1])
    return _literal_prefix(rule[1]) if rule[0] == "~" else ""


class NameIndex:
    """The models of one provider, in order: finds the first whose rule a name satisfies."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        """Take one rule per model; equalities are looked up, all else is scanned."""
        self._exact: dict[str, int] = {}
        self._scanned: list[tuple[int, str, str, Rule]] = []
        for position, rule in enumerate(rules):
            for each in rule[1:] if rule[0] == "|" else (rule,):
                if each[0] == "=":
                    self._exact.setdefault(each[1], position)
                else:
                    self._scanned.append((position, each[0], _needed_text(each), each))

    def find(self, name: str) -> int | None:
        """The position of the first model that a lower-case name matches."""
        exact = self._exact.get(name)
        for position, kind, text, rule in self._scanned:
            if exact is not None and position >= exact:
                break
            # The two commonest kinds are written out: this loop is most of what an unknown name costs.
            if kind == "*":
                if text in name:
                    return position
            elif kind == "^":
                if name.startswith(text):
                    return position
            elif name.startswith(text) and is_match(rule, name):
                return position
        return exact


def dashed_date(name: str) -> str:
    """A name whose compact date is written out: gpt-5.2-20251211 becomes gpt-5.2-2025-12-11."""

    def dashes(match: re.Match[str]) -> str:
        year, month, day = match.groups()
        try:
            date(int(year), int(month), int(day))
        except ValueError:
            return match.group(0)
        return f"-{year}-{month}-{day}"

    return _COMPACT_DATE.sub(dashes, name)


def makers(name: str) -> list[str]:
    """The providers to ask about a name that no rule of the list claims, in order."""
    return [provider for prefix, provider in _MAKERS if name.startswith(prefix)]


def looks_like_bedrock(name: str) -> bool:
    """Whether a name is spelt as Amazon Bedrock spells them (us.anthropic.claude-…, meta.llama3-…)."""
    return _BEDROCK_NAME.match(name) is not None


def paths(name: str) -> list[str]:
    """The name without its leading segments, one at a time: a/b/c gives b/c, c."""
    segments = name.split("/")[-_MAX_SEGMENTS:]
    return ["/".join(segments[start:]) for start in range(1, len(segments))]


def other_forms(name: str) -> Iterator[str]:
    """Other spellings of a lower-case name, likeliest first, each once and never the name itself.

    For the name and then for each of its shorter paths (openrouter/openai/gpt-4o, openai/gpt-4o, gpt-4o):

    1. as it is,
    2. a maker before a slash as Bedrock writes it (amazon/nova-pro: amazon.nova-pro),
    3. without Bedrock's region (us.anthropic.…), 4. without its maker (anthropic.…), 5. without its version (-v1:0),
    6. with a date after @ written as a suffix (claude-3-5-sonnet@20240620), 7. without the date.

    3 to 7 add up: each starts from what the one before it left.
    """
    seen = {name, ""}
    for base in (name, *paths(name)):
        for form in _spellings(base):
            if form not in seen:
                seen.add(form)
                yield form
            if len(seen) > _MAX_FORMS:
                return


def _spellings(base: str) -> Iterator[str]:
    yield base
    if base.count("/") == 1:
        yield base.replace("/", ".")
    form = _REGION_PREFIX.sub("", base)
    yield form
    form = _VENDOR_PREFIX.sub("", form)
    yield form
    form = _BEDROCK_VERSION.sub("", form)
    yield form
    form = form.replace("@", "-")
    yield form
    yield _DATE_SUFFIX.sub("", form)
