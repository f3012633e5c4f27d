"""LiteLLM's names for providers as the ids of the price list, and the names under which an entry can be found."""

from __future__ import annotations

#: Names that are not the id of the list, nor an id of ours in the same words.
_IDS = {
    "amazon_nova": "aws",
    "azure_ai": "azure",
    "azure_text": "azure",
    "bedrock": "aws",
    "bedrock_converse": "aws",
    "bedrock_mantle": "aws",
    "codestral": "mistral",
    "cohere_chat": "cohere",
    "fireworks_ai": "fireworks",
    "fireworks_ai-embedding-models": "fireworks",
    "gemini": "google",
    "github_copilot": "github-copilot",
    "google_pse": "google",
    "meta_llama": "meta",
    "moonshot": "moonshotai",
    "palm": "google",
    "text-completion-codestral": "mistral",
    "text-completion-openai": "openai",
    "together_ai": "together",
    "vertex_ai": "google",
    "vertex_ai_beta": "google",
    "voyage": "voyageai",
    "xai": "x-ai",
}
_VERTEX = "vertex_ai-"


def provider_id(name: str) -> str:
    """The provider's one id: the list's where it has the provider, else LiteLLM's name in lower case."""
    lower = name.strip().lower()
    if lower.startswith(_VERTEX):
        return "google"
    return _IDS.get(lower, lower)


def other_name(key: str, provider: str) -> str:
    """A lower-case key without the name of its provider in front ("azure/gpt-4o" is "gpt-4o"), "" if it has none."""
    prefix, slash, rest = key.partition("/")
    return rest if slash and rest and provider_id(prefix) == provider else ""
