-- Whose an endpoint is: '' for this ledger's own, 'hub' for a copy of its hub's.
ALTER TABLE proxy_endpoint ADD COLUMN origin TEXT NOT NULL DEFAULT '';
