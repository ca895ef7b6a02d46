"""psycopg 2: client-side parameters, types, autocommit, execute_values."""

import datetime as dt
import decimal

import psycopg2
import psycopg2.extensions
import psycopg2.extras

from checks import check, done, same

connection = psycopg2.connect("")
connection.autocommit = True


@check("a row of every type")
def _():
    cursor = connection.cursor()
    cursor.execute("SELECT id, name, small, whole, ratio, score, spent, active, born, wakes, seen, tags, data FROM clients.people WHERE name = %s", ["Ann"])
    row = cursor.fetchone()
    same(row[:-1], (1, "Ann", 1, 10, 0.5, 1.25, decimal.Decimal("12.50"), True, dt.date(1980, 2, 29), dt.time(6, 30),
                    dt.datetime(2024, 1, 2, 3, 4, 5), ["a", "b"]))
    same(bytes(row[-1]), b"\x00\x01\xff")


@check("parameters of every type")
def _():
    cursor = connection.cursor()
    for value in [1, "it's \\ here", 1.5, decimal.Decimal("1.25"), True, dt.date(2024, 2, 29), dt.datetime(2024, 1, 1, 12), [1, 2, 3], ["a", "b"], None]:
        cursor.execute("SELECT %s", [value])
        found = cursor.fetchone()[0]
        same(float(found) if isinstance(value, float) else found, value)
    cursor.execute("SELECT %s", [psycopg2.Binary(b"\x00\xff'\\")])
    same(bytes(cursor.fetchone()[0]), b"\x00\xff'\\")
    cursor.execute("SELECT %s", [dt.timedelta(days=1, hours=2)])
    same(cursor.fetchone()[0], dt.timedelta(days=1, hours=2))
    cursor.execute("SELECT count(*) FROM clients.people WHERE id IN %s", [(1, 2)])
    same(cursor.fetchone()[0], 2)


@check("execute_values, rowcount, DictCursor")
def _():
    cursor = connection.cursor(cursor_factory=psycopg2.extras.RealDictCursor)
    cursor.execute("DROP TABLE IF EXISTS clients.psycopg2")
    cursor.execute("CREATE TABLE clients.psycopg2 (a int, b text)")
    psycopg2.extras.execute_values(cursor, "INSERT INTO clients.psycopg2 (a, b) VALUES %s", [(n, f"row {n}") for n in range(50)])
    same(cursor.rowcount, 50)
    cursor.execute("SELECT sum(a), min(b) FROM clients.psycopg2")
    same(dict(cursor.fetchone()), {"sum": 1225, "min": "row 0"})
    cursor.execute("DROP TABLE clients.psycopg2")


@check("isolation levels, readonly sessions and errors")
def _():
    other = psycopg2.connect("")
    other.set_session(isolation_level="READ COMMITTED", readonly=True)
    cursor = other.cursor()
    cursor.execute("SELECT 1")
    same(cursor.fetchone(), (1,))
    try:
        cursor.execute("SELECT * FROM nowhere")
        raise AssertionError("there is no such table")
    except psycopg2.errors.UndefinedTable as error:
        same((error.pgcode, error.diag.message_primary), ("42P01", 'relation "nowhere" does not exist'))
    same(other.get_transaction_status(), psycopg2.extensions.TRANSACTION_STATUS_INERROR)
    other.rollback()
    other.close()


done()
