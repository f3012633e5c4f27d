-- The whole schema of a ledger, as the migrations beside this file lead to it.
-- Written by scripts/write_schema.py; a test holds it to the migrations. To change the schema, add a migration.

CREATE TABLE schema_migration (
  version INTEGER PRIMARY KEY,
  name TEXT NOT NULL,
  applied_ms INTEGER NOT NULL
) STRICT;

CREATE TABLE org (
  id INTEGER PRIMARY KEY,
  name TEXT NOT NULL UNIQUE
) STRICT;

CREATE TABLE api_key (
  id TEXT PRIMARY KEY,
  org_id INTEGER NOT NULL REFERENCES org (id),
  name TEXT NOT NULL,
  digest BLOB NOT NULL UNIQUE,          -- SHA-256 of the secret; the secret itself is nowhere
  key_prefix TEXT NOT NULL,
  roles TEXT NOT NULL,                  -- comma-separated
  team TEXT NOT NULL DEFAULT '',
  project TEXT NOT NULL DEFAULT '',
  source_app TEXT NOT NULL DEFAULT '',
  description TEXT NOT NULL DEFAULT '',
  created_ms INTEGER NOT NULL,
  last_used_ms INTEGER,
  revoked_ms INTEGER
, origin TEXT NOT NULL DEFAULT '', version INTEGER NOT NULL DEFAULT 0, renamed_ms INTEGER) STRICT, WITHOUT ROWID;

CREATE TABLE ledger_commit (
  first_seq INTEGER PRIMARY KEY,
  id BLOB NOT NULL UNIQUE,              -- 16 bytes, a UUIDv7 whose low 24 bits are zero
  at_ms INTEGER NOT NULL,               -- when it was received
  items INTEGER NOT NULL
) STRICT;

CREATE TABLE series (
  id INTEGER PRIMARY KEY,
  digest BLOB NOT NULL UNIQUE,
  org_id INTEGER NOT NULL REFERENCES org (id),
  key_id TEXT NOT NULL,
  source_app TEXT NOT NULL,
  workspace TEXT NOT NULL,
  team TEXT NOT NULL,
  project TEXT NOT NULL,
  product TEXT NOT NULL,
  user TEXT NOT NULL,
  provider TEXT NOT NULL,
  model TEXT NOT NULL,
  prompt_key TEXT NOT NULL,
  prompt_version TEXT NOT NULL,
  tags TEXT NOT NULL,
  endpoint TEXT NOT NULL,
  status TEXT NOT NULL                  -- the class: success, error, incomplete, sandbox
) STRICT;

CREATE TABLE price_source (
  id INTEGER PRIMARY KEY,
  kind TEXT NOT NULL CHECK (kind IN ('list', 'file', 'override', 'caller', 'bill')),
  version TEXT NOT NULL,
  added_ms INTEGER NOT NULL,
  table_digest BLOB REFERENCES price_table (digest),
  UNIQUE (kind, version, table_digest)
) STRICT;

