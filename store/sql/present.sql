-- What series the packs hold, a run of 1,024 of them at a time (schema_004.sql).

-- name: present_add
-- A pack of this run holds this series.
INSERT OR IGNORE INTO present (bucket, client_id, quantity) VALUES (?, ?, ?);

-- name: present_since
-- The last pack of which nothing is written down here.
SELECT id FROM present_since;

-- name: present_since_all
-- Of all packs that are there nothing is written down.
UPDATE present_since SET id = (SELECT ifnull(max(id), 0) FROM sealed_readings);

-- name: present_where
-- The runs that may hold readings of a client, of a quantity, or of both; NULL: of any.
SELECT DISTINCT bucket FROM present WHERE (?1 IS NULL OR client_id = ?1) AND (?2 IS NULL OR quantity = ?2) ORDER BY bucket;

-- name: present_prune
-- Forget runs whose packs are gone.
DELETE FROM present WHERE bucket < ?1 / 1024;
