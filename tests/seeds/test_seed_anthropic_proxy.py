"""The Anthropic proxy's document: the calls of its tables, typed with curl as a person does, and its codes."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

import harness
from fake_provider import ANSWER, FakeProvider
from harness import Daemon

BODY = '{"model":"claude-sonnet-4-20250514","max_tokens":500,"messages":[{"role":"user","content":"Hi"}]}'
COUNTED = '{"model":"claude-sonnet-4-20250514","messages":[{"role":"user","content":"Hi"}]}'
#: Calls of a proxy endpoint in a minute, in these tests.
LIMIT = 3


class Answer(NamedTuple):
    """What curl got."""

    status: int
    headers: dict[str, str]
    body: Any


@pytest.fixture(scope="module")
def provider() -> Iterator[FakeProvider]:
    with FakeProvider().serving() as serving:
        yield serving


@pytest.fixture(scope="module")
def proxied(provider: FakeProvider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    upstream = f"anthropic={provider.anthropic_url}/v1"
    folder = tmp_path_factory.mktemp("seed") / "data"
    daemon = harness.start(folder, "--upstream", upstream, "--proxy-requests-per-minute", str(LIMIT))
    yield daemon
    daemon.kill()


def curl(daemon: Daemon, arguments: str, key: str = "sk_xxx") -> Answer:
    """Run curl as a shell would, with the base URL and a key of ours in the environment."""
    secret = daemon.admin_key if key == "sk_xxx" else key
    env = {**os.environ, "BASE": daemon.http_url, "KEY": secret, "NO_PROXY": "*"}
    line = f"curl -sS -i {arguments}"
    done = subprocess.run(["bash", "-euc", line], env=env, capture_output=True, text=True, timeout=30, check=True)
    head, _, body = done.stdout.partition("\n\n")
    first, *lines = head.splitlines()
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return Answer(int(first.split()[1]), headers, json.loads(body))


def get(daemon: Daemon, path: str, status: int = 200) -> Any:
    """The body of a GET, as the document has it: JSON, the resource itself."""
    answer = curl(daemon, f'"$BASE{path}" -H "Authorization: Bearer $KEY"')
    assert answer.status == status, answer
    assert answer.headers["content-type"].startswith("application/json")
    return answer.body


def send(daemon: Daemon, method: str, path: str, body: str = "", auth: str = "Authorization: Bearer $KEY") -> Answer:
    said = f"-H 'Content-Type: application/json' -d '{body}'" if body else ""
    return curl(daemon, f'-X {method} "$BASE{path}" -H "{auth}" {said}')


def test_proxy_endpoints_usage_and_the_calls_between(proxied: Daemon, provider: FakeProvider) -> None:
    """In the order in which a person would."""
    made = send(proxied, "POST", "/api/proxy-endpoints", '{"name":"My Project"}')
    assert made.status == 200
    assert made.body.keys() >= {"id", "name", "slug", "url", "created_at"}
    slug = made.body["slug"]
    page = get(proxied, "/api/proxy-endpoints?limit=1")
    assert page.keys() == {"items", "nextCursor", "hasMore"}
    assert (page["items"][0]["id"], page["hasMore"]) == (made.body["id"], False)

    answer = send(proxied, "POST", f"/proxy/{slug}/v1/messages", BODY, "x-api-key: sk-ant-mine")
    assert (answer.status, answer.body["content"][0]["text"]) == (200, ANSWER)
    sent = {name.lower(): value for name, value in provider.received[-1].headers.items()}
    assert (provider.received[-1].body.decode(), sent["x-api-key"]) == (BODY, "sk-ant-mine")
    assert "authorization" not in sent
    counted = send(proxied, "POST", f"/proxy/{slug}/v1/messages/count_tokens", COUNTED, "x-api-key: sk-ant-mine")
    assert (counted.status, counted.body) == (200, {"input_tokens": 2_095})
    assert (answer.headers["x-ratelimit-limit"], counted.headers["x-ratelimit-limit"]) == (str(LIMIT), "600")

    harness.until(lambda: get(proxied, "/api/usage")["items"], "the usage log", 30)
    query = f"/api/usage?model=claude-sonnet-4-20250514&proxy_endpoint_id={made.body['id']}&from=2026-01-01"
    (item,) = get(proxied, query)["items"]
    assert item["status_code"] == 200
    assert (item["input_tokens"], item["output_tokens"]) == tuple(provider.last.units.values())[:2]
    assert get(proxied, "/api/usage?model=claude-opus-4-1")["items"] == []
    detail = get(proxied, f"/api/usage/{item['id']}")
    assert detail.items() >= item.items()
    assert (detail["request_body"], detail["response_body"]) == (None, None)
    summary = get(proxied, "/api/usage/summary")
    assert (summary["totalRequests"], summary["byModel"][0]["model"]) == (1, "claude-sonnet-4-20250514")
    assert float(summary["totalCostCents"]) == float(item["cost_cents"]) > 0
    assert sum(day["requests"] for day in summary["byDay"]) == 1

    removed = send(proxied, "DELETE", f"/api/proxy-endpoints/{made.body['id']}")
    assert removed.status == 200
    assert send(proxied, "POST", f"/proxy/{slug}/v1/messages", BODY, "x-api-key: k").status == 404


def test_what_is_logged_where_an_endpoint_stores_bodies(proxied: Daemon) -> None:
    """The document logs bodies; here an endpoint says that it wants to."""
    made = send(proxied, "POST", "/api/proxy-endpoints", '{"name":"logged","store_bodies":true}').body
    send(proxied, "POST", f"/proxy/{made['slug']}/v1/messages", BODY, "Authorization: Bearer sk-ant-mine")
    query = f"/api/usage?proxy_endpoint_id={made['id']}"
    harness.until(lambda: get(proxied, query)["items"], "the usage log", 30)
    url = f"/api/usage/{get(proxied, query)['items'][0]['id']}"
    harness.until(lambda: get(proxied, url)["request_body"], "the bodies", 30)
    detail = get(proxied, url)
    assert detail["request_body"] == BODY
    assert json.loads(detail["response_body"])["content"][0]["text"] == ANSWER


def test_api_keys_profile_and_audit_logs(proxied: Daemon) -> None:
    made = send(proxied, "POST", "/api/api-keys", '{"name":"CLI"}')
    assert made.status == 201
    assert made.body.keys() >= {"id", "name", "key", "key_prefix", "created_at"}
    assert made.body["key"].startswith(made.body["key_prefix"])
    listed = get(proxied, "/api/api-keys?limit=100")
    (item,) = [one for one in listed["items"] if one["id"] == made.body["id"]]
    assert (item["name"], item["key_prefix"], item["last_used_at"]) == ("CLI", made.body["key_prefix"], None)
    assert made.body["key"] not in json.dumps(listed)
    profile = curl(proxied, '"$BASE/api/profile" -H "Authorization: Bearer $KEY"', made.body["key"]).body
    assert profile.keys() >= {"id", "email", "name", "created_at", "updated_at"}
    assert (profile["name"], profile["email"]) == ("CLI", None)
    renamed = send(proxied, "PUT", "/api/profile", '{"name":"Ada"}')
    assert (renamed.status, renamed.body["name"]) == (200, "Ada")
    assert get(proxied, "/api/profile")["name"] == "Ada"
    assert send(proxied, "DELETE", f"/api/api-keys/{made.body['id']}").status == 200
    assert curl(proxied, '"$BASE/api/profile" -H "Authorization: Bearer $KEY"', made.body["key"]).status == 401
    assert send(proxied, "DELETE", f"/api/api-keys/{made.body['id']}").status == 404
    trail = get(proxied, "/api/audit-logs?limit=100")
    assert trail.keys() == {"items", "nextCursor", "hasMore"}
    created = [one for one in trail["items"] if (one["action"], one["resource_id"]) == ("api_key.created", item["id"])]
    assert len(created) == 1
    assert created[0].keys() >= {"id", "user_id", "org_id", "resource_type", "metadata", "created_at"}
    assert isinstance(json.loads(created[0]["metadata"]), dict)


def test_health_needs_no_key(proxied: Daemon) -> None:
    answer = curl(proxied, '"$BASE/api/health"')
    assert (answer.status, answer.body["status"]) == (200, "ok")
    assert answer.body["dbLatencyMs"] >= 0


@pytest.mark.parametrize(
    ("status", "arguments"),
    [
        (400, """-X POST "$BASE/api/proxy-endpoints" -H "Authorization: Bearer $KEY" -d '{"name":7}'"""),
        (401, '"$BASE/api/usage"'),
        (401, '"$BASE/api/usage" -H "Authorization: Bearer sk_xxx"'),
        (404, '"$BASE/api/usage/none" -H "Authorization: Bearer $KEY"'),
        (404, '-X DELETE "$BASE/api/proxy-endpoints/none" -H "Authorization: Bearer $KEY"'),
    ],
)
def test_errors_are_of_the_documents_form(status: int, arguments: str, proxied: Daemon) -> None:
    answer = curl(proxied, arguments)
    assert answer.status == status
    assert isinstance(answer.body["error"], str)
    assert answer.body["error"]
    assert (status == 400) == ("name" in str(answer.body.get("details")))


def test_a_proxy_endpoint_that_is_called_too_often_is_told_when_to_come_back(proxied: Daemon) -> None:
    slug = send(proxied, "POST", "/api/proxy-endpoints", '{"name":"busy"}').body["slug"]
    answers = [send(proxied, "POST", f"/proxy/{slug}/v1/messages", BODY, "x-api-key: k") for _ in range(LIMIT + 1)]
    assert [answer.status for answer in answers] == [200] * LIMIT + [429]
    assert 1 <= answers[-1].body["retryAfter"] <= 60
    assert answers[-1].headers["retry-after"] == str(answers[-1].body["retryAfter"])
    counted = send(proxied, "POST", f"/proxy/{slug}/v1/messages/count_tokens", COUNTED, "x-api-key: k")
    assert counted.status == 200
