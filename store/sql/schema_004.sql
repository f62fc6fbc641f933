-- Which series a run of 1,024 packs holds (bucket = id of the pack / 1024): a search opens no other packs. A row a series and
-- run, at the right-hand end of one b-tree.
CREATE TABLE present (
  bucket INTEGER NOT NULL,
  client_id TEXT NOT NULL,
  quantity TEXT NOT NULL,
  PRIMARY KEY (bucket, client_id, quantity)
) WITHOUT ROWID;
-- Packs up to this one were sealed before there was such a table, or salvaged: they are always opened.
CREATE TABLE present_since (id INTEGER NOT NULL);
INSERT INTO present_since (id) SELECT ifnull(max(id), 0) FROM sealed_readings;
