"""The prompt proxy's clients, as its document shows them: another base URL, another key, metadata in the body."""

import os

import anthropic
import openai

BASE, KEY = os.environ["BASE_URL"], os.environ["API_KEY"]

client = openai.OpenAI(
    api_key=KEY,
    base_url=f"{BASE}/api/proxy/v1/openai",
    default_headers={"X-Provider-Key": "sk-user_openai_key_here"},
)
response = client.chat.completions.create(
    model="gpt-4o",
    messages=[{"role": "user", "content": "Hello!"}],
    extra_body={
        "_aipromptcost": {
            "prompt_key": "document-summarizer",
            "feature_tags": ["summarization", "documents"],
            "version": 2,
        }
    },
)
print(response.choices[0].message.content)

claude = anthropic.Anthropic(
    api_key="your_anthropic_key_here",
    base_url=f"{BASE}/api/proxy/v1/anthropic",
    default_headers={"Authorization": f"Bearer {KEY}", "X-Provider-Key": "sk-ant-user_anthropic_key_here"},
)
message = claude.messages.create(
    model="claude-sonnet-4-20250514",
    max_tokens=500,
    messages=[{"role": "user", "content": "Summarize this document..."}],
)
print(message.content[0].text)
