-- name: hub_get
-- Which epoch and boot this database is in.
SELECT epoch, boot FROM hub WHERE id = 1;

-- name: hub_put
-- Enter an epoch and a boot.
INSERT INTO hub (id, epoch, boot) VALUES (1, ?, ?) ON CONFLICT (id) DO UPDATE SET epoch = excluded.epoch, boot = excluded.boot;

-- name: wrong_cell
-- A table, of those read whole at a start, with a cell of the wrong kind: a flipped bit can make a text of a number,
-- which neither SQLite nor its check minds.
SELECT 'hub' FROM hub WHERE typeof(epoch) || typeof(boot) != 'integerinteger' OR epoch NOT BETWEEN 1 AND 4294967295
UNION ALL
SELECT 'boots' FROM boots WHERE typeof(offset_ms) || typeof(trusted) != 'integerinteger'
UNION ALL
SELECT 'series' FROM series
WHERE typeof(client_id) != 'text' OR typeof(quantity) != 'text' OR typeof(exponent) != 'integer'
UNION ALL
SELECT 'client' FROM client WHERE typeof(client_id) != 'text'
UNION ALL
SELECT 'mark' FROM mark WHERE typeof(name) != 'text' OR typeof(value) != 'integer'
UNION ALL
SELECT 'session' FROM session
WHERE typeof(client_id) != 'text' OR typeof(peer) != 'blob' OR typeof(state) != 'text'
  OR typeof(clean_session) != 'integer' OR typeof(duration_s) != 'integer' OR typeof(will_topic) != 'text'
  OR typeof(will_message) != 'blob' OR typeof(will_qos) != 'integer' OR typeof(will_retain) != 'integer'
  OR typeof(v2_state) != 'text'
UNION ALL
SELECT 'topic' FROM topic
WHERE typeof(client_id) != 'text' OR typeof(topic_id) != 'integer' OR typeof(topic_name) != 'text'
UNION ALL
SELECT 'subscription' FROM subscription
WHERE typeof(client_id) != 'text' OR typeof(topic_filter) != 'text' OR typeof(qos) != 'integer'
UNION ALL
SELECT 'retained' FROM retained WHERE typeof(topic) != 'text' OR typeof(payload) != 'blob' OR typeof(qos) != 'integer'
UNION ALL
SELECT 'inbox' FROM inbox
WHERE typeof(client_id) != 'text' OR typeof(seq) != 'integer' OR typeof(topic) != 'text' OR typeof(payload) != 'blob'
  OR typeof(qos) != 'integer' OR typeof(retain) != 'integer'
UNION ALL
SELECT 'forward' FROM forward WHERE typeof(topic) != 'text' OR typeof(payload) != 'blob'
UNION ALL
SELECT 'control' FROM control WHERE typeof(name) != 'text' OR typeof(value) != 'blob'
LIMIT 1;

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

-- name: mark_drop_seen
-- Forget the last publishes of clients that have no session any more.
DELETE FROM mark WHERE name LIKE 'seen:%' AND substr(name, 6) NOT IN (SELECT client_id FROM session);
