-- Reads of a database that may be damaged: each table on its own, forward and (by an appended DESC) backward, so that
-- what lies on either side of a bad page is found.

-- name: salvage_boots
-- Clocks of boots.
SELECT boot, offset_ms, trusted FROM boots ORDER BY rowid;

-- name: salvage_series
-- Names of series.
SELECT id, client_id, quantity, exponent FROM series ORDER BY rowid;

-- name: salvage_client
-- Names of clients.
SELECT id, client_id FROM client ORDER BY rowid;

-- name: salvage_mark
-- Positions and totals.
SELECT name, value FROM mark ORDER BY name;

-- name: salvage_log
-- Samples and seen entries.
SELECT seq, boot, mono_ms, samples, body, marks FROM log ORDER BY rowid;

-- name: salvage_packs
-- Sealed packs.
SELECT id, t_ms, crc, body, from_ms, to_ms, upto_seq, upto_index FROM sealed_readings ORDER BY rowid;

-- name: salvage_sealed
-- Other sealed messages.
SELECT id, t_ms, crc, body FROM sealed_{lane} ORDER BY rowid;

-- name: salvage_session
-- Sessions.
SELECT client_id, peer, state, clean_session, duration_s, will_topic, will_message, will_qos, will_retain, v2_state
FROM session
ORDER BY client_id;

-- name: salvage_session_1
-- Sessions of the first schema.
SELECT client_id, peer, state, clean_session, duration_s, will_topic, will_message, will_qos, will_retain, ''
FROM session
ORDER BY client_id;

-- name: salvage_topic
-- Topic ids.
SELECT client_id, topic_id, topic_name FROM topic ORDER BY client_id;

-- name: salvage_subscription
-- Subscriptions.
SELECT client_id, topic_filter, qos FROM subscription ORDER BY client_id;

-- name: salvage_retained
-- Retained messages.
SELECT topic, payload, qos FROM retained ORDER BY topic;

-- name: salvage_inbox
-- Waiting messages.
SELECT client_id, seq, topic, payload, qos, retain FROM inbox ORDER BY client_id;

-- name: salvage_forward
-- Raw forwards.
SELECT id, topic, payload FROM forward ORDER BY rowid;

-- name: log_put_back
-- Put a salvaged row of the log into the new database.
INSERT OR IGNORE INTO log (seq, boot, mono_ms, samples, body) VALUES (?, ?, ?, ?, ?);

-- name: sealed_put_back
-- Put a salvaged message into the new database.
INSERT OR IGNORE INTO sealed_{lane} (id, t_ms, crc, body) VALUES (?, ?, ?, ?);

-- name: pack_put_back
-- Put a salvaged pack into the new database.
INSERT OR IGNORE INTO sealed_readings (id, t_ms, crc, body, from_ms, to_ms, upto_seq, upto_index)
VALUES (?, ?, ?, ?, ?, ?, ?, ?);
