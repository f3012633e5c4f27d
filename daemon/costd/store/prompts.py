"""Prompts that records name, and their versions: there from their first use on."""

from __future__ import annotations

import sqlite3
from typing import NamedTuple

from costd.store.commit import Commit


class PromptRow(NamedTuple):
    """A prompt; `active_version` is "" where it has none. `versions` are all that were used, the oldest first."""

    prompt_key: str
    active_version: str
    created_ms: int
    versions: tuple[str, ...]


def first_used(commit: Commit, org_id: int, prompt_key: str, version: str) -> None:
    """A record names a prompt, and perhaps a version of it: what is not there yet is made.

    The first version there is becomes the active one.
    """
    connection = commit.connection
    connection.execute(
        "INSERT INTO prompt (org_id, prompt_key, active_version, created_ms) VALUES (?, ?, ?, ?) "
        "ON CONFLICT DO UPDATE SET active_version = excluded.active_version "
        "WHERE active_version = '' AND excluded.active_version <> ''",
        (org_id, prompt_key, version, commit.now_ms),
    )
    if version:
        connection.execute(
            "INSERT INTO prompt_version (org_id, prompt_key, version, created_ms) VALUES (?, ?, ?, ?) "
            "ON CONFLICT DO NOTHING",
            (org_id, prompt_key, version, commit.now_ms),
        )


def active_version(connection: sqlite3.Connection, org_id: int, prompt_key: str) -> str:
    """The version that is meant where a call names none; "" where there is none."""
    row = connection.execute(
        "SELECT active_version FROM prompt WHERE org_id = ? AND prompt_key = ?", (org_id, prompt_key)
    ).fetchone()
    return row[0] if row else ""


def list_prompts(connection: sqlite3.Connection, org_id: int) -> list[PromptRow]:
    """The prompts of an organization by their keys."""
    versions: dict[str, list[str]] = {}
    for prompt_key, version in connection.execute(
        "SELECT prompt_key, version FROM prompt_version WHERE org_id = ? ORDER BY created_ms, version", (org_id,)
    ):
        versions.setdefault(prompt_key, []).append(version)
    rows = connection.execute(
        "SELECT prompt_key, active_version, created_ms FROM prompt WHERE org_id = ? ORDER BY prompt_key", (org_id,)
    )
    return [PromptRow(key, active, created, tuple(versions.get(key, ()))) for key, active, created in rows]
