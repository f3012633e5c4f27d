-- Teams and workspaces, and which of them users, projects and teams belong to.

ALTER TABLE catalog_user ADD COLUMN team_id TEXT;

-- A team that is only named by records, keys, projects or users has no row: it is shown as unregistered.
CREATE TABLE catalog_team (
  org_id INTEGER NOT NULL REFERENCES org (id),
  team_id TEXT NOT NULL,
  name TEXT,
  workspace_id TEXT,
  created_ms INTEGER NOT NULL,
  updated_ms INTEGER NOT NULL,
  seq INTEGER NOT NULL,                 -- its last change, in the ledger's sequence
  PRIMARY KEY (org_id, team_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE catalog_workspace (
  org_id INTEGER NOT NULL REFERENCES org (id),
  workspace_id TEXT NOT NULL,
  name TEXT,
  created_ms INTEGER NOT NULL,
  updated_ms INTEGER NOT NULL,
  seq INTEGER NOT NULL,
  PRIMARY KEY (org_id, workspace_id)
) STRICT, WITHOUT ROWID;
