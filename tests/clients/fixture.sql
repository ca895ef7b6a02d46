-- What the checks look at: a table of every common type, a view over it, comments on both.
DROP SCHEMA IF EXISTS clients CASCADE;
CREATE SCHEMA clients;
CREATE TABLE clients.people (
    id bigint NOT NULL,
    name text NOT NULL,
    small smallint,
    whole integer,
    ratio real,
    score double precision,
    spent numeric(12,2),
    active boolean,
    born date,
    wakes time,
    seen timestamp,
    joined timestamptz,
    tags text[],
    data bytea
);
INSERT INTO clients.people VALUES
    (1, 'Ann', 1, 10, 0.5, 1.25, 12.50, true, '1980-02-29', '06:30:00', '2024-01-02 03:04:05', '2024-01-02 03:04:05+00', ARRAY['a', 'b'], '\x0001ff'),
    (2, 'Bob', 2, 20, 1.5, 2.25, 99.99, false, '1990-12-31', '07:00:00', '2024-06-01 00:00:00', '2024-06-01 00:00:00+00', ARRAY['c'], '\x'),
    (3, 'O''Neil', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
CREATE VIEW clients.active_people AS SELECT id, name FROM clients.people WHERE active;
COMMENT ON TABLE clients.people IS 'those who buy';
COMMENT ON COLUMN clients.people.name IS 'as they write it';
