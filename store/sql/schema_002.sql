-- MQTT-SN 2.0: what a session needs beyond its 1.2 form to be spoken to in 2.0 after a restart; '' for 1.2.
ALTER TABLE session ADD COLUMN v2_state TEXT NOT NULL DEFAULT '';
