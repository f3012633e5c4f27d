"""The OpenAPI document: written from the table of routes and the structs that validate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from costd import __version__
from costd.wire.web.answers import ErrorBody
from costd.wire.web.route import ANY, JSON, PARAMETER, Route

_REF = "#/components/schemas/{name}"
_SECURITY: list[dict[str, list[str]]] = [{"bearer": []}, {"apiKey": []}]

_DESCRIPTIONS = {
    "400": "The request is not valid; `details` names the field.",
    "401": "No key, or one that is unknown or revoked.",
    "403": "The key lacks the role or is bound elsewhere, or Host or Origin is foreign.",
    "404": "There is no such thing, or it is no longer kept.",
    "409": "The request id was already used with other content, or the name is another's; nothing was done.",
    "413": "The body is too large.",
    "503": "Not now: queue or disk full, too many or too long reports, or stopping; Retry-After says for how long.",
}
_REQUEST_ID = {
    "name": "X-Request-Id",
    "in": "header",
    "description": "An id for this request of at most 128 printable ASCII characters; echoed, or made up.",
    "schema": {"type": "string", "maxLength": 128},
}
_IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "The record's request id where the body has none; both and different is refused.",
    "schema": {"type": "string", "maxLength": 256},
}


def document(routes: Sequence[Route]) -> bytes:
    """The OpenAPI 3.1 document of these routes, as JSON."""
    types = [kind for route in routes for kind in (route.body, route.query, route.answer) if kind is not None]
    schemas, components = msgspec.json.schema_components([*types, ErrorBody], ref_template=_REF)
    by_type = {_key(kind): schema for kind, schema in zip([*types, ErrorBody], schemas, strict=True)}
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, by_type, components)
    return msgspec.json.encode(
        {
            "openapi": "3.1.0",
            "info": {
                "title": "costd",
                "version": __version__,
                "description": "Meters, prices and keeps what AI API calls cost.",
            },
            "paths": paths,
            "components": {
                "schemas": components,
                "securitySchemes": {
                    "bearer": {"type": "http", "scheme": "bearer"},
                    "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
                },
            },
        },
        order="deterministic",
    )


def _key(kind: Any) -> str:
    return repr(kind)


def _operation(route: Route, by_type: dict[str, Any], components: dict[str, Any]) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "summary": route.summary,
        "operationId": _operation_id(route),
        "parameters": _parameters(route, by_type, components),
        "responses": _responses(route, by_type),
        "security": _SECURITY if route.role else [],
    }
    if route.role:
        operation["x-role"] = route.role
    if route.body is not None:
        schema = by_type[_key(route.body)]
        operation["requestBody"] = {
            "required": True,
            "content": {kind: {"schema": schema} for kind in route.body_types},
        }
    return operation


def _operation_id(route: Route) -> str:
    words = route.path.replace("{", "").replace("}", "").replace(".", "/").replace("-", "/").split("/")
    return route.method.lower() + "".join(word.capitalize() for word in words)


def _parameters(route: Route, by_type: dict[str, Any], components: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "maxLength": 256}}
        for name in PARAMETER.findall(route.path)
    ]
    if route.query is not None:
        name = by_type[_key(route.query)]["$ref"].rpartition("/")[2]
        found += [
            {"name": field, "in": "query", "required": False, "schema": schema}
            for field, schema in components[name]["properties"].items()
        ]
    found.append(_REQUEST_ID)
    if route.idempotent:
        found.append(_IDEMPOTENCY_KEY)
    return found


def _responses(route: Route, by_type: dict[str, Any]) -> dict[str, Any]:
    good: dict[str, Any] = {"description": "Done."}
    if route.answer is not None:
        good["content"] = {JSON: {"schema": by_type[_key(route.answer)]}}
    else:
        good["content"] = {route.content_type: {"schema": {"type": "string"}}}
    error = {JSON: {"schema": by_type[_key(ErrorBody)]}}
    responses = {str(route.status): good}
    for status in _statuses(route):
        responses[status] = {"description": _DESCRIPTIONS[status], "content": error}
    if route.path.endswith("/health"):
        # Health answers in its own form whatever it says.
        responses["503"] = {"description": "Records cannot be taken now.", "content": good["content"]}
    return responses


def _statuses(route: Route) -> list[str]:
    statuses = ["400", "403"]
    if route.role:
        statuses.append("401")
    if route.body is not None:
        statuses.append("413")
    if route.body is not None or route.role in {ANY, "read", "admin"}:
        statuses.append("503")
    if route.path.endswith(("/{id}", "/match", "/history", "/profile")):
        statuses.append("404")
    if route.has_names or (route.idempotent and route.records):
        statuses.append("409")
    return sorted(statuses)
