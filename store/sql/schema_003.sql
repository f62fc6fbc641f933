-- Control's state, as in hub/core/control/records.py: counters of operators, answered commands, limits that are not over.
CREATE TABLE control (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