CREATE TABLE price_table (
  digest BLOB PRIMARY KEY,
  body BLOB NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE event (
  seq INTEGER PRIMARY KEY,
  at_ms INTEGER NOT NULL,
  charged_ms INTEGER,                   -- when it was reserved; NULL where that is at_ms
  series_id INTEGER NOT NULL REFERENCES series (id),
  input_tokens INTEGER NOT NULL,
  output_tokens INTEGER NOT NULL,
  cache_read_tokens INTEGER NOT NULL,
  cache_write_tokens INTEGER NOT NULL,
  reasoning_tokens INTEGER NOT NULL,
  cost_nano INTEGER,                    -- NULL: unpriced
  price_source_id INTEGER REFERENCES price_source (id),
  latency_ms INTEGER,
  extra TEXT                            -- JSON: what few records have (rare units, job, status, context, unrated)
) STRICT;

CREATE TABLE request (
  seq INTEGER PRIMARY KEY,
  org_id INTEGER NOT NULL,
  request_id ANY NOT NULL,              -- 16 bytes where it is a canonical UUID, else text
  fingerprint BLOB NOT NULL
) STRICT;

CREATE UNIQUE INDEX request_by_id ON request (org_id, request_id);

CREATE TABLE record_batch (
  seq INTEGER PRIMARY KEY,
  org_id INTEGER NOT NULL,
  batch_id ANY NOT NULL,                -- as request.request_id
  fingerprint BLOB NOT NULL,
  records INTEGER NOT NULL,             -- as sent
  answer TEXT                           -- JSON: what a retry is answered with; NULL where every record was accepted
) STRICT;

CREATE UNIQUE INDEX record_batch_by_id ON record_batch (org_id, batch_id);

CREATE TABLE rollup (
  hour INTEGER NOT NULL,
  series_id INTEGER NOT NULL REFERENCES series (id),
  requests INTEGER NOT NULL,
  errors INTEGER NOT NULL,
  input_tokens INTEGER NOT NULL,
  output_tokens INTEGER NOT NULL,
  cache_read_tokens INTEGER NOT NULL,
  cache_write_tokens INTEGER NOT NULL,
  reasoning_tokens INTEGER NOT NULL,
  cost_usd INTEGER NOT NULL,
  cost_nano INTEGER NOT NULL,
  unpriced INTEGER NOT NULL,
  unrated INTEGER NOT NULL,
  latency_ms INTEGER NOT NULL,
  timed INTEGER NOT NULL,               -- how many of the requests carried a latency
  PRIMARY KEY (hour, series_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE rollup_unit (
  hour INTEGER NOT NULL,
  series_id INTEGER NOT NULL REFERENCES series (id),
  unit TEXT NOT NULL,
  whole INTEGER NOT NULL,
  micro INTEGER NOT NULL,
  PRIMARY KEY (hour, series_id, unit)
) STRICT, WITHOUT ROWID;

CREATE TABLE month_entry (
  seq INTEGER PRIMARY KEY,
  id BLOB NOT NULL,                     -- its public id: entries outlive the commits it could be derived from
  org_id INTEGER NOT NULL REFERENCES org (id),
  key_id TEXT NOT NULL,
  kind TEXT NOT NULL CHECK (kind IN ('cost', 'tokens', 'manual')),
  service TEXT NOT NULL,                -- as shown
  provider TEXT NOT NULL,               -- as grouped: lower case
  project TEXT NOT NULL,
  product TEXT NOT NULL,
  year INTEGER NOT NULL,
  month INTEGER NOT NULL,
  cost_nano INTEGER NOT NULL,
  tokens INTEGER NOT NULL,
  input_tokens INTEGER NOT NULL,
  output_tokens INTEGER NOT NULL,
  cached_tokens INTEGER NOT NULL,
  details TEXT NOT NULL                 -- JSON: every optional field as it was sent
) STRICT;

CREATE INDEX month_entry_by_month ON month_entry (org_id, year, month);

CREATE TABLE catalog_user (
  org_id INTEGER NOT NULL REFERENCES org (id),
  source_app TEXT NOT NULL,
  external_id TEXT NOT NULL,
  email TEXT,
  full_name TEXT,
  created_ms INTEGER NOT NULL,
  updated_ms INTEGER NOT NULL,
  seq INTEGER NOT NULL, team_id TEXT,                 -- its last change, in the ledger's sequence
  PRIMARY KEY (org_id, source_app, external_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE catalog_project (
  org_id INTEGER NOT NULL REFERENCES org (id),
  source_app TEXT NOT NULL,
  external_id TEXT NOT NULL,
  name TEXT,
  workspace_id TEXT,
  team_id TEXT,
  registered INTEGER NOT NULL,          -- 0: only seen in a record, shown as unassigned
  created_ms INTEGER NOT NULL,
  updated_ms INTEGER NOT NULL,
  seq INTEGER NOT NULL,
  PRIMARY KEY (org_id, source_app, external_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE provider_freshness (
  org_id INTEGER NOT NULL REFERENCES org (id),
  provider TEXT NOT NULL,
  newest_ms INTEGER NOT NULL,
  PRIMARY KEY (org_id, provider)
) STRICT, WITHOUT ROWID;

CREATE TABLE audit (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  org_id INTEGER NOT NULL REFERENCES org (id),
  at_ms INTEGER NOT NULL,
  actor TEXT NOT NULL,                  -- the key's id
  action TEXT NOT NULL,                 -- api_key.created, …
  resource_type TEXT NOT NULL,
  resource_id TEXT NOT NULL,
  metadata TEXT NOT NULL                -- JSON
) STRICT;

CREATE TABLE ledger_state (
  id INTEGER PRIMARY KEY CHECK (id = 1),
  forwarded_seq INTEGER,                -- everything up to here is at the hub; NULL: nothing is forwarded anywhere
  complete_from_hour INTEGER NOT NULL   -- events of this hour and later are all still here
, totalled_hour INTEGER NOT NULL DEFAULT 0, totalled_series_id INTEGER NOT NULL DEFAULT 0, latency_seq INTEGER NOT NULL DEFAULT 0, rollups_from_hour INTEGER NOT NULL DEFAULT 0, price_revision INTEGER NOT NULL DEFAULT 0) STRICT;

CREATE TABLE series_total (
  series_id INTEGER PRIMARY KEY REFERENCES series (id),
  requests INTEGER NOT NULL,
  errors INTEGER NOT NULL,
  input_tokens INTEGER NOT NULL,
  output_tokens INTEGER NOT NULL,
  cache_read_tokens INTEGER NOT NULL,
  cache_write_tokens INTEGER NOT NULL,
  reasoning_tokens INTEGER NOT NULL,
  cost_usd INTEGER NOT NULL,
  cost_nano INTEGER NOT NULL,
  unpriced INTEGER NOT NULL,
  unrated INTEGER NOT NULL,
  latency_ms INTEGER NOT NULL,
  timed INTEGER NOT NULL
) STRICT;

CREATE TABLE series_latency (
  series_id INTEGER NOT NULL REFERENCES series (id),
  bucket INTEGER NOT NULL,
  events INTEGER NOT NULL,
  PRIMARY KEY (series_id, bucket)
) STRICT, WITHOUT ROWID;

CREATE TABLE rollup_day (
  day INTEGER NOT NULL,
  series_id INTEGER NOT NULL REFERENCES series (id),
  requests INTEGER NOT NULL,
  errors INTEGER NOT NULL,
  input_tokens INTEGER NOT NULL,
  output_tokens INTEGER NOT NULL,
  cache_read_tokens INTEGER NOT NULL,
  cache_write_tokens INTEGER NOT NULL,
  reasoning_tokens INTEGER NOT NULL,
  cost_usd INTEGER NOT NULL,
  cost_nano INTEGER NOT NULL,
  unpriced INTEGER NOT NULL,
  unrated INTEGER NOT NULL,
  latency_ms INTEGER NOT NULL,
  timed INTEGER NOT NULL,
  PRIMARY KEY (day, series_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE rollup_month (
  month INTEGER NOT NULL,
  series_id INTEGER NOT NULL REFERENCES series (id),
  requests INTEGER NOT NULL,
  errors INTEGER NOT NULL,
  input_tokens INTEGER NOT NULL,
  output_tokens INTEGER NOT NULL,
  cache_read_tokens INTEGER NOT NULL,
  cache_write_tokens INTEGER NOT NULL,
  reasoning_tokens INTEGER NOT NULL,
  cost_usd INTEGER NOT NULL,
  cost_nano INTEGER NOT NULL,
  unpriced INTEGER NOT NULL,
  unrated INTEGER NOT NULL,
  latency_ms INTEGER NOT NULL,
  timed INTEGER NOT NULL,
  PRIMARY KEY (month, series_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE event_block (
  first_seq INTEGER PRIMARY KEY,
  last_seq INTEGER NOT NULL,
  min_ms INTEGER NOT NULL,
  max_ms INTEGER NOT NULL,
  series BLOB                           -- their numbers, 4 bytes each, little-endian; NULL: too many to name
) STRICT;

CREATE TABLE price_rule (
  id TEXT PRIMARY KEY,                  -- a UUIDv7
  org_id INTEGER REFERENCES org (id),   -- NULL: every organization
  provider TEXT NOT NULL,               -- lower-case id; '': any
  model TEXT NOT NULL,                  -- lower case; '*' at its end stands for any rest
  context TEXT NOT NULL,                -- JSON object: what a record's price context must hold for the rule to apply
  rates TEXT NOT NULL,                  -- JSON: {unit: [mantissa, power of ten, [threshold, mantissa, power], …]}, USD each
  multiplier TEXT NOT NULL,             -- JSON: [mantissa, power of ten] for what the rule has no rate for; 'null': none
  from_ms INTEGER NOT NULL,
  until_ms INTEGER,                     -- exclusive; NULL: until further notice
  note TEXT NOT NULL,
  created_ms INTEGER NOT NULL,
  created_by TEXT NOT NULL,             -- the key's id
  revision INTEGER NOT NULL,            -- of the prices, from which on the rule holds
  removed_ms INTEGER,
  removed_by TEXT,
  removed_revision INTEGER              -- from which on it does not
) STRICT, WITHOUT ROWID;

CREATE TABLE price_import (
  revision INTEGER PRIMARY KEY,         -- of the prices, from which on the table holds
  kind TEXT NOT NULL CHECK (kind IN ('list', 'file')),
  version TEXT NOT NULL,
  name TEXT NOT NULL,                   -- of the file it came from
  digest BLOB NOT NULL REFERENCES price_table (digest),
  installed_version TEXT NOT NULL,      -- of the list that was installed at the time
  imported_ms INTEGER NOT NULL,
  imported_by TEXT NOT NULL,
  removed_ms INTEGER,
  removed_revision INTEGER
) STRICT;

CREATE TABLE correction (
  id INTEGER PRIMARY KEY,
  org_id INTEGER NOT NULL REFERENCES org (id),
  kind TEXT NOT NULL CHECK (kind IN ('reprice', 'duplicate', 'void')),
  request TEXT NOT NULL,                -- JSON: what was asked for; the same again goes on where this one stopped
  reason TEXT NOT NULL,
  actor TEXT NOT NULL,                  -- the key's id
  started_ms INTEGER NOT NULL,
  finished_ms INTEGER,
  through_seq INTEGER NOT NULL,         -- the last event it looks at
  done_seq INTEGER NOT NULL,            -- the last it has looked at
  adjusted INTEGER NOT NULL,            -- how many events it changed
  up_usd INTEGER NOT NULL,              -- by how much their costs rose together, in two halves as in rollups
  up_nano INTEGER NOT NULL,
  down_usd INTEGER NOT NULL,            -- by how much they fell
  down_nano INTEGER NOT NULL
) STRICT;

CREATE TABLE adjustment (
  seq INTEGER PRIMARY KEY,
  event_seq INTEGER NOT NULL,
  event_id BLOB NOT NULL,               -- the event's public id: it outlives the commit it could be derived from
  at_ms INTEGER NOT NULL,               -- the event's time: the correction lands in the same hour
  series_id INTEGER NOT NULL REFERENCES series (id),
  kind TEXT NOT NULL CHECK (kind IN ('reprice', 'duplicate', 'void')),
  requests INTEGER NOT NULL,
  errors INTEGER NOT NULL,
  input_tokens INTEGER NOT NULL,
  output_tokens INTEGER NOT NULL,
  cache_read_tokens INTEGER NOT NULL,
  cache_write_tokens INTEGER NOT NULL,
  reasoning_tokens INTEGER NOT NULL,
  cost_nano INTEGER NOT NULL,
  unpriced INTEGER NOT NULL,
  unrated INTEGER NOT NULL,
  latency_ms INTEGER NOT NULL,
  timed INTEGER NOT NULL,
  units TEXT,                           -- JSON: what it changes of units without a column
  price_source_id INTEGER REFERENCES price_source (id),
  correction_id INTEGER NOT NULL REFERENCES correction (id)
) STRICT;

CREATE INDEX adjustment_by_event ON adjustment (event_seq);

CREATE TABLE series_adjusted (
  series_id INTEGER PRIMARY KEY REFERENCES series (id),
  requests INTEGER NOT NULL,
  errors INTEGER NOT NULL,
  input_tokens INTEGER NOT NULL,
  output_tokens INTEGER NOT NULL,
  cache_read_tokens INTEGER NOT NULL,
  cache_write_tokens INTEGER NOT NULL,
  reasoning_tokens INTEGER NOT NULL,
  cost_usd INTEGER NOT NULL,
  cost_nano INTEGER NOT NULL,
  unpriced INTEGER NOT NULL,
  unrated INTEGER NOT NULL,
  latency_ms INTEGER NOT NULL,
  timed INTEGER NOT NULL
) STRICT;

CREATE TABLE adjustment_total (
  kind TEXT PRIMARY KEY,
  adjustments INTEGER NOT NULL,
  up_usd INTEGER NOT NULL,
  up_nano INTEGER NOT NULL,
  down_usd INTEGER NOT NULL,
  down_nano INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

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

CREATE INDEX catalog_user_by_seq ON catalog_user (seq);

CREATE INDEX catalog_project_by_seq ON catalog_project (seq);

CREATE INDEX catalog_team_by_seq ON catalog_team (seq);

CREATE INDEX catalog_workspace_by_seq ON catalog_workspace (seq);

CREATE UNIQUE INDEX month_entry_by_id ON month_entry (id);

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
, budgets_version INTEGER NOT NULL DEFAULT 0) STRICT;

CREATE TABLE forward_epoch (
  number INTEGER PRIMARY KEY,
  epoch BLOB NOT NULL UNIQUE,           -- 16 random bytes
  first_seq INTEGER NOT NULL,
  started_ms INTEGER NOT NULL,
  reason TEXT NOT NULL
) STRICT;

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

CREATE TABLE hub_state (
  id INTEGER PRIMARY KEY CHECK (id = 1),
  epoch BLOB NOT NULL,                  -- 16 random bytes: another once the ledger went back in time
  keys_version INTEGER NOT NULL,
  quarantine_version INTEGER NOT NULL,
  ids_from_ms INTEGER NOT NULL          -- commits received before this moment may have been forgotten
, budgets_version INTEGER NOT NULL DEFAULT 0) STRICT;

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
, reported_epoch BLOB NOT NULL DEFAULT x'') STRICT;

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
  seen_ms INTEGER NOT NULL, lease_incarnation BLOB NOT NULL DEFAULT x'',
  PRIMARY KEY (source_id, epoch)
) STRICT, WITHOUT ROWID;

CREATE TABLE source_seal (
  source_id INTEGER NOT NULL REFERENCES source (id),
  epoch BLOB NOT NULL,
  last_seq INTEGER NOT NULL,
  seal BLOB NOT NULL,
  PRIMARY KEY (source_id, epoch, last_seq)
) STRICT, WITHOUT ROWID;

CREATE TABLE set_aside (
  source_id INTEGER NOT NULL REFERENCES source (id),
  epoch BLOB NOT NULL,
  first_seq INTEGER NOT NULL,
  last_seq INTEGER NOT NULL,
  quarantine_id TEXT,                   -- NULL: a duplicate
  PRIMARY KEY (source_id, epoch, first_seq, last_seq)
) STRICT, WITHOUT ROWID;

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

CREATE INDEX quarantine_held ON quarantine (source_id, state, records) WHERE state = 'held';

CREATE TABLE lost_range (
  id INTEGER PRIMARY KEY,
  source_id INTEGER,                    -- NULL at the source itself
  epoch BLOB NOT NULL,
  first_seq INTEGER NOT NULL,
  last_seq INTEGER NOT NULL,
  at_ms INTEGER NOT NULL
) STRICT;

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

CREATE INDEX event_moved ON event (charged_ms, at_ms)
  WHERE charged_ms IS NOT NULL AND charged_ms / 900000 <> at_ms / 900000;

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

CREATE TABLE lease_state (
  id INTEGER PRIMARY KEY CHECK (id = 1),
  epoch BLOB NOT NULL,                  -- of its own sequence, that the rest speaks of
  hub_epoch BLOB NOT NULL,              -- of the hub that answered last; empty: none
  confirmed BLOB NOT NULL,              -- the incarnation that was confirmed last; empty: none
  pending BLOB NOT NULL                 -- those that were asked for since, 16 bytes each
) STRICT;

CREATE TABLE proxy_endpoint (
  id TEXT PRIMARY KEY,                  -- a UUIDv7
  org_id INTEGER NOT NULL REFERENCES org (id),
  name TEXT NOT NULL,
  slug TEXT NOT NULL UNIQUE,            -- never given twice, so that no old client meets a new endpoint
  store_bodies INTEGER NOT NULL,
  body_bytes INTEGER NOT NULL,          -- of each body at most so much is stored
  retention_days INTEGER NOT NULL,
  created_ms INTEGER NOT NULL,
  removed_ms INTEGER
, origin TEXT NOT NULL DEFAULT '') STRICT;

CREATE TABLE proxied_body (
  event_id BLOB PRIMARY KEY,            -- the record's public id
  org_id INTEGER NOT NULL REFERENCES org (id),
  request BLOB NOT NULL,
  response BLOB NOT NULL,
  expires_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX proxied_body_by_expiry ON proxied_body (expires_ms);

CREATE TABLE prompt (
  org_id INTEGER NOT NULL REFERENCES org (id),
  prompt_key TEXT NOT NULL,
  active_version TEXT NOT NULL,         -- '': none
  created_ms INTEGER NOT NULL,
  PRIMARY KEY (org_id, prompt_key)
) STRICT, WITHOUT ROWID;

CREATE TABLE prompt_version (
  org_id INTEGER NOT NULL REFERENCES org (id),
  prompt_key TEXT NOT NULL,
  version TEXT NOT NULL,
  created_ms INTEGER NOT NULL,
  PRIMARY KEY (org_id, prompt_key, version)
) STRICT, WITHOUT ROWID;

CREATE INDEX audit_by_org ON audit (org_id);
