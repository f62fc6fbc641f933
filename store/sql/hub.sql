-- name: hub_get
-- Which epoch and boot this database is in.
SELECT epoch, boot FROM hub WHERE id = 1;

-- name: hub_put
-- Enter an epoch and a boot.
INSERT INTO hub (id, epoch, boot) VALUES (1, ?, ?) ON CONFLICT (id) DO UPDATE SET epoch = excluded.epoch, boot = excluded.boot;

-- name: boots_all
-- The clock of every boot that the log may still refer to.
SELECT boot, offset_ms, trusted FROM boots;

-- name: boot_put
-- Set the clock of one boot.
INSERT INTO boots (boot, offset_ms, trusted) VALUES (?, ?, ?)
ON CONFLICT (boot) DO UPDATE SET offset_ms = excluded.offset_ms, trusted = excluded.trusted;

-- name: boots_prune
-- Forget the clocks of boots that left no row in the log.
DELETE FROM boots WHERE boot < ? AND boot NOT IN (SELECT DISTINCT boot FROM log);

-- name: marks_all
-- Positions and totals as of the last pruning.
SELECT name, value FROM mark;

-- name: mark_put
-- Keep one position or total.
INSERT INTO mark (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value;
