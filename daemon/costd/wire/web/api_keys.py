"""`/api/api-keys`: keys of costd's, made, listed and revoked; and `/api/profile`, the key that asks."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from costd.services.access import DEFAULT_PAGE, MAX_PAGE, KeyInfo, KeyPage, NewKey
from costd.wire.web.answers import rfc3339
from costd.wire.web.fields import Name, Text
from costd.wire.web.route import ANY, Call, Route


class ApiKeyBody(Struct, frozen=True):
    """A key to be made."""

    name: Name


class ApiKey(Struct, frozen=True):
    """A key in force, without its secret; `last_used_at` is null if it never was."""

    id: str
    name: str
    key_prefix: str
    last_used_at: str | None
    created_at: str
    roles: list[str]
    organization: str


class NewApiKey(Struct, frozen=True):
    """A new key; `key` is its secret, which is shown this once."""

    id: str
    name: str
    key: str
    key_prefix: str
    created_at: str


class ApiKeys(Struct, frozen=True, rename="camel"):
    """Keys, newest first."""

    items: list[ApiKey]
    next_cursor: str | None
    has_more: bool


class ApiKeyQuery(Struct, frozen=True):
    """Which page."""

    cursor: Text | None = None
    limit: Annotated[int, Meta(ge=1, le=MAX_PAGE)] = DEFAULT_PAGE


class RevokedKey(Struct, frozen=True):
    """What was revoked."""

    success: bool
    id: str


class ProfileBody(Struct, frozen=True):
    """What a profile is to say."""

    name: Name


class Profile(Struct, frozen=True):
    """The key that asks. A key has no address: `email` is null."""

    id: str
    email: str | None
    name: str
    created_at: str
    updated_at: str


def api_key_routes() -> list[Route]:
    """Keys are made, listed and revoked; a profile is read and changed."""
    path = "/api/api-keys"
    return [
        Route("GET", path, list_keys, "API keys in force, newest first", ApiKeys, role="admin", query=ApiKeyQuery),
        Route("POST", path, create_key, "Make an API key", NewApiKey, role="admin", body=ApiKeyBody, status=201),
        Route("DELETE", path + "/{id}", delete_key, "Revoke an API key", RevokedKey, role="admin"),
        Route("GET", "/api/profile", profile, "The key that asks", Profile, role=ANY),
        Route("PUT", "/api/profile", rename, "Name the key that asks", Profile, role="admin", body=ProfileBody),
    ]


async def list_keys(call: Call) -> object:
    """The keys that the caller looks after."""
    asked: ApiKeyQuery = call.query
    page: KeyPage = await call.read(call.services.access.page, call.caller, asked.cursor or "", asked.limit)
    return ApiKeys(
        items=[_key(info) for info in page.keys],
        next_cursor=page.next_cursor or None,
        has_more=bool(page.next_cursor),
    )


async def create_key(call: Call) -> object:
    """Make a key that may ingest and read; in force when it is answered."""
    sent: ApiKeyBody = call.body
    created = await call.services.access.create_key(call.caller, NewKey(name=sent.name))
    info = created.info
    return NewApiKey(info.id, info.name, created.secret, info.key_prefix, rfc3339(info.created_ms))


async def delete_key(call: Call) -> object:
    """Revoke one by its id; nobody gets in with it when it is answered."""
    revoked = await call.services.access.delete_key(call.caller, call.path["id"])
    return RevokedKey(success=True, id=revoked.id)


async def profile(call: Call) -> object:
    """The caller's key."""
    return _profile(await call.read(call.services.access.profile, call.caller))


async def rename(call: Call) -> object:
    """Give the caller's key another name; in force when it is answered."""
    sent: ProfileBody = call.body
    return _profile(await call.services.access.rename_key(call.caller, sent.name))


def _key(info: KeyInfo) -> ApiKey:
    return ApiKey(
        id=info.id,
        name=info.name,
        key_prefix=info.key_prefix,
        last_used_at=None if info.last_used_ms is None else rfc3339(info.last_used_ms),
        created_at=rfc3339(info.created_ms),
        roles=list(info.roles),
        organization=info.organization,
    )


def _profile(info: KeyInfo) -> Profile:
    updated_ms = info.created_ms if info.renamed_ms is None else info.renamed_ms
    return Profile(info.id, None, info.name, rfc3339(info.created_ms), rfc3339(updated_ms))
