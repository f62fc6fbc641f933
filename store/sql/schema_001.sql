-- The first schema. Wear decides its shape: what an adapter waits for is one row at the right-hand end of one b-tree.

-- The one row that is the hub: the epoch that numbers belong to.
CREATE TABLE hub (id INTEGER PRIMARY KEY CHECK (id = 1), epoch INTEGER NOT NULL, boot INTEGER NOT NULL);

-- UTC milliseconds = monotonic milliseconds + offset_ms of the boot in which they were taken.
CREATE TABLE boots (boot INTEGER PRIMARY KEY, offset_ms INTEGER NOT NULL, trusted INTEGER NOT NULL);

-- Small numbers for what would otherwise be repeated in each log row.
CREATE TABLE series (id INTEGER PRIMARY KEY, client_id TEXT NOT NULL, quantity TEXT NOT NULL, exponent INTEGER NOT NULL);
CREATE TABLE client (id INTEGER PRIMARY KEY, client_id TEXT NOT NULL);

-- One row a commit: store/logbody.py says what a body is. marks: delivery marks that ride along, else NULL.
CREATE TABLE log (
  seq INTEGER PRIMARY KEY,
  boot INTEGER NOT NULL,
  mono_ms INTEGER NOT NULL,
  samples INTEGER NOT NULL,
  body BLOB NOT NULL,
  marks BLOB
);

-- What is sealed, a table a lane: id = epoch * 2^31 + number, so that each only ever grows at its end and needs no
-- index. upto_seq and upto_index: the first sample of the log that this pack, and those before it, do not hold.
CREATE TABLE sealed_readings (
  id INTEGER PRIMARY KEY,
  t_ms INTEGER NOT NULL,
  crc INTEGER NOT NULL,
  body BLOB NOT NULL,
  from_ms INTEGER,
  to_ms INTEGER,
  upto_seq INTEGER,
  upto_index INTEGER
);
CREATE TABLE sealed_events (id INTEGER PRIMARY KEY, t_ms INTEGER NOT NULL, crc INTEGER NOT NULL, body BLOB NOT NULL);
CREATE TABLE sealed_receipts (id INTEGER PRIMARY KEY, t_ms INTEGER NOT NULL, crc INTEGER NOT NULL, body BLOB NOT NULL);
CREATE TABLE sealed_answers (id INTEGER PRIMARY KEY, t_ms INTEGER NOT NULL, crc INTEGER NOT NULL, body BLOB NOT NULL);

-- Positions and totals as they were at the last pruning; newer marks are in the log.
CREATE TABLE mark (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;

-- The gateway's state, as in hub/core/records.py. Without rowid: one b-tree, so one page a change.
CREATE TABLE session (
  client_id TEXT PRIMARY KEY,
  peer BLOB NOT NULL,
  state TEXT NOT NULL,
  clean_session INTEGER NOT NULL,
  duration_s INTEGER NOT NULL,
  will_topic TEXT NOT NULL,
  will_message BLOB NOT NULL,
  will_qos INTEGER NOT NULL,
  will_retain INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE topic (
  client_id TEXT NOT NULL,
  topic_id INTEGER NOT NULL,
  topic_name TEXT NOT NULL,
  PRIMARY KEY (client_id, topic_id)
) WITHOUT ROWID;
CREATE TABLE subscription (
  client_id TEXT NOT NULL,
  topic_filter TEXT NOT NULL,
  qos INTEGER NOT NULL,
  PRIMARY KEY (client_id, topic_filter)
) WITHOUT ROWID;
CREATE TABLE retained (topic TEXT PRIMARY KEY, payload BLOB NOT NULL, qos INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE inbox (
  client_id TEXT NOT NULL,
  seq INTEGER NOT NULL,
  topic TEXT NOT NULL,
  payload BLOB NOT NULL,
  qos INTEGER NOT NULL,
  retain INTEGER NOT NULL,
  PRIMARY KEY (client_id, seq)
) WITHOUT ROWID;

-- Raw forwards, until the broker has them.
CREATE TABLE forward (id INTEGER PRIMARY KEY, topic TEXT NOT NULL, payload BLOB NOT NULL);
