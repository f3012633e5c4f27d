"""The catalog: kept by the applications that know their users and projects, and by admins, who assign them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from costd.domain.access import Caller
from costd.domain.errors import Invalid, NotFound
from costd.domain.usage import check_string
from costd.services.access import check_binding
from costd.services.assignment import Assignment, check_assignment, check_id
from costd.store import catalog as store
from costd.store import catalog_changes, catalog_lists
from costd.store.catalog import ProjectRecord, UserRecord
from costd.store.catalog_changes import Key, Outcome, Setting
from costd.store.catalog_kinds import IS_UNASSIGNED, PROJECT, TEAM, USER, WORKSPACE, Kind
from costd.store.commit import Change
from costd.store.reader import Readers

if TYPE_CHECKING:
    from costd.store.ticket import Ticket
    from costd.store.writer import Writer

#: Unassigned projects may be far more: they are assigned in steps.
_STEP = 1_000
_WRITE_TIMEOUT_S = 30.0
#: How many ids an error names.
_NAMED = 5


@dataclass(frozen=True, slots=True)
class Assigned:
    """How many things belong elsewhere now, how many did already, and what was named that nobody has registered."""

    changed: int
    unchanged: int
    #: Teams that were registered by assigning them.
    new_teams: list[str] = field(default_factory=list)
    unregistered_team: str = ""
    unregistered_workspace: str = ""


class Catalog:
    """Creates and changes users, projects, teams and workspaces."""

    def __init__(self, writer: Writer, readers: Readers) -> None:
        self._writer = writer
        self._readers = readers

    def upsert_user(self, caller: Caller, user: UserRecord) -> Ticket[UserRecord]:
        """Create or update a user; what is None stays as it was."""
        named = replace(user, source_app=_checked(caller, user))
        return self._writer.submit(
            Change(lambda commit: store.upsert_user(commit, caller.org_id, named), control=False)
        )

    def upsert_project(self, caller: Caller, project: ProjectRecord) -> Ticket[ProjectRecord]:
        """Register or update a project; what is None stays as it was."""
        named = replace(project, source_app=_checked(caller, project))
        return self._writer.submit(
            Change(lambda commit: store.upsert_project(commit, caller.org_id, named), control=False)
        )

    def set(self, caller: Caller, kind: Kind, id_: str, source_app: str | None, values: Mapping[str, str]) -> Key:
        """Create, register or change one thing; "" sets a value to nothing. Needs admin, and blocks.

        `values` are by the names in the kind's `columns`. Which thing it was: where `source_app` is None, the one that
        just one application has.
        """
        caller.require("admin")
        check_id(id_, "id")
        for name, value in (*values.items(), ("source_app", source_app or "")):
            check_string(value, name)
        key = Key("", id_)
        if kind.has_apps:
            key = Key(source_app, id_) if source_app is not None else self._only(caller, kind, id_)
        self._write(_setting(caller, kind, values, "set"), [key])
        return key

    def assign(self, caller: Caller, wanted: Assignment) -> Assigned:
        """Assign users and projects to a team, projects and teams to a workspace; all or none, but for `unassigned`.

        Their history moves with them. Needs admin, and blocks. Unassigned projects are assigned in steps; asked again,
        it goes on where it stopped.
        """
        caller.require("admin")
        check_assignment(wanted)
        outcomes = self._assign_named(caller, wanted)
        new_teams = [id_ for id_, outcome in zip(wanted.teams, outcomes[TEAM.name], strict=True) if outcome.is_new]
        found = [outcome for each in outcomes.values() for outcome in each]
        if wanted.unassigned:
            found += self._assign_unassigned(caller, wanted)
        changed = sum(outcome.is_changed for outcome in found)
        with self._readers.snapshot() as connection:
            teams, workspaces = (
                catalog_lists.registered_names(connection, caller.org_id, kind) for kind in (TEAM, WORKSPACE)
            )
        return Assigned(
            changed,
            len(found) - changed,
            new_teams,
            "" if not wanted.team or wanted.team in teams else wanted.team,
            "" if not wanted.workspace or wanted.workspace in workspaces else wanted.workspace,
        )

    def _assign_named(self, caller: Caller, wanted: Assignment) -> dict[str, list[Outcome]]:
        """The outcomes of all that is named by its id, by kind; in one transaction."""
        teams = [Key("", id_) for id_ in wanted.teams]
        with self._readers.snapshot() as connection:
            users, projects = (
                _keys_of(catalog_lists.find_keys(connection, caller.org_id, kind, ids, wanted.source_app), kind)
                for kind, ids in ((USER, wanted.users), (PROJECT, wanted.projects))
            )
        team = {} if wanted.team is None else {"team": wanted.team}
        workspace = {} if wanted.workspace is None else {"workspace": wanted.workspace}
        parts = [
            (_setting(caller, USER, team, "assigned"), users),
            (_setting(caller, PROJECT, {**team, **workspace}, "assigned"), projects),
            (_setting(caller, TEAM, workspace, "assigned"), teams),
        ]
        change = Change(
            lambda commit: {setting.kind.name: catalog_changes.apply(commit, setting, keys) for setting, keys in parts}
        )
        made: dict[str, list[Outcome]] = self._writer.submit(change).wait(_WRITE_TIMEOUT_S)
        return made

    def _assign_unassigned(self, caller: Caller, wanted: Assignment) -> list[Outcome]:
        assert wanted.source_app is not None
        with self._readers.snapshot() as connection:
            keys = catalog_lists.unassigned_projects(connection, caller.org_id, wanted.source_app)
        values = {"team": wanted.team, "workspace": wanted.workspace}
        setting = _setting(caller, PROJECT, {name: value for name, value in values.items() if value}, "assigned")
        outcomes: list[Outcome] = []
        for first in range(0, len(keys), _STEP):
            # Somebody may have assigned one of them meanwhile: it stays where it was put.
            outcomes += self._write(setting, keys[first : first + _STEP], IS_UNASSIGNED)
        return outcomes

    def _only(self, caller: Caller, kind: Kind, id_: str) -> Key:
        """The one user or project with this id; Invalid where no application has it, or several do."""
        with self._readers.snapshot() as connection:
            found = catalog_lists.find_keys(connection, caller.org_id, kind, [id_], None)[id_]
        if not found:
            raise Invalid("source_app", f'is required: no application has a {kind.name} "{id_}" yet')
        return _single(found, kind)

    def _write(self, setting: Setting, keys: Sequence[Key], only_where: str = "1") -> list[Outcome]:
        change = Change(lambda commit: catalog_changes.apply(commit, setting, keys, only_where))
        outcomes: list[Outcome] = self._writer.submit(change).wait(_WRITE_TIMEOUT_S)
        return outcomes


def _setting(caller: Caller, kind: Kind, values: Mapping[str, str], verb: Literal["set", "assigned"]) -> Setting:
    """A setting in which "" is nothing."""
    return Setting(caller.org_id, caller.key_id, kind, {name: value or None for name, value in values.items()}, verb)


def _keys_of(found: Mapping[str, list[Key]], kind: Kind) -> list[Key]:
    """One key for each id; NotFound, naming them, where there is none, Invalid where there are several."""
    missing = [id_ for id_, keys in found.items() if not keys]
    if missing:
        named = ", ".join(f'"{id_}"' for id_ in missing[:_NAMED])
        more = f" and {len(missing) - _NAMED} more" if len(missing) > _NAMED else ""
        raise NotFound(
            f"there is no {kind.name} {named}{more}; nothing was assigned (`costd {kind.name}s set` makes one)"
        )
    return [_single(keys, kind) for keys in found.values()]


def _single(keys: Sequence[Key], kind: Kind) -> Key:
    if len(keys) > 1:
        apps = ", ".join(f'"{key.source_app}"' for key in keys)
        raise Invalid("source_app", f'"{keys[0].id}" is a {kind.name} of several applications; say which: {apps}')
    return keys[0]


def _checked(caller: Caller, record: UserRecord | ProjectRecord) -> str:
    """The source_app to file a record under, after everything in it was checked."""
    caller.require("ingest")
    for name in type(record).__dataclass_fields__:
        value = getattr(record, name)
        if isinstance(value, str):
            check_string(value, name)
    if not record.external_id:
        raise Invalid("external_id", "is required")
    return check_binding(caller.source_app, record.source_app, "source_app", caller.name)
