-- name: log_add
-- Take one group of batches into custody.
INSERT INTO log (seq, boot, mono_ms, samples, body, marks) VALUES (?, ?, ?, ?, ?, ?);

-- name: log_ends
-- The oldest and newest row, to go on numbering after it.
SELECT (SELECT min(seq) FROM log), (SELECT max(seq) FROM log);

-- name: log_from
-- Rows from a sequence number on, in order: for sealing, for restoring and for queries.
SELECT seq, boot, mono_ms, samples, body FROM log WHERE seq >= ? ORDER BY seq;

-- name: log_from_some
-- A slice of rows from a sequence number on, for queries that must not keep the writer.
SELECT seq, boot, mono_ms, samples, body FROM log WHERE seq >= ? AND seq < ? ORDER BY seq LIMIT 200;

-- name: log_backward
-- Rows newest first, to find where the duplicate window starts.
SELECT seq, boot, mono_ms FROM log ORDER BY seq DESC;

-- name: log_marks
-- The newest delivery marks that rode along.
SELECT marks FROM log WHERE marks IS NOT NULL ORDER BY seq DESC LIMIT 1;

-- name: log_count
-- How many samples the rows from a sequence number on hold.
SELECT coalesce(sum(samples), 0) FROM log WHERE seq >= ?;

-- name: log_count_before
-- How many samples the rows about to be pruned hold.
SELECT coalesce(sum(samples), 0) FROM log WHERE seq < ?;

-- name: log_sampled_from
-- When the oldest samples from a sequence number on were taken: by which clock, and when.
SELECT boot, mono_ms FROM log WHERE seq >= ? AND samples > 0 ORDER BY seq LIMIT 1;

-- name: log_span
-- Rows of a span, in order, to be merged or thinned.
SELECT seq, boot, mono_ms, samples, body FROM log WHERE seq >= ? AND seq < ? ORDER BY seq;

-- name: log_span_size
-- How many rows and samples lie in a span, to see whether merging them is worth it.
SELECT count(*), coalesce(sum(samples), 0) FROM log WHERE seq >= ? AND seq < ?;

-- name: log_drop_span
-- Drop the rows that a dense row replaces.
DELETE FROM log WHERE seq BETWEEN ? AND ?;

-- name: log_prune
-- Drop rows that are sealed and older than the duplicate window.
DELETE FROM log WHERE seq < ?;

-- name: series_all
-- The names behind the small numbers in log bodies.
SELECT id, client_id, quantity, exponent FROM series;

-- name: series_add
-- Give a series its small number.
INSERT OR REPLACE INTO series (id, client_id, quantity, exponent) VALUES (?, ?, ?, ?);

-- name: series_drop
-- Forget a series that no log row names any more.
DELETE FROM series WHERE id = ?;

-- name: client_drop
-- Forget a client that no log row names any more.
DELETE FROM client WHERE id = ?;

-- name: series_clear
-- Start numbering afresh while no log row needs the old names.
DELETE FROM series;

-- name: client_all
-- The names behind the small numbers in seen entries.
SELECT id, client_id FROM client;

-- name: client_add
-- Give a client its small number.
INSERT OR REPLACE INTO client (id, client_id) VALUES (?, ?);

-- name: client_clear
-- Start numbering afresh while no log row needs the old names.
DELETE FROM client;
