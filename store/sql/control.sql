-- name: control_put
-- Keep one item of control's state.
INSERT OR REPLACE INTO control (name, value) VALUES (?, ?);

-- name: control_drop
-- Forget one item of control's state.
DELETE FROM control WHERE name = ?;

-- name: control_all
-- Everything that control kept, for a restart.
SELECT name, value FROM control ORDER BY name;

-- name: salvage_control
-- Control's state out of a database that may be damaged.
SELECT name, value FROM control ORDER BY name;

-- name: control_one
-- One item of control's state.
SELECT value FROM control WHERE name = ?;
