-- The road between sidecar and hub, at both of its ends.

-- Every change of the catalog as it was said, in the ledger's sequence: rows of the catalog only know their last.
CREATE TABLE catalog_change (
  seq INTEGER PRIMARY KEY,
  org_id INTEGER NOT NULL REFERENCES org (id),
  kind TEXT NOT NULL CHECK (kind IN ('user', 'project', 'team', 'workspace')),
  source_app TEXT NOT NULL,
  id TEXT NOT NULL,
  said TEXT NOT NULL,                   -- JSON: {column: value}, null takes one away, what is not named stays
  registers INTEGER NOT NULL,
  at_ms INTEGER NOT NULL
) STRICT;

-- A hub tells its sources what changed since a number.
CREATE INDEX catalog_user_by_seq ON catalog_user (seq);
CREATE INDEX catalog_project_by_seq ON catalog_project (seq);
CREATE INDEX catalog_team_by_seq ON catalog_team (seq);
CREATE INDEX catalog_workspace_by_seq ON catalog_workspace (seq);

CREATE UNIQUE INDEX month_entry_by_id ON month_entry (id);

-- At a sidecar ------------------------------------------------------------------------------------------------------

-- What it knows of its hub; one row, once it has joined one.
CREATE TABLE hub_link (
  id INTEGER PRIMARY KEY CHECK (id = 1),
  joined_ms INTEGER NOT NULL,
  heard_ms INTEGER NOT NULL,            -- of the last word of the hub's on the Sync stream
  acknowledged_ms INTEGER,              -- of its last acknowledgement
  source TEXT NOT NULL,                 -- the name the hub knows this sidecar by
  organization TEXT NOT NULL,           -- of the sidecar's own records
  hub_epoch BLOB NOT NULL,              -- the lineage of the hub's ledger that acknowledged last; empty: none
  sync_epoch BLOB NOT NULL,             -- the one that the copies below are of; empty: none
  keys_version INTEGER NOT NULL,
  catalog_version INTEGER NOT NULL,
  prices_version INTEGER NOT NULL,
  quarantine_version INTEGER NOT NULL
) STRICT;

-- Lineages of the sequence; the newest counts.
CREATE TABLE forward_epoch (
  number INTEGER PRIMARY KEY,
  epoch BLOB NOT NULL UNIQUE,           -- 16 random bytes
  first_seq INTEGER NOT NULL,
  started_ms INTEGER NOT NULL,
  reason TEXT NOT NULL
) STRICT;

-- Sealed ranges; a range is never cut again within its epoch.
CREATE TABLE forward_seal (
  epoch_number INTEGER NOT NULL REFERENCES forward_epoch (number),
  last_seq INTEGER NOT NULL,
  first_seq INTEGER NOT NULL,
  seal BLOB NOT NULL,
  previous BLOB NOT NULL,
  format INTEGER NOT NULL,
  records INTEGER NOT NULL,
  content BLOB,                         -- until the hub has acknowledged it
  PRIMARY KEY (epoch_number, last_seq)
) STRICT, WITHOUT ROWID;

ALTER TABLE api_key ADD COLUMN origin TEXT NOT NULL DEFAULT '';   -- 'hub': a copy; 'gone': of one that the hub has no more; '': made here
-- At a hub: counts its changes, so that sources are told only what is news to them.
ALTER TABLE api_key ADD COLUMN version INTEGER NOT NULL DEFAULT 0;

-- At a hub ----------------------------------------------------------------------------------------------------------

-- One row, once it was a hub.
CREATE TABLE hub_state (
  id INTEGER PRIMARY KEY CHECK (id = 1),
  epoch BLOB NOT NULL,                  -- 16 random bytes: another once the ledger went back in time
  keys_version INTEGER NOT NULL,
  quarantine_version INTEGER NOT NULL,
  ids_from_ms INTEGER NOT NULL          -- commits received before this moment may have been forgotten
) STRICT;

