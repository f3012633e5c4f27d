"""An assignment: which users, projects and teams are to belong where, and what makes no sense."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from costd.domain.errors import Invalid
from costd.domain.usage import check_string

#: Things assigned in one transaction, which takes some 20 µs for each: records wait behind it.
MAX_ASSIGNED = 5_000


@dataclass(frozen=True, slots=True)
class Assignment:
    """What is to belong where: None leaves it as it is, "" is nothing.

    `source_app` says whose users and projects are meant; None where their ids are enough. With `unassigned`, all
    unassigned projects of that application are meant as well.
    """

    projects: Sequence[str] = ()
    users: Sequence[str] = ()
    teams: Sequence[str] = ()
    source_app: str | None = None
    unassigned: bool = False
    team: str | None = None
    workspace: str | None = None


def check_assignment(wanted: Assignment) -> None:
    """Raise Invalid unless something is to be assigned to what it can belong to."""
    named = {"projects": wanted.projects, "users": wanted.users, "teams": wanted.teams}
    for field, ids in named.items():
        for id_ in ids:
            check_id(id_, field)
        if len(set(ids)) < len(ids):
            raise Invalid(field, "must name each once")
    for field, value in (("source_app", wanted.source_app), ("team", wanted.team), ("workspace", wanted.workspace)):
        check_string(value or "", field)
    count = sum(map(len, named.values()))
    if count > MAX_ASSIGNED:
        raise Invalid("", f"at most {MAX_ASSIGNED} can be assigned at once; these are {count}")
    if not count and not wanted.unassigned:
        raise Invalid("", "nothing is named that is to be assigned")
    for is_wrong, field, reason in _mistakes(wanted):
        if is_wrong:
            raise Invalid(field, reason)


def check_id(id_: str, field: str) -> None:
    """Raise Invalid unless this can be somebody's id."""
    if not id_:
        raise Invalid(field, "must not be empty")
    check_string(id_, field)


def _mistakes(wanted: Assignment) -> Sequence[tuple[bool, str, str]]:
    """What cannot be meant: whether it was asked for, the field, and why not."""
    to_team, to_workspace = wanted.team is not None, wanted.workspace is not None
    return (
        (not (to_team or to_workspace), "team", 'or workspace must say where they belong ("": nowhere)'),
        (bool(wanted.users) and not to_team, "users", "belong to a team, and to its workspace through it"),
        (bool(wanted.teams) and not to_workspace, "teams", "belong to a workspace"),
        (bool(wanted.users) and to_workspace, "users", "belong to a workspace through their team: name a team alone"),
        (
            bool(wanted.teams) and to_team,
            "teams",
            "belong to a workspace, and to no other team: name a workspace alone",
        ),
        (
            wanted.unassigned and wanted.source_app is None,
            "source_app",
            "must say whose unassigned projects are meant",
        ),
        (
            wanted.unassigned and not (wanted.team or wanted.workspace),
            "team",
            "or workspace must say where the unassigned projects belong",
        ),
    )
