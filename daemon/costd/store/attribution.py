"""Whom a record is attributed to: the columns of its dimensions, with the catalog's word where it named no team itself.

A record's team is its own, else its project's, else its user's; its workspace is its own, else its project's, else its
team's. That is worked out when a report is read, so assigning a project moves its history too.
"""

from __future__ import annotations

from costd.domain.series import DIMENSIONS

# Each lookup runs only where what stands before it said nothing, and never for a record without a project or user.
_PROJECT = (
    "FROM catalog_project p WHERE p.org_id = s.org_id AND p.source_app = s.source_app "
    "AND p.external_id = nullif(s.project, '')"
)
_USER = (
    "FROM catalog_user u WHERE u.org_id = s.org_id AND u.source_app = s.source_app "
    "AND u.external_id = nullif(s.user, '')"
)
_TEAM = f"nullif(s.team, ''), (SELECT nullif(p.team_id, '') {_PROJECT}), (SELECT nullif(u.team_id, '') {_USER})"
_ITS_TEAM = f"FROM catalog_team g WHERE g.org_id = s.org_id AND g.team_id = coalesce({_TEAM})"
_WORKSPACE = (
    f"nullif(s.workspace, ''), (SELECT nullif(p.workspace_id, '') {_PROJECT}), "
    f"(SELECT nullif(g.workspace_id, '') {_ITS_TEAM})"
)
_RESOLVED = {"team": f"coalesce({_TEAM}, '')", "workspace": f"coalesce({_WORKSPACE}, '')"}


def column_of(name: str) -> str:
    """The value of a dimension, as an expression on `series s`."""
    assert name in DIMENSIONS, name
    return _RESOLVED.get(name, f"s.{name}")
