-- A query with {lane} in it exists once for each lane.

-- name: sealed_add
-- Keep one sealed message for good.
INSERT INTO sealed_{lane} (id, t_ms, crc, body) VALUES (?, ?, ?, ?);

-- name: pack_add
-- Keep one sealed pack, the span of its readings, and how far into the log sealing has come.
INSERT INTO sealed_readings (id, t_ms, crc, body, from_ms, to_ms, upto_seq, upto_index) VALUES (?, ?, ?, ?, ?, ?, ?, ?);

-- name: pack_position
-- How far sealing has come.
SELECT upto_seq, upto_index FROM sealed_readings WHERE upto_seq IS NOT NULL ORDER BY id DESC LIMIT 1;

-- name: sealed_last
-- The newest message of a lane, which pruning leaves: the next number follows from it.
SELECT max(id) FROM sealed_{lane};

-- name: sealed_newest
-- The newest message of a lane, to see whether it is where its number belongs.
SELECT id, t_ms, crc, body FROM sealed_{lane} ORDER BY id DESC LIMIT 1;

-- name: sealed_after
-- Messages beyond an id, in order, for the uplink.
SELECT id, t_ms, crc, body FROM sealed_{lane} WHERE id > ? ORDER BY id LIMIT ?;

-- name: sealed_between
-- Messages of a range, in order, for a resend.
SELECT id, t_ms, crc, body FROM sealed_{lane} WHERE id BETWEEN ? AND ? ORDER BY id;

-- name: sealed_take_back
-- Take messages of a range back, which nobody was sent.
DELETE FROM sealed_{lane} WHERE id BETWEEN ? AND ?;

-- name: sealed_next_id
-- The id that follows, to advance the delivery mark over what is really there.
SELECT min(id) FROM sealed_{lane} WHERE id > ?;

-- name: sealed_count
-- How many messages lie between two ids.
SELECT count(*) FROM sealed_{lane} WHERE id > ? AND id < ?;

-- name: sealed_oldest
-- When the oldest message beyond an id was sealed.
SELECT t_ms FROM sealed_{lane} WHERE id > ? ORDER BY id LIMIT 1;

-- name: pack_oldest
-- When the oldest reading of the oldest pack beyond an id was taken: how long it was waited for counts, not when it was
-- sealed.
SELECT from_ms FROM sealed_readings WHERE id > ? ORDER BY id LIMIT 1;

-- name: sealed_head
-- The oldest message that may be pruned: delivered, and not the newest of its lane.
SELECT id, t_ms FROM sealed_{lane} WHERE id <= ? AND id < (SELECT max(id) FROM sealed_{lane}) ORDER BY id LIMIT 1;

-- name: sealed_prune
-- Drop a slice of the oldest delivered messages that were sealed before a time; which they were.
DELETE FROM sealed_{lane} WHERE id IN (
  SELECT id FROM sealed_{lane}
  WHERE id <= ?1 AND id < (SELECT max(id) FROM sealed_{lane}) AND t_ms <= ?2 ORDER BY id LIMIT ?3
) RETURNING id, t_ms;

-- name: packs_up
-- Packs that overlap a time span, oldest first, in slices.
SELECT id, from_ms, to_ms FROM sealed_readings
WHERE id > ?1 AND id <= ?2 AND to_ms >= ?3 AND from_ms <= ?4 ORDER BY id LIMIT 500;

-- name: packs_down
-- Packs that overlap a time span, newest first, in slices.
SELECT id, from_ms, to_ms FROM sealed_readings
WHERE id > ?1 AND id <= ?2 AND to_ms >= ?3 AND from_ms <= ?4 ORDER BY id DESC LIMIT 500;

-- name: pack_body
-- One pack.
SELECT id, t_ms, crc, body FROM sealed_readings WHERE id = ?;

-- name: events_newest
-- The newest events.
SELECT id, t_ms, crc, body FROM sealed_events ORDER BY id DESC LIMIT ?;
