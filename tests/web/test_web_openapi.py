"""The OpenAPI document and docs/http.md: every route is in both, and what is answered fits what is promised."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, get_args
from uuid import uuid4

import httpx
import pytest

from costd.wire.web.table import routes
from harness import Daemon

DOCS = Path(__file__).parents[2] / "docs" / "http.md"
NAMES = [(route.method, route.path) for route in routes(metrics_open=True)]
TYPES: dict[str, type | tuple[type, ...]] = {
    "object": dict,
    "array": list,
    "string": str,
    "number": (int, float),
    "integer": int,
    "boolean": bool,
    "null": type(None),
}


@pytest.fixture(scope="module")
def document(daemon: Daemon) -> dict[str, Any]:
    found: dict[str, Any] = httpx.get(f"{daemon.http_url}/openapi.json", trust_env=False).json()
    return found


def misfits(value: Any, schema: dict[str, Any], document: dict[str, Any], path: str = "$") -> list[str]:
    """Where `value` does not fit `schema`; just enough of JSON Schema for the documents we write."""
    if "$ref" in schema:
        return misfits(value, document["components"]["schemas"][schema["$ref"].rpartition("/")[2]], document, path)
    if "anyOf" in schema:
        tries = [misfits(value, option, document, path) for option in schema["anyOf"]]
        return [] if any(not found for found in tries) else [f"{path}: none of {len(tries)}", *tries[0]]
    kinds = schema.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if kinds and not any(isinstance(value, TYPES[kind]) and (kind == "boolean" or value is not True) for kind in kinds):
        return [f"{path}: {value!r} is no {kinds}"]
    found = [] if "enum" not in schema or value in schema["enum"] else [f"{path}: {value!r} not in {schema['enum']}"]
    if isinstance(value, dict):
        found += [f"{path}.{name}: missing" for name in schema.get("required", []) if name not in value]
        for name, item in value.items():
            inner = schema.get("properties", {}).get(name, schema.get("additionalProperties"))
            if isinstance(inner, dict):
                found += misfits(item, inner, document, f"{path}.{name}")
            elif inner is None and "properties" in schema:
                found.append(f"{path}.{name}: not documented")
    elif isinstance(value, list) and isinstance(schema.get("items"), dict):
        for index, item in enumerate(value):
            found += misfits(item, schema["items"], document, f"{path}[{index}]")
    return found


def refs(value: Any) -> list[str]:
    if isinstance(value, dict):
        own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
        return own + [ref for item in value.values() for ref in refs(item)]
    return [ref for item in value for ref in refs(item)] if isinstance(value, list) else []


def test_it_is_openapi_3_1_and_needs_no_key(document: dict[str, Any]) -> None:
    assert document["openapi"] == "3.1.0"
    assert set(document["components"]["securitySchemes"]) == {"bearer", "apiKey"}


def test_every_route_is_in_it_and_nothing_else(document: dict[str, Any]) -> None:
    found = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    assert found == set(NAMES)


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    assert {ref.rpartition("/")[2] for ref in refs(document)} <= set(schemas)


def test_operation_ids_are_unique(document: dict[str, Any]) -> None:
    ids = [operation["operationId"] for methods in document["paths"].values() for operation in methods.values()]
    assert len(ids) == len(set(ids))


def test_roles_and_keys_are_stated(document: dict[str, Any]) -> None:
    for route in routes(metrics_open=True):
        operation = document["paths"][route.path][route.method.lower()]
        assert bool(operation["security"]) == bool(route.role)
        assert ("401" in operation["responses"]) == bool(route.role)


MONTH = {"month": 1, "year": 2026}
RECORD = {"user_external_id": "u", "source_app": "a", "model": "gpt-4o", "units": {"input_tokens": 1}}
PROMPTED = RECORD | {"prompt_key": "welcome", "prompt_version": 2}
PRICE = {
    "model": "own",
    "usd_per_mtok": {"input_tokens": {"base": 1.25, "above": {"200000": 2.5}}},
    "usd_each": {"images": 0.04},
    "multiplier": 0.5,
    "when": {"processing": "batch"},
    "from": "2026-11-01",
}
BUDGET = {"name": "b", "scope": {"team": "t"}, "amount_usd": 1.5, "alert_thresholds": [0.5, 1], "hard_limit": True}
BODIES: dict[str, Any] = {
    "/v1/preflight": {"user_external_id": "u", "source_app": "a", "model": "gpt-4o", "estimated_units": {"chars": 1}},
    "/v1/release": {"request_id": "r"},
    "/v1/usage/record": PROMPTED,
    "/v1/usage/records": [RECORD, {}, RECORD],
    "/v1/users/upsert": {"external_id": "u", "source_app": "a"},
    "/v1/projects/upsert": {"external_id": "p", "source_app": "a", "name": "P"},
    "/api/ingest": {"type": "cost", "service": "OpenAI", "data": {"amount": 1, **MONTH}},
    "/api/ingest/generate-key": {"keyName": "k"},
    "/api/tokens/track": {"provider": "openai", "model": "gpt-4o", "inputTokens": 1, "outputTokens": 2},
    "/api/costs/manual": {"service": "OpenAI", "amount": 5, **MONTH},
    "/api/prices": PRICE,
    "/api/prices/{id}": PRICE | {"usd_each": {"images": 0.5}},
    "/api/budgets": BUDGET,
    "/api/budgets/{id}": BUDGET | {"name": None, "amount_usd": 2},
    "/api/api-keys": {"name": "k"},
    "/api/profile": {"name": "admin"},
    "/api/proxy-endpoints": {"name": "e", "store_bodies": True, "body_bytes": 1000, "retention_days": 7},
}
#: What a hub alone answers.
AT_HUBS = {"/api/sources"}
#: What some cannot be asked without.
QUERIES = {
    "/api/prices/match": {"model": "gpt-4o"},
    "/api/aggregations/version-comparison": {"prompt_key": "welcome"},
}


def some_id(daemon: Daemon, path: str) -> str:
    """The id of something at a path."""
    if path.startswith("/api/prices"):
        return str(daemon.client.post("/api/prices", json=PRICE).json()["data"]["price"]["id"])
    if path.startswith("/api/budgets"):
        return str(daemon.client.post("/api/budgets", json=BUDGET | {"name": path + uuid4().hex}).json()["data"]["id"])
    if path.startswith("/api/proxy-endpoints"):
        return str(daemon.client.post("/api/proxy-endpoints", json={"name": uuid4().hex}).json()["id"])
    if path.startswith("/api/api-keys"):
        return str(daemon.client.post("/api/api-keys", json={"name": "k"}).json()["id"])
    return str(daemon.client.post("/v1/usage/record", json=RECORD).json()["event_id"])


@pytest.mark.parametrize(("method", "path"), NAMES)
def test_every_answer_fits_its_schema(
    request: pytest.FixtureRequest, document: dict[str, Any], method: str, path: str
) -> None:
    daemon = request.getfixturevalue("hub" if path in AT_HUBS else "daemon")
    operation = document["paths"][path][method.lower()]
    url = path.replace("{provider}", "openai")
    if "{id}" in url:
        url = url.replace("{id}", some_id(daemon, path))
    body = BODIES.get(path.removeprefix("/cost-tracker")) if method in {"POST", "PUT", "PATCH"} else None
    query = QUERIES.get(path)
    response = (
        daemon.client.request(method, url, json=body, params=query)
        if body
        else daemon.client.request(method, url, params=query)
    )
    (good,) = [status for status in operation["responses"] if status.startswith("2")]
    assert str(response.status_code) == good, response.text
    ((kind, content),) = operation["responses"][good]["content"].items()
    if kind == "application/json":
        assert misfits(response.json(), content["schema"], document) == []
    if body is not None and not isinstance(body, list):
        schema = operation["requestBody"]["content"]["application/json"]["schema"]
        assert misfits(body, schema, document) == []


@pytest.mark.parametrize(("method", "path"), [(m, p) for m, p in NAMES if m in {"POST", "PUT", "PATCH"}])
def test_every_refusal_fits_the_error_schema(daemon: Daemon, document: dict[str, Any], method: str, path: str) -> None:
    schema = {"$ref": "#/components/schemas/ErrorBody"}
    for content, headers in ((b"[", {}), (b"{}", {"Authorization": ""}), (b" " * 2_000_000, {})):
        response = daemon.client.request(method, path, content=content, headers=headers)
        status = str(response.status_code)
        assert status in document["paths"][path][method.lower()]["responses"], status
        assert misfits(response.json(), schema, document) == []


def test_every_route_is_documented() -> None:
    text = DOCS.read_text()
    for method, path in NAMES:
        if not path.startswith("/cost-tracker"):
            assert f"`{method} {path}`" in text, f"{method} {path} is missing in docs/http.md"


def test_nothing_is_documented_that_does_not_exist() -> None:
    documented = set(re.findall(r"^#+ `([A-Z]+) (/\S+)`", DOCS.read_text(), re.MULTILINE))
    assert documented <= set(NAMES)
    assert documented


def test_every_field_of_every_body_is_documented() -> None:
    text = DOCS.read_text()
    for route in routes(metrics_open=True):
        for kind in (route.query, *(get_args(route.body) or [route.body])):
            for name in getattr(kind, "__struct_encode_fields__", ()):
                assert f"`{name}`" in text, f"{name} of {route.path} is missing in docs/http.md"