CREATE TABLE source (
  id INTEGER PRIMARY KEY,
  public_id TEXT NOT NULL UNIQUE,       -- a UUID
  name TEXT NOT NULL UNIQUE,
  key_id TEXT NOT NULL UNIQUE,
  created_ms INTEGER NOT NULL,
  forgotten_ms INTEGER,
  host TEXT NOT NULL,
  version TEXT NOT NULL,
  seen_ms INTEGER,
  clock_skew_ms INTEGER NOT NULL,
  forwarded_ms INTEGER,                 -- by the source's clock: everything it received before is here
  records INTEGER NOT NULL,
  duplicates INTEGER NOT NULL
) STRICT;

CREATE TABLE source_org (
  source_id INTEGER NOT NULL REFERENCES source (id),
  org_id INTEGER NOT NULL REFERENCES org (id),
  place INTEGER NOT NULL,               -- 0: that of the source's own records
  PRIMARY KEY (source_id, org_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE source_epoch (
  source_id INTEGER NOT NULL REFERENCES source (id),
  epoch BLOB NOT NULL,
  last_seq INTEGER NOT NULL,            -- the watermark: moved with the effect of each batch
  seal BLOB NOT NULL,                   -- of the range that ends there
  incarnation BLOB NOT NULL,            -- of the process that connected last
  started_ms INTEGER NOT NULL,
  seen_ms INTEGER NOT NULL,
  PRIMARY KEY (source_id, epoch)
) STRICT, WITHOUT ROWID;

-- Seals of ranges that were applied, so that a repetition can be told from another lineage.
CREATE TABLE source_seal (
  source_id INTEGER NOT NULL REFERENCES source (id),
  epoch BLOB NOT NULL,
  last_seq INTEGER NOT NULL,
  seal BLOB NOT NULL,
  PRIMARY KEY (source_id, epoch, last_seq)
) STRICT, WITHOUT ROWID;

-- What a source has to hear of its records, until it has acknowledged that by its own watermark.
CREATE TABLE set_aside (
  source_id INTEGER NOT NULL REFERENCES source (id),
  epoch BLOB NOT NULL,
  first_seq INTEGER NOT NULL,
  last_seq INTEGER NOT NULL,
  quarantine_id TEXT,                   -- NULL: a duplicate
  PRIMARY KEY (source_id, epoch, first_seq, last_seq)
) STRICT, WITHOUT ROWID;

-- At both ends ------------------------------------------------------------------------------------------------------

CREATE TABLE quarantine (
  id TEXT PRIMARY KEY,                  -- a UUIDv7, the hub's
  source_id INTEGER,                    -- NULL at the source itself
  epoch BLOB NOT NULL,
  first_seq INTEGER NOT NULL,           -- in the source's sequence
  last_seq INTEGER NOT NULL,
  records INTEGER NOT NULL,
  cost_usd INTEGER NOT NULL,            -- in two halves as in rollups
  cost_nano INTEGER NOT NULL,
  reason TEXT NOT NULL,
  format INTEGER NOT NULL,
  at_ms INTEGER NOT NULL,
  state TEXT NOT NULL CHECK (state IN ('held', 'applied', 'dropped')),
  settled_ms INTEGER,
  ordered TEXT NOT NULL,                -- at the source: what its operator wants ('retry', 'drop'); '': nothing
  version INTEGER NOT NULL,             -- at the hub: counts changes, so that sources are told only what is news
  uncounted TEXT NOT NULL DEFAULT '[]', -- JSON: [[first, last], …], numbers of it that do not count, once it is settled
  content BLOB                          -- at the hub: the batch it came in, until it is settled; last, as it is long
) STRICT, WITHOUT ROWID;

-- What is held is counted at every look at a source.
CREATE INDEX quarantine_held ON quarantine (source_id, state, records) WHERE state = 'held';

CREATE TABLE lost_range (
  id INTEGER PRIMARY KEY,
  source_id INTEGER,                    -- NULL at the source itself
  epoch BLOB NOT NULL,
  first_seq INTEGER NOT NULL,
  last_seq INTEGER NOT NULL,
  at_ms INTEGER NOT NULL
) STRICT;
