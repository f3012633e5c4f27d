"""The one error body: every refusal in each surface's manner, and nothing of a bug's inside."""

from __future__ import annotations

import msgspec
import pytest

from costd.clock import ManualClock
from costd.domain import errors
from costd.wire.decoding import decode, decoder
from costd.wire.status import STATUSES
from costd.wire.web.answers import encode
from costd.wire.web.failures import Required, error_body, http_status
from costd.wire.web.moments import parse_timestamp
from costd.wire.web.request_ids import RequestIds
from costd.wire.web.usage_structs import RecordBody

BODIES = {"/v1/usage/record": True, "/cost-tracker/v1/preflight": True, "/api/ingest": True, "/api/tokens/track": False}


@pytest.mark.parametrize("kind", STATUSES)
def test_every_refusal_has_its_place_in_the_body(kind: type[errors.Refused]) -> None:
    error = kind("field", "is odd") if issubclass(kind, errors.Invalid) else kind("a sentence")
    for path, phrased in BODIES.items():
        body = error_body(error, path, {}, "id")
        assert (body.success, body.code, body.requestId) == (False, STATUSES[kind].code, "id")
        assert body.error == (STATUSES[kind].phrase if phrased else body.message)
        assert http_status(error) == STATUSES[kind].http
        assert (body.retryAfter is not msgspec.UNSET) == isinstance(error, errors.Retryable)
        assert msgspec.json.decode(encode(body))["message"]


def test_a_bug_shows_nothing_of_itself() -> None:
    body = error_body(ValueError("the secret prompt"), "/v1/preflight", {}, "id")
    assert (body.code, http_status(ValueError())) == ("INTERNAL_ERROR", 500)
    assert b"secret" not in encode(body)


def test_a_field_goes_by_its_name_on_the_surface() -> None:
    names = {"units.input_tokens": "inputTokens", "user": "userId"}
    for inside, outside in (
        ("units.input_tokens", "inputTokens"),
        ("user", "userId"),
        ("user.x", "userId.x"),
        ("a", "a"),
    ):
        body = error_body(errors.Invalid(inside, "is odd"), "/api/tokens/track", names, "id")
        assert body.details is not None
        assert (body.details.field, body.error) == (outside, f"{outside}: is odd")


def test_a_required_form_keeps_its_words() -> None:
    body = error_body(Required("data.amount", "is required", "amount (number)"), "/api/ingest", {}, "id")
    assert (body.error, body.message) == ("Bad request", "Required: amount (number)")


def test_text_that_cannot_be_encoded_is_escaped() -> None:
    body = error_body(errors.Invalid("units.\ud800", "\udfff"), "/v1/preflight", {}, "id")
    assert b"\\\\ud800" in encode(body)


@pytest.mark.parametrize(
    ("raw", "field", "reason"),
    [
        (b'{"model":"m"}', "user_external_id", "is required"),
        (b'{"user_external_id":"u"}', "model", "is required"),
        (b'{"user_external_id":1}', "user_external_id", "must be a string, not a whole number"),
        (b'{"user_external_id":null}', "user_external_id", "must be a string, not null"),
        (b'{"team":1}', "team", "must be a string or null, not a whole number"),
        (b'{"feature_tags":["a",true]}', "feature_tags[1]", "must be a string, not true or false"),
        (
            b'{"units":{"a":[1,{"b":-Infinity}]}}',
            "units.a[1].b",
            "must be a finite number; JSON knows no NaN or Infinity",
        ),
        (b'{"model":"' + b"m" * 300 + b'"}', "model", "must be a string of length 256 or less"),
        (b"{", "", "the body is not JSON: Input data was truncated"),
        (b" ", "", "the body is empty; send JSON"),
        (b'{"zzz":' + b"[" * 50_000, "", "the JSON is nested too deeply"),
    ],
)
def test_what_is_wrong_with_json_is_said_in_plain_words(raw: bytes, field: str, reason: str) -> None:
    with pytest.raises(errors.Invalid) as caught:
        decode(decoder(RecordBody), raw)
    assert (caught.value.field, caught.value.reason) == (field, reason)


@pytest.mark.parametrize(
    ("value", "at_ms"),
    [
        (None, None),
        (0, 0),
        (1_700_000_000, 1_700_000_000_000),
        (1_700_000_000.25, 1_700_000_000_250),
        ("1970-01-01T00:00:01Z", 1000),
        ("1970-01-01T00:00:01.5Z", 1500),
        ("1970-01-01T01:00:00+01:00", 0),
        ("1970-01-01t00:00:00z", 0),
        ("1970-01-01 00:00:00", 0),
        ("1970-01-01T00:00:00.123456789Z", 123),
    ],
)
def test_a_timestamp_is_read_to_the_millisecond(value: object, at_ms: int | None) -> None:
    assert parse_timestamp(value, "timestamp") == at_ms


def test_request_ids_are_distinct_uuid7s_of_their_time() -> None:
    clock = ManualClock(1_700_000_000_000)
    ids = RequestIds(clock)
    made = {ids.new() for _ in range(10_000)}
    assert len(made) == 10_000
    for text in list(made)[:100]:
        assert (text[14], text[19] in "89ab", int(text.replace("-", "")[:12], 16)) == ("7", True, clock.now_ms())
