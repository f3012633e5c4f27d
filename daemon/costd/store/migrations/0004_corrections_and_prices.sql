-- Prices an operator sets or imports, with their history, and corrections of what was recorded. Nothing has written the
-- two tables that are replaced.

DROP TABLE price_override;

-- A price of an operator's own. Rules are never edited: a change removes one and adds another.
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

-- Whole tables that were put in place: price files of other programs, and lists in place of the one that is installed.
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

-- Every change of rules or tables makes a new revision of the prices; events priced by a rule name it.
ALTER TABLE ledger_state ADD COLUMN price_revision INTEGER NOT NULL DEFAULT 0;

-- One re-rating or one record taken back: why its adjustments were made, and how far it has come.
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

DROP TABLE adjustment;

-- Corrections (re-rating, a duplicate found elsewhere, a voided record): appended, never edits.
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

-- What the adjustments of a series come to. The totals less these are what was ever recorded: counters show that, and
-- so they never run backward.
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

-- All adjustments there ever were, by kind.
CREATE TABLE adjustment_total (
  kind TEXT PRIMARY KEY,
  adjustments INTEGER NOT NULL,
  up_usd INTEGER NOT NULL,
  up_nano INTEGER NOT NULL,
  down_usd INTEGER NOT NULL,
  down_nano INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
