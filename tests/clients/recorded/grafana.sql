-- What Grafana's PostgreSQL source sends: the version, its query builder's tables and columns, and panels.
SELECT current_setting('server_version_num')::int/100;
-- has: 00

SELECT quote_ident(table_name) AS "table" FROM information_schema.tables WHERE quote_ident(table_schema) NOT IN ('information_schema', 'pg_catalog') ORDER BY 1;
-- has: people

SELECT CASE WHEN quote_ident(table_schema) IN (
    SELECT CASE WHEN trim(s[i]) = '"$user"' THEN user ELSE trim(s[i]) END
    FROM generate_series(array_lower(string_to_array(current_setting('search_path'), ','), 1), array_upper(string_to_array(current_setting('search_path'), ','), 1)) AS i,
      string_to_array(current_setting('search_path'), ',') s
  ) THEN quote_ident(table_name) ELSE quote_ident(table_schema) || '.' || quote_ident(table_name) END AS "table"
FROM information_schema.tables
WHERE quote_ident(table_schema) NOT IN ('information_schema', 'pg_catalog', '_timescaledb_cache')
ORDER BY CASE WHEN quote_ident(table_schema) IN (
    SELECT CASE WHEN trim(s[i]) = '"$user"' THEN user ELSE trim(s[i]) END
    FROM generate_series(array_lower(string_to_array(current_setting('search_path'), ','), 1), array_upper(string_to_array(current_setting('search_path'), ','), 1)) AS i,
      string_to_array(current_setting('search_path'), ',') s
  ) THEN 0 ELSE 1 END, 1;
-- has: clients.people

SELECT quote_ident(column_name) AS "column", data_type AS "type" FROM information_schema.columns
WHERE CASE WHEN array_length(parse_ident('clients.people'), 1) = 2
  THEN quote_ident(table_schema) = (parse_ident('clients.people'))[1] AND quote_ident(table_name) = (parse_ident('clients.people'))[2]
  ELSE quote_ident(table_name) = 'clients.people' AND quote_ident(table_schema) IN ('public') END;
-- has: seen|timestamp without time zone

SELECT floor(extract(epoch from seen)/86400)*86400 AS "time", avg(score) AS "score" FROM clients.people
WHERE seen BETWEEN '2024-01-01T00:00:00Z' AND '2024-12-31T00:00:00Z' GROUP BY 1 ORDER BY 1;
-- has: 1704153600|1.25

SELECT date_trunc('day', joined) AS time, name AS metric, spent AS value FROM clients.people
WHERE joined >= '2024-01-01T00:00:00Z' AND joined <= '2024-12-31T00:00:00Z' ORDER BY 1, 2;
-- has: 2024-01-02 00:00:00+00|Ann|12.50
