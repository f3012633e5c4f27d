"""Promise 11: secrets and prompts are never stored or logged.

A daemon that logs everything is handed markers wherever a secret or a prompt could come from: keys right and wrong,
providers' keys and cookies in headers, prompts in fields that nobody asked for, in bodies that are broken, of the wrong
type or too long, and in bytes that are no message. Afterwards no marker is in any file of the data folder, the log,
the metrics or an answer, and no key of ours but the one that admin.key is for.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest

import harness
from callers import Call, record_json, record_message, stubs
from costd.v1 import admin_pb2
from costd.wire.rpc.server import ADMIN, QUERY, USAGE
from harness import Daemon

PROMPT = "Dear-diary-0f8fad5b"
SECRET = "sk-ant-7d9c4b21-marker"
COOKIE = "session-55aa-marker"
MARKERS = (PROMPT, SECRET, COOKIE)
GOOD = record_json(Call(1))
MESSAGES = {"messages": [{"role": "user", "content": PROMPT}], "prompt": PROMPT, "api_key": SECRET}
MONTH = {"month": 3, "year": 2026}

#: Bodies that are taken, with prompts in fields that nobody asked for.
TAKEN: list[tuple[str, Any]] = [
    ("/v1/usage/record", {**GOOD, **MESSAGES}),
    ("/v1/usage/records", [{**GOOD, **MESSAGES}]),
    ("/v1/usage/record", {**GOOD, "units": None, "provider": "openai",
                          "usage": {"prompt_tokens": 3, "completion_tokens": 4, "prompt": PROMPT}}),
    ("/v1/preflight", {**GOOD, "estimated_units": {"input_tokens": 1}, **MESSAGES}),
    ("/v1/users/upsert", {"external_id": "u", "source_app": "tests", **MESSAGES}),
    ("/v1/projects/upsert", {"external_id": "p", "name": "P", "source_app": "tests", **MESSAGES}),
    ("/api/tokens/track", {"model": "gpt-4o", "inputTokens": 3, **MESSAGES}),
    ("/api/ingest", {"type": "cost", "service": "OpenAI", "data": {"amount": 1, **MONTH, **MESSAGES}, **MESSAGES}),
    ("/api/costs/manual", {"service": "openai", "amount": 1, **MONTH, **MESSAGES}),
    ("/api/ingest/generate-key", {"keyName": "made over http", **MESSAGES}),
]  # fmt: skip

#: Bodies that are refused, with prompts where something else belongs.
REFUSED: list[tuple[str, bytes]] = [
    ("/v1/usage/record", f'{{"model": "gpt-4o", "prompt": "{PROMPT}'.encode()),
    ("/v1/usage/record", f'{{"{PROMPT}": {SECRET}}}'.encode()),
    ("/v1/usage/record", PROMPT.encode()),
    ("/v1/usage/record", f'"{PROMPT}"'.encode()),
    ("/v1/usage/record", f'{{"user_external_id": "\xff {PROMPT}"}}'.encode("latin-1")),
    ("/v1/usage/records", f"{PROMPT}\n{{".encode()),
    *(
        (path, json.dumps(body | {field: value}).encode())
        for path, body, fields in (
            ("/v1/usage/record", GOOD, ("model", "units", "timestamp", "cost_usd", "latency_ms", "currency",
                                        "source_app", "feature_tags", "price_context", "usage", "status")),
            ("/v1/preflight", {**GOOD, "estimated_units": {}}, ("estimated_units", "model", "team")),
            ("/api/tokens/track", {"model": "gpt-4o"}, ("inputTokens", "flush", "timestamp", "cost", "provider")),
            ("/api/ingest", {"type": "cost", "service": "x", "data": {}}, ("type", "service", "data")),
            ("/api/costs/manual", {"service": "openai", "amount": 1, **MONTH}, ("amount", "month", "currency")),
        )
        for field in fields
        for value in (f"{PROMPT}\x00", f"{PROMPT} " * 40, [PROMPT], {"input_tokens": PROMPT})
        if (field, type(value)) not in {("feature_tags", list), ("price_context", dict)}  # there, text belongs
    ),
]  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Daemon, str, list[str]]]:
    """A daemon that was told every marker: itself, the text of all its answers, and the keys it gave out."""
    folder = tmp_path_factory.mktemp("secrets")
    daemon = harness.start(folder / "data", "--log-level", "debug", "--log-format", "json")
    heard: list[str] = []
    made = harness.costd("keys", "create", "made by the command line", "--data-dir", str(daemon.data_dir), "--json")
    keys = [daemon.admin_key, json.loads(made.stdout)["key"]]
    headers = {"X-Provider-Key": SECRET, "Cookie": COOKIE, "X-Prompt": PROMPT, "User-Agent": PROMPT}
    for path, body in TAKEN:
        answer = daemon.client.post(path, json=body, headers=headers)
        assert answer.status_code == 200, (path, answer.text)
        if "apiKey" in answer.text:
            keys.append(answer.json()["apiKey"])
        else:
            heard.append(str(answer.headers) + answer.text)
    for path, content in REFUSED:
        answer = daemon.client.post(path, content=content, headers=headers)
        if path != "/v1/usage/records":
            assert answer.status_code == 400, (path, content, answer.text)
        heard.append(str(answer.headers) + answer.text)
    heard += wrong_keys(daemon)
    heard += messages(daemon, keys)
    heard.append(daemon.client.get("/metrics").text)
    heard.append(daemon.client.get("/openapi.json").text)
    heard.append(harness.costd("status", "--data-dir", str(daemon.data_dir), "--json").stdout)
    heard.append(harness.costd("keys", "list", "--data-dir", str(daemon.data_dir), "--json").stdout)
    yield daemon, "\n".join(heard), keys
    if daemon.process.poll() is None:
        daemon.kill()


def wrong_keys(daemon: Daemon) -> list[str]:
    """Keys that are none, in every place for keys."""
    said = []
    for name, value in (("Authorization", f"Bearer {SECRET}"), ("Authorization", f"Basic {SECRET}"),
                        ("X-API-Key", SECRET), ("Authorization", SECRET)):  # fmt: skip
        for path in ("/v1/usage/record", "/api/tokens/track", "/api/ingest/generate-key"):
            headers = {"Authorization": "", name: value}
            answer = daemon.client.post(f"{path}?key={SECRET}", json=GOOD, headers=headers)
            assert answer.status_code == 401
            said.append(str(answer.headers) + answer.text)
    answer = daemon.client.get(f"/nowhere?key={SECRET}&prompt={PROMPT}")
    assert answer.status_code == 404
    return [*said, answer.text]


def messages(daemon: Daemon, keys: list[str]) -> list[str]:
    """The same over gRPC: fields that the protocol does not know, bytes that are no message, wrong keys."""
    said = []
    unknown = b"\xfa\x3f" + bytes([len(PROMPT)]) + PROMPT.encode()  # field 1023, a string
    with stubs(daemon) as services, grpc.insecure_channel(daemon.grpc) as channel:
        made = services.admin.CreateKey(admin_pb2.CreateKeyRequest(name="over grpc"), metadata=services.metadata)
        keys.append(made.secret)
        record = channel.unary_unary("/costd.v1.UsageService/Record")
        record(record_message(Call(2)).SerializeToString() + unknown, metadata=services.metadata)
        for service in (USAGE, QUERY, ADMIN):
            for method in service.methods:
                call = channel.unary_unary(f"/{service.full_name}/{method.name}")
                for data in (PROMPT.encode(), b"\x0a\xff" + PROMPT.encode(), unknown + b"\x0a"):
                    for metadata in (services.metadata, (("authorization", f"Bearer {SECRET}"),)):
                        with pytest.raises(grpc.RpcError) as caught:
                            call(data, metadata=(*metadata, ("x-provider-key", SECRET), ("cookie", COOKIE)))
                        said.append(f"{caught.value.details()} {caught.value.trailing_metadata()}")
    return said


def held(daemon: Daemon) -> dict[str, bytes]:
    """Every file that the daemon has written, by name."""
    files = [path for path in daemon.data_dir.rglob("*") if path.is_file()]
    files += [daemon.log_path, daemon.data_dir.parent / "data.ready.json"]
    return {path.name: path.read_bytes() for path in files if path.exists()}


def test_promise_11_no_prompt_and_no_foreign_secret_is_in_any_file_or_answer(
    run: tuple[Daemon, str, list[str]],
) -> None:
    daemon, heard, _ = run
    files = held(daemon)
    assert {"costd.db", "costd.db-wal", "admin.key", "data.log"} <= files.keys()
    for marker in MARKERS:
        assert marker not in heard, heard[max(0, heard.index(marker) - 300) : heard.index(marker) + 100]
        for name, content in files.items():
            assert marker.encode() not in content, f"{marker} is in {name}"


def test_promise_11_keys_are_nowhere_but_in_the_file_for_the_first_one(run: tuple[Daemon, str, list[str]]) -> None:
    daemon, heard, keys = run
    assert len(set(keys)) == 4
    for key in keys:
        secret = key.removeprefix("ct_live_")
        assert secret not in heard
        # What is kept of a key (its prefix and digest) tells nothing of the rest.
        for name, content in held(daemon).items():
            assert (secret[8:].encode() in content) == (name == "admin.key" and key == daemon.admin_key), name
        assert key[:14].encode() in held(daemon)["costd.db-wal"] + held(daemon)["costd.db"]


def test_promise_11_nothing_comes_out_at_the_end_either(run: tuple[Daemon, str, list[str]]) -> None:
    daemon, _, keys = run
    assert daemon.stop() == 0
    for name, content in held(daemon).items():
        for marker in (*MARKERS, *keys[1:]):
            assert marker.encode() not in content, f"{marker} is in {name}"


def test_promise_11_a_crash_of_ours_logs_no_body(launch: Callable[..., Daemon]) -> None:
    # The database goes away under the daemon: whatever it then logs, it is not what callers sent.
    daemon = launch("--log-level", "debug")
    daemon.database.write_bytes(b"\0" * 4096)
    for path, body in TAKEN[:4]:
        daemon.client.post(path, json=body | MESSAGES if isinstance(body, dict) else body)
    daemon.client.get("/api/costs/all")
    assert PROMPT not in daemon.log
    assert daemon.admin_key not in daemon.log
