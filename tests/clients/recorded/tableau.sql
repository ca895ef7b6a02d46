-- What Tableau sends through psqlODBC and pgjdbc, without its cursors.
SET DateStyle = 'ISO';
SET extra_float_digits = 2;
show transaction_isolation;
select oid, typbasetype from pg_type where typname = 'lo';
-- rows: 0

select relname, nspname, relkind from pg_catalog.pg_class c, pg_catalog.pg_namespace n
where relkind in ('r', 'v', 'm', 'f', 'p') and nspname not in ('pg_catalog', 'information_schema', 'pg_toast', 'pg_temp_1') and n.oid = relnamespace order by nspname, relname;
-- has: people|clients|r

select n.nspname, c.relname, a.attname, a.atttypid, t.typname, a.attnum, a.attlen, a.atttypmod, a.attnotnull, c.relhasrules, c.relkind, c.oid, pg_get_expr(d.adbin, d.adrelid), case t.typtype when 'd' then t.typbasetype else 0 end, t.typtypmod, 0, attidentity, c.relhassubclass
from (((pg_catalog.pg_class c inner join pg_catalog.pg_namespace n on n.oid = c.relnamespace and c.relname like 'people' and n.nspname like 'clients')
  inner join pg_catalog.pg_attribute a on (not a.attisdropped) and a.attnum > 0 and a.attrelid = c.oid)
  inner join pg_catalog.pg_type t on t.oid = a.atttypid) left outer join pg_attrdef d on a.atthasdef and d.adrelid = a.attrelid and d.adnum = a.attnum
order by n.nspname, c.relname, attnum;
-- has: clients|people|spent|1700|numeric|7

select ta.attname, ia.attnum, ic.relname, n.nspname, tc.relname
from pg_catalog.pg_attribute ta, pg_catalog.pg_attribute ia, pg_catalog.pg_class tc, pg_catalog.pg_index i, pg_catalog.pg_namespace n, pg_catalog.pg_class ic
where tc.relname = 'people' AND n.nspname = 'clients' AND tc.oid = i.indrelid AND n.oid = tc.relnamespace AND i.indisprimary = 't' AND ia.attrelid = i.indexrelid AND ta.attrelid = i.indrelid
  AND ta.attnum = i.indkey[ia.attnum-1] AND (NOT ta.attisdropped) AND (NOT ia.attisdropped) AND ic.oid = i.indexrelid order by ia.attnum;
-- rows: 0

select 'cohort'::name as "PKTABLE_CAT", n2.nspname as "PKTABLE_SCHEM", c2.relname as "PKTABLE_NAME", a2.attname as "PKCOLUMN_NAME", n1.nspname as "FKTABLE_SCHEM", c1.relname as "FKTABLE_NAME", a1.attname as "FKCOLUMN_NAME", i::int2 as "KEY_SEQ",
  case ref.confupdtype when 'c' then 0::int2 when 'n' then 2::int2 when 'd' then 4::int2 when 'r' then 1::int2 else 3::int2 end as "UPDATE_RULE", ref.conname as "FK_NAME"
from ((((((((select cn.oid, conrelid, conkey, confrelid, confkey, confupdtype, confdeltype, conname, condeferrable, condeferred, generate_series(array_lower(conkey, 1), array_upper(conkey, 1)) as i
  from pg_catalog.pg_constraint cn, pg_catalog.pg_class c, pg_catalog.pg_namespace n where contype = 'f' and conrelid = c.oid and relname = 'people' and n.oid = c.relnamespace and n.nspname = 'clients') ref
  inner join pg_catalog.pg_class c1 on c1.oid = ref.conrelid) inner join pg_catalog.pg_namespace n1 on n1.oid = c1.relnamespace)
  inner join pg_catalog.pg_attribute a1 on a1.attrelid = c1.oid and a1.attnum = conkey[i]) inner join pg_catalog.pg_class c2 on c2.oid = ref.confrelid)
  inner join pg_catalog.pg_namespace n2 on n2.oid = c2.relnamespace) inner join pg_catalog.pg_attribute a2 on a2.attrelid = c2.oid and a2.attnum = confkey[i]))
order by ref.oid, ref.i;
-- rows: 0

SELECT "people"."active" AS "active", SUM("people"."score") AS "sum:score:ok", COUNT(DISTINCT "people"."name") AS "ctd:name:ok" FROM "clients"."people" "people" WHERE ("people"."active" IS NOT NULL) GROUP BY 1 ORDER BY 1;
-- has: t|1.25|1

SELECT CAST(DATE_TRUNC('QUARTER', CAST("people"."seen" AS TIMESTAMP)) AS DATE) AS "tqr:seen:ok", COUNT(1) AS "cnt" FROM "clients"."people" "people" WHERE ("people"."seen" >= (TIMESTAMP '2024-01-01 00:00:00')) GROUP BY 1 HAVING (COUNT(1) > 0) ORDER BY 1;
-- has: 2024-01-01|1
