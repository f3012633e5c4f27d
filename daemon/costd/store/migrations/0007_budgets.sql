-- Budgets, their windows, slices of these, and alerts. Amounts are nano-USD.

CREATE TABLE budget (
  id TEXT PRIMARY KEY,                  -- a UUIDv7
  org_id INTEGER NOT NULL REFERENCES org (id),
  name TEXT NOT NULL,
  scope TEXT NOT NULL,                  -- JSON: [[dimension, value], …]
  each TEXT NOT NULL,                   -- a dimension, every value of which has windows of its own; '': none
  amount_nano INTEGER NOT NULL,
  period TEXT NOT NULL,
  timezone TEXT NOT NULL,
  anchor_day INTEGER NOT NULL,
  thresholds TEXT NOT NULL,             -- JSON: decimals as text, ascending
  hard INTEGER NOT NULL,
  on_unpriced TEXT NOT NULL CHECK (on_unpriced IN ('allow', 'deny')),
  on_hub_down TEXT NOT NULL CHECK (on_hub_down IN ('allow', 'deny')),
  revision INTEGER NOT NULL,
  since_ms INTEGER NOT NULL,            -- since when the revision counts: windows that ended before are none of its
  known_seq INTEGER NOT NULL,           -- the ledger's last number when the revision came to be known here
  created_ms INTEGER NOT NULL,
  updated_ms INTEGER NOT NULL,
  removed_ms INTEGER,
  origin TEXT NOT NULL                  -- 'hub': a copy; '': made here
) STRICT;
CREATE UNIQUE INDEX budget_by_name ON budget (org_id, name, origin) WHERE removed_ms IS NULL;

CREATE TABLE budget_change (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  budget_id TEXT NOT NULL REFERENCES budget (id),
  at_ms INTEGER NOT NULL,
  actor TEXT NOT NULL,                  -- the key's id
  action TEXT NOT NULL CHECK (action IN ('created', 'changed', 'removed')),
  said TEXT NOT NULL                    -- JSON: the budget after it
) STRICT;
CREATE INDEX budget_change_by_budget ON budget_change (budget_id, id);

-- What was recorded in a window here: by everybody where this ledger decides, by this sidecar where a hub does. At a
-- hub what sources brought is in their accounts instead, but for what was recorded before the budget was there.
CREATE TABLE budget_window (
  budget_id TEXT NOT NULL REFERENCES budget (id),
  revision INTEGER NOT NULL,
  value TEXT NOT NULL,                  -- of the budget's `each`; '' where there is none
  start_ms INTEGER NOT NULL,
  end_ms INTEGER NOT NULL,
  ceiling_nano INTEGER NOT NULL,        -- the highest limit it has had
  settled_nano INTEGER NOT NULL,
  credited_nano INTEGER NOT NULL,       -- corrections that lower what was settled, by whomever
  PRIMARY KEY (budget_id, revision, value, start_ms)
) STRICT, WITHOUT ROWID;
CREATE INDEX budget_window_by_end ON budget_window (end_ms);
-- Those few events that were reserved in another quarter of an hour than their own: rollups have them in another place
-- than windows.
CREATE INDEX event_moved ON event (charged_ms, at_ms)
  WHERE charged_ms IS NOT NULL AND charged_ms / 900000 <> at_ms / 900000;

-- Counters that only grow, for each source and epoch of it. At a hub: those of sources. At a sidecar: its own slices,
-- as source 0.
CREATE TABLE budget_account (
  budget_id TEXT NOT NULL REFERENCES budget (id),
  revision INTEGER NOT NULL,
  value TEXT NOT NULL,
  start_ms INTEGER NOT NULL,
  source_id INTEGER NOT NULL,
  epoch BLOB NOT NULL,
  granted_nano INTEGER NOT NULL,
  returned_nano INTEGER NOT NULL,
  settled_nano INTEGER NOT NULL,        -- at a hub: what the source's records cost
  PRIMARY KEY (budget_id, revision, value, start_ms, source_id, epoch)
) STRICT, WITHOUT ROWID;

-- The most that may be reserved at one time in a window of a budget: after a crash so much is taken to be.
CREATE TABLE budget_mark (
  budget_id TEXT NOT NULL REFERENCES budget (id),
  value TEXT NOT NULL,
  mark_nano INTEGER NOT NULL,
  PRIMARY KEY (budget_id, value)
) STRICT, WITHOUT ROWID;

CREATE TABLE budget_alert (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  public_id TEXT NOT NULL UNIQUE,       -- a UUIDv7
  org_id INTEGER NOT NULL REFERENCES org (id),
  budget_id TEXT NOT NULL REFERENCES budget (id),
  revision INTEGER NOT NULL,
  each TEXT NOT NULL,                   -- the budget's then
  value TEXT NOT NULL,
  start_ms INTEGER NOT NULL,
  end_ms INTEGER NOT NULL,
  threshold TEXT NOT NULL,              -- a decimal
  kind TEXT NOT NULL CHECK (kind IN ('settled', 'forecast')),
  at_ms INTEGER NOT NULL,
  settled_nano INTEGER NOT NULL,
  limit_nano INTEGER NOT NULL,
  forecast_nano INTEGER,
  UNIQUE (budget_id, revision, value, start_ms, threshold, kind)
) STRICT;

CREATE INDEX budget_alert_by_end ON budget_alert (end_ms);

CREATE TABLE alert_delivery (
  alert_id INTEGER NOT NULL REFERENCES budget_alert (id),
  channel TEXT NOT NULL CHECK (channel IN ('webhook', 'slack', 'email')),
  attempts INTEGER NOT NULL,
  next_ms INTEGER,                      -- when it is tried again; NULL once it was accepted
  delivered_ms INTEGER,
  error TEXT NOT NULL,
  PRIMARY KEY (alert_id, channel)
) STRICT, WITHOUT ROWID;
CREATE INDEX alert_delivery_due ON alert_delivery (channel, next_ms) WHERE next_ms IS NOT NULL;

-- At a sidecar: how it stands with its hub about slices. One row, once it asked.
CREATE TABLE lease_state (
  id INTEGER PRIMARY KEY CHECK (id = 1),
  epoch BLOB NOT NULL,                  -- of its own sequence, that the rest speaks of
  hub_epoch BLOB NOT NULL,              -- of the hub that answered last; empty: none
  confirmed BLOB NOT NULL,              -- the incarnation that was confirmed last; empty: none
  pending BLOB NOT NULL                 -- those that were asked for since, 16 bytes each
) STRICT;

-- At a hub: which process of a source may use its slices, and under which epoch of the hub the source has told of them.
ALTER TABLE source_epoch ADD COLUMN lease_incarnation BLOB NOT NULL DEFAULT x'';
ALTER TABLE source ADD COLUMN reported_epoch BLOB NOT NULL DEFAULT x'';

ALTER TABLE hub_state ADD COLUMN budgets_version INTEGER NOT NULL DEFAULT 0;
ALTER TABLE hub_link ADD COLUMN budgets_version INTEGER NOT NULL DEFAULT 0;
