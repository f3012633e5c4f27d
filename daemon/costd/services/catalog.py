"""The catalog of users and projects, kept by the applications that know them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from costd.domain.access import Caller
from costd.domain.errors import Invalid
from costd.domain.usage import check_string
from costd.services.access import check_binding
from costd.store import catalog as store
from costd.store.catalog import ProjectRecord, UserRecord
from costd.store.commit import Change

if TYPE_CHECKING:
    from costd.store.ticket import Ticket
    from costd.store.writer import Writer


class Catalog:
    """Creates and updates users and projects."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer

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


def _checked(caller: Caller, record: UserRecord | ProjectRecord) -> str:
    """The source_app to file a record under, after everything in it was checked."""
    caller.require("ingest")
    for field in type(record).__dataclass_fields__:
        value = getattr(record, field)
        if isinstance(value, str):
            check_string(value, field)
    if not record.external_id:
        raise Invalid("external_id", "is required")
    return check_binding(caller.source_app, record.source_app, "source_app", caller.name)
