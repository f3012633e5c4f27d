"""Values that a shell may complete; only what is known without asking a daemon."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import click
from click.shell_completion import CompletionItem

from costd.domain import budget
from costd.domain.access import ROLES
from costd.domain.series import DIMENSIONS

Suggest = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def words(known: Sequence[str]) -> Suggest:
    """One of these words."""

    def suggest(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
        return [CompletionItem(word) for word in known if word.startswith(incomplete)]

    return suggest


def comma_words(known: Sequence[str]) -> Suggest:
    """Some of these words with commas between them, each once: the last one is completed."""

    def suggest(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
        before, comma, last = incomplete.rpartition(",")
        free = [word for word in known if word.startswith(last) and word not in before.split(",")]
        return [CompletionItem(f"{before}{comma}{word}") for word in free]

    return suggest


def files(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """A file, which the shell knows best."""
    return [CompletionItem(incomplete, type="file")]


def folders(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """A folder, as `files`."""
    return [CompletionItem(incomplete, type="dir")]


dimensions = comma_words(DIMENSIONS)
roles = comma_words(ROLES)
budget_dimensions = words((*budget.DIMENSIONS, "none"))
budget_scopes = words([f"{dimension}=" for dimension in budget.DIMENSIONS])
