"""pg8000: a driver in pure Python."""

import datetime as dt
import decimal
import os

import pg8000.dbapi
import pg8000.native

from checks import check, done, same

address = {"user": os.environ["PGUSER"], "host": os.environ["PGHOST"], "port": int(os.environ["PGPORT"]), "database": os.environ["PGDATABASE"]}


@check("a row of every type")
def _():
    connection = pg8000.native.Connection(**address)
    row = connection.run("SELECT id, name, small, whole, ratio, score, spent, active, born, wakes, seen, tags, data FROM clients.people WHERE id = :id", id=1)[0]
    same(row, [1, "Ann", 1, 10, 0.5, 1.25, decimal.Decimal("12.50"), True, dt.date(1980, 2, 29), dt.time(6, 30), dt.datetime(2024, 1, 2, 3, 4, 5), ["a", "b"], b"\x00\x01\xff"])
    same([column["name"] for column in connection.columns][:2], ["id", "name"])
    connection.close()


@check("parameters, blocks and errors")
def _():
    connection = pg8000.dbapi.connect(**address)
    cursor = connection.cursor()
    cursor.execute("SELECT %s::bigint, %s::text, %s::float8, %s::date, %s::bigint[]", (1, "it's", 1.5, dt.date(2024, 2, 29), [1, 2]))
    same(cursor.fetchone(), [1, "it's", 1.5, dt.date(2024, 2, 29), [1, 2]])
    try:
        cursor.execute("SELECT * FROM nowhere")
        raise AssertionError("there is no such table")
    except pg8000.dbapi.DatabaseError as error:
        same(error.args[0]["C"], "42P01")
    connection.rollback()
    connection.close()


done()
