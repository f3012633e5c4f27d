-- Slugs by which a provider is called without a key of costd's. The id is what its records have for a key.
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
) STRICT;

-- What went through an endpoint that stores bodies, compressed; nothing else of what was said is ever kept.
CREATE TABLE proxied_body (
  event_id BLOB PRIMARY KEY,            -- the record's public id
  org_id INTEGER NOT NULL REFERENCES org (id),
  request BLOB NOT NULL,
  response BLOB NOT NULL,
  expires_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX proxied_body_by_expiry ON proxied_body (expires_ms);

-- Prompts that records named, and which of their versions is meant where a call names none.
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
INSERT INTO prompt (org_id, prompt_key, active_version, created_ms)
  SELECT DISTINCT org_id, prompt_key, '', unixepoch() * 1000 FROM series WHERE prompt_key <> '';
INSERT INTO prompt_version (org_id, prompt_key, version, created_ms)
  SELECT DISTINCT org_id, prompt_key, prompt_version, unixepoch() * 1000 FROM series
  WHERE prompt_key <> '' AND prompt_version <> '';
UPDATE prompt SET active_version = coalesce(
  (SELECT min(v.version) FROM prompt_version v WHERE v.org_id = prompt.org_id AND v.prompt_key = prompt.prompt_key), '');
