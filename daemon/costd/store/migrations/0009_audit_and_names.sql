-- When a key got the name it has; NULL: with it, when it was made.
ALTER TABLE api_key ADD COLUMN renamed_ms INTEGER;

-- The audit trail is read by organization, newest first: the rowid, which every index ends with, is its order.
CREATE INDEX audit_by_org ON audit (org_id);
