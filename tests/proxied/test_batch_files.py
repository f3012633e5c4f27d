"""What is in the input file of a batch, read as it passes."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from cuts import unhurried
from hypothesis import given
from hypothesis import strategies as st

from costd.domain.proxied.batch_files import FileReader


def line(url: str, **body: object) -> bytes:
    return json.dumps({"custom_id": "a", "method": "POST", "url": url, "body": body}).encode()


LINES = (
    line("/v1/chat/completions", model="gpt-4o", max_tokens=100, n=2, messages=[]),
    line("/v1/responses", model="gpt-4o-mini", input="abcd", max_output_tokens=10),
    line("/v1/embeddings", model="embed", input="abcd"),
)
#: As SDKs send it: the file in a form, and a line of the form before and after.
FORM = (
    b'--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n--b\r\nContent-Disposition: form-data; '
    b'name="file"; filename="in.jsonl"\r\nContent-Type: application/jsonl\r\n\r\n'
    + b"\n".join(LINES)
    + b"\r\n--b--\r\n"
)
FOUND = {
    "gpt-4o": {"input_tokens": 0, "output_tokens": 200},
    "gpt-4o-mini": {"input_tokens": 2, "output_tokens": 10},
    "embed": {"input_tokens": 2},
}


def read(*pieces: bytes, max_bytes: int = 1 << 20) -> dict[str, dict[str, int]]:
    reader = FileReader(json.loads, 4096, max_bytes)
    for piece in pieces:
        reader.feed(piece)
    reader.end()
    return reader.ordered.units


@unhurried
@given(st.lists(st.integers(0, len(FORM)), max_size=6))
def test_requests_are_found_wherever_the_file_is_cut(places: list[int]) -> None:
    ends = sorted({0, len(FORM), *places})
    assert read(*(FORM[start:end] for start, end in pairwise(ends))) == FOUND


def test_a_file_by_itself_needs_no_end() -> None:
    assert read(b"\n".join(LINES)) == FOUND


def test_lines_that_are_too_long_are_left_out() -> None:
    long = line("/v1/chat/completions", model="gpt-4o", messages=["x" * 500])
    assert read(*(bytes([byte]) for byte in b"\n".join((LINES[1], long, LINES[2]))), max_bytes=300) == {
        "gpt-4o-mini": FOUND["gpt-4o-mini"],
        "embed": FOUND["embed"],
    }


@pytest.mark.parametrize(
    "odd", [b"{}", b'{"body": 1}', b'{"url": "../x", "body": {"model": "m"}}', b"{", b"\xff\xfe", b'{"messages": []}']
)
def test_what_is_no_request_says_nothing(odd: bytes) -> None:
    assert read(odd + b"\n") == {}
    assert read(b"\n".join([odd, *LINES])) == FOUND


def test_a_file_of_other_things_is_not_looked_at_for_long() -> None:
    assert read(b'{"messages": []}\n' * 50, *LINES) == {}
