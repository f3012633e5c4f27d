"""`--filter NAME=VALUE`: which records a command is about."""

from __future__ import annotations

from collections.abc import Sequence

import click

from costd.domain.errors import ConfigError
from costd.domain.series import DIMENSIONS

filter_option = click.option(
    "--filter",
    "filters",
    multiple=True,
    metavar="NAME=VALUE",
    help="Only records whose dimension has this value. Repeatable.",
)


def read_dimension(name: str, flag: str) -> str:
    """The name of a dimension; ConfigError naming `flag` where it is none."""
    if name not in DIMENSIONS:
        raise ConfigError(flag, name, f"must be one of {', '.join(DIMENSIONS)}")
    return name


def read_filters(texts: Sequence[str]) -> dict[str, str]:
    """{dimension: value}; raises ConfigError."""
    filters: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise ConfigError("--filter", text, "must be NAME=VALUE")
        if filters.setdefault(read_dimension(name.strip(), "--filter"), value) != value:
            raise ConfigError("--filter", text, f"must name {name.strip()} once")
    return filters
