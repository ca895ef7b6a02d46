"""ADBC: Arrow tables out (COPY in binary) and in, parameters, the catalog."""

import datetime
import decimal

import pyarrow as pa
from adbc_driver_postgresql import dbapi

from checks import check, done, same

connection = dbapi.connect("postgresql://", autocommit=True)


def table(sql, parameters=None):
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        return cursor.fetch_arrow_table()


@check("a table comes as Arrow, with its types")
def _():
    found = table("SELECT id, name, small, whole, ratio, score, active, born, seen, joined, tags, data FROM clients.people ORDER BY id")
    types = {field.name: str(field.type) for field in found.schema}
    same([types[name] for name in ["id", "name", "small", "whole", "ratio", "score", "active", "born"]],
         ["int64", "string", "int16", "int32", "float", "double", "bool", "date32[day]"])
    same((types["seen"], types["joined"], types["tags"], types["data"]), ("timestamp[us]", "timestamp[us, tz=UTC]", "list<item: string>", "binary"))
    ann = found.slice(0, 1).to_pylist()[0]
    same((ann["name"], ann["score"], ann["born"], ann["tags"], ann["data"]), ("Ann", 1.25, datetime.date(1980, 2, 29), ["a", "b"], b"\x00\x01\xff"))
    same(found.slice(2, 1).to_pylist()[0]["score"], None)


@check("numerics come as they are written")
def _():
    same([None if value is None else decimal.Decimal(value) for value in table("SELECT spent FROM clients.people ORDER BY id")["spent"].to_pylist()],
         [decimal.Decimal("12.50"), decimal.Decimal("99.99"), None])


@check("many rows come in batches")
def _():
    with connection.cursor() as cursor:
        cursor.execute("SELECT i, i * 0.5::float8 AS x FROM generate_series(1, 300000) AS t(i)")
        reader = cursor.fetch_record_batch()
        same(sum(batch.num_rows for batch in reader), 300_000)


@check("parameters are bound")
def _():
    same(table("SELECT id FROM clients.people WHERE name = $1 AND id > $2", ("Bob", 1))["id"].to_pylist(), [2])


@check("an Arrow table is written, appended to and replaced")
def _():
    data = pa.table({"id": pa.array([1, 2, None], pa.int64()), "label": ["x", "ÿ", None], "at": pa.array([0, 1, None], pa.timestamp("us")), "ok": [True, None, False], "part": pa.array([0.5, None, 1.5], pa.float32())})
    with connection.cursor() as cursor:
        for mode, expected in [("create", 3), ("append", 6), ("replace", 3)]:
            cursor.adbc_ingest("made_by_adbc", data, mode=mode, db_schema_name="clients")
            same(table("SELECT count(*) AS n FROM clients.made_by_adbc")["n"].to_pylist(), [expected])
    same(table("SELECT label FROM clients.made_by_adbc ORDER BY id")["label"].to_pylist(), ["x", "ÿ", None])
    with connection.cursor() as cursor:
        cursor.execute("DROP TABLE clients.made_by_adbc")


@check("executemany writes rows")
def _():
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE clients.many (a BIGINT, b TEXT)")
        cursor.executemany("INSERT INTO clients.many VALUES ($1, $2)", [(1, "x"), (2, "y")])
        cursor.execute("SELECT count(*) FROM clients.many")
        same(cursor.fetchone()[0], 2)
        cursor.execute("DROP TABLE clients.many")


@check("the catalog tells of tables and their columns")
def _():
    objects = connection.adbc_get_objects(depth="all", db_schema_filter="clients").read_all().to_pylist()
    tables = [found for catalog in objects for schema in catalog["catalog_db_schemas"] or [] for found in schema["db_schema_tables"] or []]
    people = next(found for found in tables if found["table_name"] == "people")
    columns = sorted(people["table_columns"], key=lambda column: column["ordinal_position"])
    same([column["column_name"] for column in columns][:3], ["id", "name", "small"])
    same({found["table_name"]: found["table_type"] for found in tables}, {"people": "table", "active_people": "view"})


@check("the schema of a table is told")
def _():
    schema = connection.adbc_get_table_schema("people", db_schema_filter="clients")
    same((schema.field("id").type, schema.field("name").type), (pa.int64(), pa.string()))
    assert "PostgreSQL" in connection.adbc_get_info()["vendor_name"]


@check("a mistake has its SQLSTATE")
def _():
    try:
        table("SELECT 1 / 0")
    except dbapi.Error as error:
        same(error.sqlstate, "22012")
    else:
        raise AssertionError("nothing failed")


@check("a block is rolled back and committed")
def _():
    with dbapi.connect("postgresql://") as block:
        with block.cursor() as cursor:
            cursor.execute("CREATE TABLE clients.undone (a BIGINT)")
            block.rollback()
            cursor.execute("CREATE TABLE clients.kept (a BIGINT)")
            block.commit()
    same(table("SELECT table_name FROM information_schema.tables WHERE table_schema = 'clients' AND table_name IN ('undone', 'kept')")["table_name"].to_pylist(), ["kept"])
    with connection.cursor() as cursor:
        cursor.execute("DROP TABLE clients.kept")


connection.close()
done()
