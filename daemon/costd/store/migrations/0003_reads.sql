-- What reports read instead of a year of hours or all events.

-- Rollups by UTC day (whole days since 1970), and by UTC month (year * 12 + month - 1), up to and including
-- (totalled_hour, totalled_series_id): what is folded into series_total is folded into these, and late records are
-- added to all of them.
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

INSERT INTO rollup_day
SELECT hour / 24, series_id, sum(requests), sum(errors), sum(input_tokens), sum(output_tokens), sum(cache_read_tokens),
       sum(cache_write_tokens), sum(reasoning_tokens), sum(cost_usd) + sum(cost_nano) / 1000000000,
       sum(cost_nano) % 1000000000, sum(unpriced), sum(unrated), sum(latency_ms), sum(timed)
FROM rollup
WHERE (hour, series_id) <= (SELECT totalled_hour, totalled_series_id FROM ledger_state)
GROUP BY 1, 2;

INSERT INTO rollup_month
SELECT strftime('%Y', day * 86400, 'unixepoch') * 12 + strftime('%m', day * 86400, 'unixepoch') - 1, series_id,
       sum(requests), sum(errors), sum(input_tokens), sum(output_tokens), sum(cache_read_tokens),
       sum(cache_write_tokens), sum(reasoning_tokens), sum(cost_usd) + sum(cost_nano) / 1000000000,
       sum(cost_nano) % 1000000000, sum(unpriced), sum(unrated), sum(latency_ms), sum(timed)
FROM rollup_day
GROUP BY 1, 2;

-- Of every so many events: between which moments and of which series they are. The newest events are in none yet.
CREATE TABLE event_block (
  first_seq INTEGER PRIMARY KEY,
  last_seq INTEGER NOT NULL,
  min_ms INTEGER NOT NULL,
  max_ms INTEGER NOT NULL,
  series BLOB                           -- their numbers, 4 bytes each, little-endian; NULL: too many to name
) STRICT;

-- Rollups of this hour and later are all still here: earlier days and months hold more than their hours.
ALTER TABLE ledger_state ADD COLUMN rollups_from_hour INTEGER NOT NULL DEFAULT 0;
