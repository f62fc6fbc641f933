-- Beside the tables of hub/headend/book.py, in the same database: what is here is durable with the book or not at all.
-- SQLite's words; hub/headend/postgres.py makes PostgreSQL's of INTEGER PRIMARY KEY, INTEGER, BLOB, REAL, WITHOUT ROWID.

CREATE TABLE IF NOT EXISTS hub (
  hub TEXT PRIMARY KEY,
  source TEXT NOT NULL,              -- who made it known: the station's journal, a folder of certificates
  state TEXT NOT NULL DEFAULT 'never seen',
  state_ms INTEGER NOT NULL DEFAULT 0,  -- when it said so, by its own clock
  broker TEXT NOT NULL DEFAULT '',      -- where it was online last
  version TEXT NOT NULL DEFAULT '',
  boot INTEGER NOT NULL DEFAULT 0,
  epoch INTEGER NOT NULL DEFAULT 0,
  kid TEXT NOT NULL DEFAULT '',      -- of the certificate in use, hex
  not_after_s INTEGER NOT NULL DEFAULT 0,
  seen_ms INTEGER NOT NULL DEFAULT 0,
  faults INTEGER NOT NULL DEFAULT 0, -- messages that were not believed
  fault TEXT NOT NULL DEFAULT ''     -- the last one's
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS hub_group (hub TEXT NOT NULL, name TEXT NOT NULL, PRIMARY KEY (hub, name)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS hub_group_name ON hub_group (name);

CREATE TABLE IF NOT EXISTS series (
  id INTEGER PRIMARY KEY, hub TEXT NOT NULL, client TEXT NOT NULL, quantity TEXT NOT NULL,
  readings INTEGER NOT NULL DEFAULT 0,  -- how many: who looks each second need not count millions of rows
  UNIQUE (hub, client, quantity)
);
-- The value belongs to the key: an adapter may say two things in one millisecond.
CREATE TABLE IF NOT EXISTS reading (
  series INTEGER NOT NULL, t_ms INTEGER NOT NULL, mantissa INTEGER NOT NULL, exponent INTEGER NOT NULL,
  flags INTEGER NOT NULL, PRIMARY KEY (series, t_ms, mantissa, exponent)
) WITHOUT ROWID;
-- Half-hours. A version is never changed: what comes late makes the next one.
CREATE TABLE IF NOT EXISTS interval (
  series INTEGER NOT NULL, start_s INTEGER NOT NULL, version INTEGER NOT NULL,
  energy_mwh INTEGER,                -- NULL: not known
  quality TEXT NOT NULL, made_ms INTEGER NOT NULL, PRIMARY KEY (series, start_s, version)
) WITHOUT ROWID;
-- Where half-hours have to be made anew, since readings came.
CREATE TABLE IF NOT EXISTS unsettled (
  id INTEGER PRIMARY KEY, series INTEGER NOT NULL, from_ms INTEGER NOT NULL, to_ms INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS unsettled_series ON unsettled (series);
CREATE TABLE IF NOT EXISTS exchange (   -- a meter was exchanged: registers of the old and of the new one
  hub TEXT NOT NULL, quantity TEXT NOT NULL, t_ms INTEGER NOT NULL,
  last_mwh INTEGER NOT NULL, first_mwh INTEGER NOT NULL, PRIMARY KEY (hub, quantity, t_ms)
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS event (
  hub TEXT NOT NULL, epoch INTEGER NOT NULL, n INTEGER NOT NULL, t_ms INTEGER NOT NULL, event TEXT NOT NULL,
  fields TEXT NOT NULL, PRIMARY KEY (hub, epoch, n)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS event_time ON event (t_ms);

-- What hubs say is wrong and is not over (alarms.py). epoch, n: of the event or answer that said it last.
CREATE TABLE IF NOT EXISTS alarm (
  hub TEXT NOT NULL, source TEXT NOT NULL, code TEXT NOT NULL, subject TEXT NOT NULL, severity TEXT NOT NULL,
  since_ms INTEGER NOT NULL, epoch INTEGER NOT NULL, n INTEGER NOT NULL, text TEXT NOT NULL,
  PRIMARY KEY (hub, source, code, subject)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS alarm_code ON alarm (code);
CREATE INDEX IF NOT EXISTS alarm_order ON alarm (severity, since_ms DESC);

-- What was asked, by whom; stored before anything of it is sent.
CREATE TABLE IF NOT EXISTS grid_order (
  id TEXT PRIMARY KEY, op TEXT NOT NULL, args TEXT NOT NULL, target TEXT NOT NULL, hubs INTEGER NOT NULL,
  made_ms INTEGER NOT NULL, sent_ms INTEGER NOT NULL DEFAULT 0, valid_s INTEGER NOT NULL, exp_s INTEGER NOT NULL, asked_by TEXT NOT NULL,
  approved_by TEXT NOT NULL DEFAULT '', state TEXT NOT NULL  -- waiting, sent, withdrawn
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS order_message (
  cti BLOB PRIMARY KEY, order_id TEXT NOT NULL, topic TEXT NOT NULL, message BLOB NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS order_hub (
  order_id TEXT NOT NULL, hub TEXT NOT NULL, cti BLOB, status TEXT NOT NULL, reason TEXT NOT NULL DEFAULT '',
  detail TEXT NOT NULL DEFAULT '{}', receipt_epoch INTEGER NOT NULL DEFAULT 0, receipt_i INTEGER NOT NULL DEFAULT 0,
  tries INTEGER NOT NULL DEFAULT 0,
  next_s INTEGER NOT NULL DEFAULT 0, heard_ms INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (order_id, hub)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS order_hub_due ON order_hub (next_s) WHERE status = 'sent';
CREATE INDEX IF NOT EXISTS order_hub_of_hub ON order_hub (hub);

-- An update or a configuration that goes out in waves; each wave is an order.
CREATE TABLE IF NOT EXISTS rollout (
  id TEXT PRIMARY KEY, op TEXT NOT NULL, args TEXT NOT NULL, target TEXT NOT NULL, made_ms INTEGER NOT NULL,
  asked_by TEXT NOT NULL, wave_hubs INTEGER NOT NULL, success_share REAL NOT NULL, error_share REAL NOT NULL,
  valid_s INTEGER NOT NULL, state TEXT NOT NULL,  -- waiting, withdrawn, running, paused, stopped, done
  why TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS rollout_hub (
  rollout_id TEXT NOT NULL, hub TEXT NOT NULL, order_id TEXT NOT NULL DEFAULT '',  -- '': not asked yet
  PRIMARY KEY (rollout_id, hub)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS rollout_hub_order ON rollout_hub (order_id);

-- OpenADR 3 events, each with the orders that it came to.
CREATE TABLE IF NOT EXISTS openadr_event (
  id TEXT PRIMARY KEY, body TEXT NOT NULL, order_ids TEXT NOT NULL, made_ms INTEGER NOT NULL
) WITHOUT ROWID;

-- The chain of receipts of each hub, link by link (design 3.3: prev, i).
CREATE TABLE IF NOT EXISTS receipt (
  hub TEXT NOT NULL, epoch INTEGER NOT NULL, i INTEGER NOT NULL, iat INTEGER NOT NULL, cti BLOB,
  status TEXT NOT NULL, reason TEXT NOT NULL, prev BLOB NOT NULL, hash BLOB NOT NULL,
  heard_ms INTEGER NOT NULL, PRIMARY KEY (hub, epoch, i)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS receipt_cti ON receipt (cti);

-- Packs whose readings are not in the columnar store yet; households that have to be forgotten there.
CREATE TABLE IF NOT EXISTS uncolumned (
  id INTEGER PRIMARY KEY, hub TEXT NOT NULL, epoch INTEGER NOT NULL, lane TEXT NOT NULL, n INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS uncolumned_hub ON uncolumned (hub);
CREATE TABLE IF NOT EXISTS column_erasure (hub TEXT PRIMARY KEY) WITHOUT ROWID;
-- What that store took, and has on no disk perhaps; `start`: when it began, in its own words (columns.py).
CREATE TABLE IF NOT EXISTS column_written (
  id INTEGER PRIMARY KEY, hub TEXT NOT NULL, epoch INTEGER NOT NULL, lane TEXT NOT NULL, n INTEGER NOT NULL,
  written_ms INTEGER NOT NULL, start TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS column_erased (
  hub TEXT PRIMARY KEY, written_ms INTEGER NOT NULL, start TEXT NOT NULL
) WITHOUT ROWID;

-- Workers beside the control point: when each was heard of last, and what it did since it started.
CREATE TABLE IF NOT EXISTS worker (
  name TEXT PRIMARY KEY, beat_ms INTEGER NOT NULL, messages INTEGER NOT NULL, readings INTEGER NOT NULL,
  faults INTEGER NOT NULL, repeats INTEGER NOT NULL, commits INTEGER NOT NULL, failed INTEGER NOT NULL
) WITHOUT ROWID;

-- Who did what: people and their programs.
CREATE TABLE IF NOT EXISTS audit (
  id INTEGER PRIMARY KEY, t_ms INTEGER NOT NULL, client TEXT NOT NULL, action TEXT NOT NULL, detail TEXT NOT NULL
);

-- Every certificate of a hub that became known, by whoever gave it.
CREATE TABLE IF NOT EXISTS hub_certificate (
  issuer TEXT NOT NULL,              -- the authority's key identifier, hex
  serial TEXT NOT NULL,              -- hex
  hub TEXT NOT NULL, kid TEXT NOT NULL, not_before_s INTEGER NOT NULL, not_after_s INTEGER NOT NULL,
  source TEXT NOT NULL,              -- the station's journal, a folder, est, the hub's own word (certificate.renewed)
  made_s INTEGER NOT NULL DEFAULT 0, -- when we made it; 0: somebody else did
  revoked_s INTEGER NOT NULL DEFAULT 0, reason TEXT NOT NULL DEFAULT '', PRIMARY KEY (issuer, serial)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS hub_certificate_hub ON hub_certificate (hub);
CREATE INDEX IF NOT EXISTS hub_certificate_end ON hub_certificate (not_after_s);
-- The revocation list of each authority, as it was made last.
CREATE TABLE IF NOT EXISTS revocation_list (
  issuer TEXT PRIMARY KEY, number INTEGER NOT NULL, next_s INTEGER NOT NULL, digest TEXT NOT NULL, der BLOB NOT NULL
) WITHOUT ROWID;

-- What clients of OpenADR 3 keep here: VENs, their resources, subscriptions; and what subscribers have yet to be told.
CREATE TABLE IF NOT EXISTS openadr_object (
  id TEXT PRIMARY KEY, kind TEXT NOT NULL, name TEXT NOT NULL, parent TEXT NOT NULL DEFAULT '', owner TEXT NOT NULL,
  body TEXT NOT NULL, made_ms INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS openadr_object_name ON openadr_object (kind, name);
CREATE INDEX IF NOT EXISTS openadr_object_parent ON openadr_object (parent);
CREATE TABLE IF NOT EXISTS openadr_order (order_id TEXT PRIMARY KEY, event_id TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS openadr_notice (
  number INTEGER PRIMARY KEY, subscription TEXT NOT NULL, url TEXT NOT NULL, token TEXT NOT NULL, body TEXT NOT NULL,
  tries INTEGER NOT NULL DEFAULT 0, next_s INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS openadr_notice_subscription ON openadr_notice (subscription, number);

-- What was cleared because it was old (clearing.py): how many rows since ever, and from when on everything is here.
CREATE TABLE IF NOT EXISTS cleared (
  what TEXT PRIMARY KEY, rows_gone INTEGER NOT NULL, before_ms INTEGER NOT NULL
) WITHOUT ROWID;
-- How far the walk through the hubs has come (after this one), when it began, and when one ended last.
CREATE TABLE IF NOT EXISTS clearing_walk (
  id INTEGER PRIMARY KEY, hub TEXT NOT NULL, began_ms INTEGER NOT NULL, ended_ms INTEGER NOT NULL
);
