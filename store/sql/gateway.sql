-- name: session_put
-- Keep a client's session as it is now.
INSERT OR REPLACE INTO session
  (client_id, peer, state, clean_session, duration_s, will_topic, will_message, will_qos, will_retain, v2_state)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

-- name: session_drop
-- End a session.
DELETE FROM session WHERE client_id = ?;

-- name: session_drop_topics
-- A session's topic ids go with it.
DELETE FROM topic WHERE client_id = ?;

-- name: session_drop_subscriptions
-- A session's subscriptions go with it.
DELETE FROM subscription WHERE client_id = ?;

-- name: session_drop_inbox
-- A session's waiting messages go with it.
DELETE FROM inbox WHERE client_id = ?;

-- name: topic_put
-- Keep a topic id of a client.
INSERT OR REPLACE INTO topic (client_id, topic_id, topic_name) VALUES (?, ?, ?);

-- name: subscription_put
-- Keep a subscription; a new qos replaces the old.
INSERT OR REPLACE INTO subscription (client_id, topic_filter, qos) VALUES (?, ?, ?);

-- name: subscription_drop
-- End a subscription.
DELETE FROM subscription WHERE client_id = ? AND topic_filter = ?;

-- name: retained_put
-- Keep the retained message of a topic.
INSERT OR REPLACE INTO retained (topic, payload, qos) VALUES (?, ?, ?);

-- name: retained_drop
-- Remove the retained message of a topic.
DELETE FROM retained WHERE topic = ?;

-- name: inbox_put
-- Keep a message that waits for a client.
INSERT OR REPLACE INTO inbox (client_id, seq, topic, payload, qos, retain) VALUES (?, ?, ?, ?, ?, ?);

-- name: inbox_drop
-- The message is done with.
DELETE FROM inbox WHERE client_id = ? AND seq = ?;

-- name: forward_put
-- Keep a raw forward until the broker has it.
INSERT OR REPLACE INTO forward (id, topic, payload) VALUES (?, ?, ?);

-- name: forward_from
-- Rows that hold forwards beyond an id, in order: the one that may begin before it first.
SELECT id, topic, payload FROM forward
WHERE id >= coalesce((SELECT max(id) FROM forward WHERE id <= ?), ?) ORDER BY id;

-- name: forward_rows
-- So many rows from an id on.
SELECT id, topic, payload FROM forward WHERE id >= ? ORDER BY id LIMIT ?;

-- name: forward_drop
-- The broker has it.
DELETE FROM forward WHERE id = ?;

-- name: forward_newest
-- The newest row, to go on numbering after it.
SELECT id, topic, payload FROM forward ORDER BY id DESC LIMIT 1;

-- name: sessions_all
-- Every session, for a restart.
SELECT client_id, peer, state, clean_session, duration_s, will_topic, will_message, will_qos, will_retain, v2_state
FROM session
ORDER BY client_id;

-- name: topics_all
-- Every topic id, for a restart.
SELECT client_id, topic_id, topic_name FROM topic ORDER BY client_id, topic_id;

-- name: subscriptions_all
-- Every subscription, for a restart.
SELECT client_id, topic_filter, qos FROM subscription ORDER BY client_id, topic_filter;

-- name: retained_all
-- Every retained message, for a restart.
SELECT topic, payload, qos FROM retained ORDER BY topic;

-- name: inbox_all
-- Every waiting message in the order of its client's queue, for a restart.
SELECT client_id, seq, topic, payload, qos, retain FROM inbox ORDER BY client_id, seq;
