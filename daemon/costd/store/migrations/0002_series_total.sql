-- Sums that outlive retention, so that counters continue from them after any restart.

-- All rollups there ever were, up to and including (totalled_hour, totalled_series_id), by series. Rollups beyond
-- are folded in once their hour has passed; records that come late for an hour before it are added to both.
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
ALTER TABLE ledger_state ADD COLUMN totalled_hour INTEGER NOT NULL DEFAULT 0;
ALTER TABLE ledger_state ADD COLUMN totalled_series_id INTEGER NOT NULL DEFAULT 0;

-- How many events up to and including number latency_seq had a latency in which bucket of the histogram.
CREATE TABLE series_latency (
  series_id INTEGER NOT NULL REFERENCES series (id),
  bucket INTEGER NOT NULL,
  events INTEGER NOT NULL,
  PRIMARY KEY (series_id, bucket)
) STRICT, WITHOUT ROWID;
ALTER TABLE ledger_state ADD COLUMN latency_seq INTEGER NOT NULL DEFAULT 0;
