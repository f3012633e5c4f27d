"""Series: the dimensions of a record, interned once and referred to by number ever after."""

from __future__ import annotations

from typing import NamedTuple


class Series(NamedTuple):
    """One combination of dimensions. Text is "" where the record did not say; immutable once stored."""

    org_id: int
    key_id: str
    source_app: str
    workspace: str
    team: str
    project: str
    product: str
    user: str
    provider: str
    model: str
    prompt_key: str
    prompt_version: str
    tags: str
    endpoint: str
    status: str


#: The dimensions a report may group by, in the order of the table's columns. `team` and `workspace` are resolved
#: through the catalog where the record itself named none.
DIMENSIONS = tuple(name for name in Series._fields if name != "org_id")

#: Tags are one dimension: sorted, without repeats, joined by this character (which no tag may contain).
TAG_SEPARATOR = ","
