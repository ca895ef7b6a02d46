-- What DataGrip and the other JetBrains tools send when they look into a database.
SHOW TRANSACTION ISOLATION LEVEL;
select current_database() as a, current_schemas(false) as b;
-- has: {public}
select version();
select round(extract(epoch from pg_postmaster_start_time() at time zone 'UTC')) as startup_time;
select case when pg_is_in_recovery() then null else (txid_current() % 4294967296)::varchar::bigint end as current_txid;
select name, setting from pg_catalog.pg_settings where name = 'block_size';
-- has: block_size|8192

select N.oid::bigint as id, datname as name, D.description, datistemplate as is_template, datallowconn as allow_connections, pg_catalog.pg_get_userbyid(N.datdba) as "owner"
from pg_catalog.pg_database N left join pg_catalog.pg_shdescription D on N.oid = D.objoid order by case when datname = pg_catalog.current_database() then -1::bigint else N.oid::bigint end;
-- has: cohort

select N.oid::bigint as id, N.xmin as state_number, nspname as name, D.description, pg_catalog.pg_get_userbyid(N.nspowner) as "owner"
from pg_catalog.pg_namespace N left join pg_catalog.pg_description D on N.oid = D.objoid order by case when nspname = pg_catalog.current_schema() then -1::bigint else N.oid::bigint end;
-- has: clients

select T.oid table_id, relnamespace table_schema_id, relkind as table_kind, T.xmin as state_number, relname as table_name, pg_catalog.pg_get_userbyid(T.relowner) as "owner", T.reltablespace, T.relpersistence
from pg_catalog.pg_class T where T.relname = 'people' and relkind in ('r', 'm', 'v', 'f', 'p') order by table_kind, table_id;
-- has: people

with T as (select distinct T.oid as table_id, T.relname as table_name from pg_catalog.pg_class T, pg_catalog.pg_attribute A
  where T.relname = 'people' and T.relkind in ('r', 'm', 'v', 'f', 'p') and A.attrelid = T.oid)
select T.table_id, C.attnum as column_position, C.attname as column_name, C.xmin as column_state_number, C.atttypmod as type_mod, C.attndims as dimensions_number,
  pg_catalog.format_type(C.atttypid, C.atttypmod) as type_spec, C.atttypid as type_id, C.attnotnull as mandatory, pg_catalog.pg_get_expr(D.adbin, T.table_id) as column_default_expression, C.attisdropped as column_is_dropped
from T join pg_catalog.pg_attribute C on T.table_id = C.attrelid left join pg_catalog.pg_attrdef D on (C.attrelid, C.attnum) = (D.adrelid, D.adnum)
where attnum > 0 order by table_id, attnum;
-- has: numeric(12,2)

select D.objoid id, case when 2615 = D.classoid then 's' when 1259 = D.classoid then C.relkind else '?' end as kind, D.objsubid sub_id, D.description
from pg_catalog.pg_description D left join pg_catalog.pg_class C on D.classoid = 'pg_catalog.pg_class'::regclass and D.objoid = C.oid
where D.classoid in ('pg_catalog.pg_class'::regclass, 'pg_catalog.pg_namespace'::regclass) order by D.objoid;
-- has: those who buy

select T.relkind as view_kind, T.oid as view_id, pg_catalog.pg_get_viewdef(T.oid, true) as source_text from pg_catalog.pg_class T join pg_catalog.pg_namespace N on T.relnamespace = N.oid
where N.nspname = 'clients' and T.relkind in ('m', 'v');
-- has: clients.people

select L.transactionid::varchar::bigint as transaction_id from pg_catalog.pg_locks L where L.transactionid is not null order by pg_catalog.age(L.transactionid) desc limit 1;
-- rows: 0
select collname, collnamespace::regnamespace from pg_catalog.pg_collation where collname = 'C';
-- has: C|pg_catalog
select oid, amname, amtype from pg_catalog.pg_am where amname = 'heap';
-- has: 2|heap|t
select oid::bigint, extname, extversion from pg_catalog.pg_extension;
select lan.oid, lan.lanname from pg_catalog.pg_language lan order by lanname;
