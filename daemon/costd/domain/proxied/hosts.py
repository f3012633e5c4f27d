"""Whose prices hold for an upstream, by the host it is at.

The hosts are those of genai-prices' `api_pattern`, of providers that speak OpenAI's dialect or Anthropic's; a test
holds the table against the library.
"""

from __future__ import annotations

from urllib.parse import urlsplit

#: A host, or the end of one, and the provider's id in the price list.
PROVIDERS = {
    "api.anthropic.com": "anthropic",
    "api.arcee.ai": "arcee",
    "api.avian.io": "avian",
    "api.cerebras.ai": "cerebras",
    "api.cloudflare.com": "cloudflare",
    "api.cohere.ai": "cohere",
    "api.cohere.com": "cohere",
    "api.deepseek.com": "deepseek",
    "api.fireworks.ai": "fireworks",
    "api.githubcopilot.com": "github-copilot",
    "api.groq.com": "groq",
    "api.meta.ai": "meta",
    "api.minimax.io": "minimax",
    "api.mistral.ai": "mistral",
    "api.moonshot.ai": "moonshotai",
    "api.novita.ai": "novita",
    "api.openai.com": "openai",
    "api.perplexity.ai": "perplexity",
    "api.together.xyz": "together",
    "api.voyageai.com": "voyageai",
    "api.x.ai": "x-ai",
    "api.z.ai": "zai",
    "cognitiveservices.azure.com": "azure",
    "generativelanguage.googleapis.com": "google",
    "inference.baseten.co": "baseten",
    "oai.endpoints.kepler.ai.cloud.ovh.net": "ovhcloud",
    "open.bigmodel.cn": "zhipuai",
    "openai.azure.com": "azure",
    "openrouter.ai": "openrouter",
    "services.ai.azure.com": "azure",
}


def provider_of(base_url: str) -> str:
    """The provider's id; "" for a host that is not known, such as a server of one's own."""
    host = (urlsplit(base_url).hostname or "").lower()
    while host:
        if host in PROVIDERS:
            return PROVIDERS[host]
        _, _, host = host.partition(".")
    return ""
