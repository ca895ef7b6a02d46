"""psycopg 3: types both ways, binary results, transactions, errors."""

import datetime as dt
import decimal

import psycopg
from psycopg.rows import dict_row

from checks import check, done, same


def connect(**more):
    return psycopg.connect("", **more)


@check("a row of every type, as text and as binary")
def _():
    with connect() as connection:
        expected = (1, "Ann", 1, 10, 0.5, 1.25, decimal.Decimal("12.50"), True, dt.date(1980, 2, 29), dt.time(6, 30),
                    dt.datetime(2024, 1, 2, 3, 4, 5), ["a", "b"], b"\x00\x01\xff")
        for binary in (False, True):
            cursor = connection.cursor(binary=binary)
            row = cursor.execute("SELECT id, name, small, whole, ratio, score, spent, active, born, wakes, seen, tags, data "
                                 "FROM clients.people WHERE id = %s", [1]).fetchone()
            same(row, expected)


@check("timestamptz comes with a zone")
def _():
    with connect() as connection:
        joined = connection.execute("SELECT joined FROM clients.people WHERE id = 1").fetchone()[0]
        same(joined, dt.datetime(2024, 1, 2, 3, 4, 5, tzinfo=dt.timezone.utc))


@check("parameters of every type come back as they went")
def _():
    with connect() as connection:
        for value, cast in [(1, "bigint"), ("it's", "text"), (1.5, "float8"), (decimal.Decimal("1.25"), "numeric"), (True, "bool"),
                            (dt.date(2024, 2, 29), "date"), (dt.datetime(2024, 1, 1, 12), "timestamp"), (b"\x00\xff", "bytea"),
                            ([1, 2, 3], "int[]"), (["a", 'b"c', None], "text[]"), (dt.timedelta(days=1, hours=2), "interval"), (None, "text")]:
            same(connection.execute(f"SELECT %s::{cast}", [value]).fetchone()[0], value)


@check("a list with = ANY")
def _():
    with connect() as connection:
        same(connection.execute("SELECT name FROM clients.people WHERE id = ANY(%s) ORDER BY id", [[1, 3]]).fetchall(), [("Ann",), ("O'Neil",)])


@check("columns are described")
def _():
    with connect() as connection:
        cursor = connection.execute("SELECT id, name, spent, count(*) OVER () FROM clients.people")
        same([(column.name, column.type_code) for column in cursor.description], [("id", 20), ("name", 25), ("spent", 1700), ("count", 20)])
        same((cursor.description[2].precision, cursor.description[2].scale), (12, 2))


@check("TypeInfo.fetch finds a type by name")
def _():
    with connect() as connection:
        info = psycopg.types.TypeInfo.fetch(connection, "int4")
        same((info.name, info.oid, info.array_oid), ("int4", 23, 1007))
        same(psycopg.types.TypeInfo.fetch(connection, "no_such_type"), None)


@check("executemany, rowcount and dict rows")
def _():
    with connect(autocommit=True) as connection:
        connection.execute("DROP TABLE IF EXISTS clients.psycopg3")
        connection.execute("CREATE TABLE clients.psycopg3 (a int, b text)")
        with connection.cursor(row_factory=dict_row) as cursor:
            cursor.executemany("INSERT INTO clients.psycopg3 VALUES (%s, %s)", [(1, "x"), (2, "y")])
            same(cursor.rowcount, 2)
            same(cursor.execute("SELECT * FROM clients.psycopg3 ORDER BY a").fetchall(), [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}])
        connection.execute("DROP TABLE clients.psycopg3")


@check("errors are told apart")
def _():
    with connect(autocommit=True) as connection:
        for sql, kind in [("SELEC 1", psycopg.errors.SyntaxError), ("SELECT * FROM nowhere", psycopg.errors.UndefinedTable),
                          ("SELECT nothing FROM clients.people", psycopg.errors.UndefinedColumn), ("SELECT nothing(1)", psycopg.errors.UndefinedFunction),
                          ("SELECT 1/0", psycopg.errors.DivisionByZero), ("SELECT 'x'::int", psycopg.errors.InvalidTextRepresentation),
                          ("SELECT 2147483647 + 1", psycopg.errors.NumericValueOutOfRange)]:
            try:
                connection.execute(sql).fetchall()
                raise AssertionError(f"{sql} passed")
            except kind:
                pass


@check("a failed block is told and rolled back")
def _():
    with connect() as connection:
        try:
            connection.execute("SELECT 1/0")
        except psycopg.errors.DivisionByZero:
            pass
        try:
            connection.execute("SELECT 1")
            raise AssertionError("the block goes on")
        except psycopg.errors.InFailedSqlTransaction:
            pass
        connection.rollback()
        same(connection.execute("SELECT 1").fetchone(), (1,))


@check("pipeline mode")
def _():
    with connect() as connection, connection.pipeline():
        cursors = [connection.execute("SELECT %s::int", [n]) for n in range(5)]
        same([cursor.fetchone()[0] for cursor in cursors], list(range(5)))


done()
