"""`/api/prompts`: the prompts that records name."""

from __future__ import annotations

from msgspec import Struct

from costd.store.prompts import PromptRow
from costd.wire.web.answers import Envelope, rfc3339
from costd.wire.web.route import Call, Route


class Prompt(Struct, frozen=True):
    """A prompt and the versions of it that were used; a call that names no version means the active one."""

    prompt_key: str
    active_version: str | None
    versions: list[str]
    created_at: str


class PromptList(Struct, frozen=True):
    """Prompts by their keys."""

    prompts: list[Prompt]


def prompt_routes() -> list[Route]:
    """Prompts are listed."""
    return [
        Route("GET", "/api/prompts", list_prompts, "Prompts and their versions", Envelope[PromptList], role="read"),
    ]


async def list_prompts(call: Call) -> object:
    """The organization's prompts."""
    found: list[PromptRow] = await call.read(call.services.prompts.list, call.caller)
    return call.envelope(PromptList([_prompt(row) for row in found]))


def _prompt(row: PromptRow) -> Prompt:
    return Prompt(row.prompt_key, row.active_version or None, list(row.versions), rfc3339(row.created_ms))
