"""Traffic: what the load consists of. 57 series of a plausible company, as HTTP bodies, as messages and as drafts."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

#: Makes the 36 characters of a request id.
NewId = Callable[[], bytes]

SERIES = 57
#: Different amounts for each series, so that no two neighbours in the stream are equal.
VARIATIONS = 8
_SEED = 20_260_115

_MODELS = (
    ("openai", "gpt-4o"),
    ("openai", "gpt-4o-mini"),
    ("openai", "gpt-4.1"),
    ("anthropic", "claude-sonnet-4-5"),
    ("anthropic", "claude-haiku-4-5"),
    ("google", "gemini-2.5-flash"),
)
_APPS = (("assistant", "search"), ("support-bot", "support"), ("summarizer", "content"), ("code-review", "platform"))


class Sample(NamedTuple):
    """One call as its caller knows it."""

    source_app: str
    team: str
    user: str
    project: str
    provider: str
    model: str
    endpoint: str
    status: str
    latency_ms: int
    units: dict[str, int]


def samples() -> list[Sample]:
    """Every sample once, in the order of sending: neighbours belong to different series. The same at every call."""
    chance = random.Random(_SEED)
    return [_sample(number, chance) for _ in range(VARIATIONS) for number in range(SERIES)]


def _sample(number: int, chance: random.Random) -> Sample:
    app, team = _APPS[number % len(_APPS)]
    provider, model = _MODELS[number % len(_MODELS)]
    units = {"input_tokens": chance.randint(200, 12_000), "output_tokens": chance.randint(20, 2_500)}
    if number % 3 == 0:  # a third of the calls hit the provider's cache
        units["cache_read_tokens"] = units["input_tokens"] // 2
    return Sample(
        source_app=app,
        team=team,
        user=f"user-{number % 19}",
        project=f"project-{number % 5}",
        provider=provider,
        model=model,
        endpoint="chat/completions",
        status="error" if number % 19 == 18 else "success",
        latency_ms=chance.randint(180, 9_000),
        units=units,
    )


def record_bodies() -> list[dict[str, Any]]:
    """Bodies of POST /v1/usage/record, without a request id."""
    return [
        {
            "user_external_id": sample.user,
            "source_app": sample.source_app,
            "project_external_id": sample.project,
            "team": sample.team,
            "provider": sample.provider,
            "model": sample.model,
            "endpoint": sample.endpoint,
            "units": sample.units,
            "latency_ms": sample.latency_ms,
            "status": sample.status,
        }
        for sample in samples()
    ]


def preflight_bodies() -> list[dict[str, Any]]:
    """Bodies of POST /v1/preflight."""
    return [
        {
            "user_external_id": sample.user,
            "source_app": sample.source_app,
            "project_external_id": sample.project,
            "team": sample.team,
            "provider": sample.provider,
            "model": sample.model,
            "estimated_units": sample.units,
        }
        for sample in samples()
    ]


def http_requests(path: str, bodies: list[dict[str, Any]], key: str, new_id: NewId | None = None) -> Iterator[bytes]:
    """Whole HTTP requests without end, each with an id of its own where there is `new_id`."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {key}\r\n"
        "Content-Type: application/json\r\nUser-Agent: bench\r\nAccept: */*\r\nContent-Length: "
    )
    plain = [json.dumps(body) for body in bodies]
    if new_id is None:
        whole = [f"{head}{len(body)}\r\n\r\n{body}".encode() for body in plain]
        while True:
            yield from whole
    # {"request_id": "…", goes in front of what each body already says.
    parts = [(f'{head}{len(body) + 54}\r\n\r\n{{"request_id": "'.encode(), f'", {body[1:]}'.encode()) for body in plain]
    while True:
        for front, back in parts:
            yield front + new_id() + back


def http_cycles(key: str) -> Iterator[bytes]:
    """One caller's requests without end: each call asked for and then recorded, under an id of its own."""
    ids: list[bytes] = []

    def another() -> bytes:
        ids.append(uuid7())
        return ids[-1]

    asking = http_requests("/v1/preflight", preflight_bodies(), key, another)
    recording = http_requests("/v1/usage/record", record_bodies(), key, ids.pop)
    for asked in asking:
        yield asked
        yield next(recording)


def record_messages(new_id: NewId | None = None) -> Iterator[bytes]:
    """Serialized costd.v1.RecordRequest messages without end, each with an id of its own where there is `new_id`."""
    from costd.v1 import usage_pb2  # noqa: PLC0415 - the HTTP load does not need it

    whole = [
        usage_pb2.RecordRequest(
            dimensions=_dimensions(sample),
            units=_quantities(sample),
            status=sample.status,
            latency_ms=sample.latency_ms,
        ).SerializeToString()
        for sample in samples()
    ]
    while True:
        for message in whole:
            # Field 3 (request_id), 36 bytes of text: fields may come in any order.
            yield message + b"\x1a\x24" + new_id() if new_id else message


def preflight_messages() -> Iterator[bytes]:
    """Serialized costd.v1.PreflightRequest messages without end."""
    from costd.v1 import usage_pb2  # noqa: PLC0415

    whole = [
        usage_pb2.PreflightRequest(
            dimensions=_dimensions(sample), estimated_units=_quantities(sample)
        ).SerializeToString()
        for sample in samples()
    ]
    while True:
        yield from whole


def _dimensions(sample: Sample) -> Any:
    from costd.v1 import usage_pb2  # noqa: PLC0415

    return usage_pb2.Dimensions(
        source_app=sample.source_app,
        provider=sample.provider,
        model=sample.model,
        user=sample.user,
        project=sample.project,
        team=sample.team,
        endpoint=sample.endpoint,
    )


def _quantities(sample: Sample) -> list[Any]:
    from costd.v1 import usage_pb2  # noqa: PLC0415

    return [usage_pb2.Quantity(unit=name, count=count) for name, count in sample.units.items()]


def uuid7() -> bytes:
    """An id as a preflight issues it and a careful caller makes it: it sorts by its time."""
    return _text(time.time_ns() // 1_000_000 << 80 | 0x7 << 76 | 0x2 << 62 | random.getrandbits(62))


def uuid4() -> bytes:
    """An id as most callers make one: random throughout."""
    return _text(random.getrandbits(128))


def _text(number: int) -> bytes:
    digits = f"{number:032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}".encode()
