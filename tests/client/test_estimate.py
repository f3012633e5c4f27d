"""Estimates: never less than a request can use by the rules that the module states."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from costd_client.estimate import DOCUMENT_BYTES_PER_TOKEN, IMAGE_TOKENS, LINKED_DOCUMENT_TOKENS, limit, text_tokens

DATA = "A" * 8_000
PDF = len(DATA) // DOCUMENT_BYTES_PER_TOKEN

PARTS: list[tuple[Any, int]] = [
    ("", 0),
    ("abc", 2),
    ("äöü", 3),
    ("漢字", 3),
    (["abc", "abc"], 3),
    ([17, 4, 99], 3),
    ([[17, 4], [99]], 3),
    ({"role": "user", "content": "abcd"}, 10),
    ({"type": "image_url", "image_url": {"url": "data:image/png;base64," + DATA}}, IMAGE_TOKENS),
    ({"type": "image", "source": {"type": "base64", "data": DATA}}, IMAGE_TOKENS),
    ({"type": "input_image", "file_id": "file-1"}, IMAGE_TOKENS),
    ({"type": "document", "source": {"type": "base64", "data": DATA}}, PDF),
    ({"type": "file", "file": {"file_data": DATA}}, PDF),
    ({"type": "input_file", "file_id": "file-1"}, LINKED_DOCUMENT_TOKENS),
    ({"type": "input_audio", "input_audio": {"data": DATA, "format": "mp3"}}, len(DATA) // 200),
]


@pytest.mark.parametrize(("part", "tokens"), PARTS)
def test_parts_of_a_body(part: Any, tokens: int) -> None:
    """A token for two bytes; attachments by their own rules."""
    assert text_tokens(part) == tokens


def test_a_document_of_text_is_text() -> None:
    """Anthropic's documents may be plain text."""
    assert text_tokens({"type": "document", "source": {"type": "text", "data": DATA}}) >= len(DATA) / 2


def test_limits_are_the_requests_own() -> None:
    """The first that is there; what is no number is none."""
    assert limit({"a": None, "b": 7}, "a", "b", unless_limited=9) == 7
    assert limit({"a": True, "b": -1}, "a", "b", unless_limited=9) == 9
    assert limit({"a": 0}, "a", unless_limited=9) == 0


def test_a_body_that_contains_itself_ends() -> None:
    """The SDK will refuse it; the estimate does not hang before."""
    body: dict[str, Any] = {"role": "user"}
    body["content"] = [body]
    assert text_tokens(body) > 0


TEXTS = st.recursive(
    st.text(), lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=3)
)


@settings(max_examples=200, deadline=None)
@given(TEXTS, st.text(min_size=1))
def test_more_text_is_more_tokens(body: Any, more: str) -> None:
    """Adding text never lowers the estimate, and a text alone is half its bytes."""
    assert text_tokens(body, more) >= text_tokens(body)
    assert text_tokens(more) == -(-len(more.encode("utf-8", "surrogatepass")) // 2)
