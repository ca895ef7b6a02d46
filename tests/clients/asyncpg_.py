"""asyncpg: binary everywhere, types that it looks up in the catalog, pools that reset what they lend."""

import asyncio
import datetime as dt
import decimal

import asyncpg

from checks import check, done, same


def with_connection(work):
    async def run():
        connection = await asyncpg.connect()
        try:
            return await work(connection)
        finally:
            await connection.close()
    return lambda: asyncio.run(run())


@check("a row of every type")
@with_connection
async def _(connection):
    row = await connection.fetchrow("SELECT * FROM clients.people WHERE id = $1", 1)
    same(tuple(row), (1, "Ann", 1, 10, 0.5, 1.25, decimal.Decimal("12.50"), True, dt.date(1980, 2, 29), dt.time(6, 30),
                      dt.datetime(2024, 1, 2, 3, 4, 5), dt.datetime(2024, 1, 2, 3, 4, 5, tzinfo=dt.timezone.utc), ["a", "b"], b"\x00\x01\xff"))


@check("parameters of every type")
@with_connection
async def _(connection):
    for value, cast in [(1, "bigint"), ("it's", "text"), (1.5, "float8"), (decimal.Decimal("1.25"), "numeric"), (True, "bool"),
                        (dt.date(2024, 2, 29), "date"), (dt.datetime(2024, 1, 1, 12), "timestamp"), (b"\x00\xff", "bytea"),
                        (dt.timedelta(days=1, hours=2), "interval"), (None, "int")]:
        same(await connection.fetchval(f"SELECT $1::{cast}", value), value)


@check("arrays as parameters and as results")
@with_connection
async def _(connection):
    same(await connection.fetchval("SELECT $1::bigint[]", [1, None, 3]), [1, None, 3])
    same(await connection.fetchval("SELECT $1::text[]", ["a", "b"]), ["a", "b"])
    names = await connection.fetch("SELECT name FROM clients.people WHERE id = ANY($1::bigint[]) ORDER BY id", [1, 2])
    same([row["name"] for row in names], ["Ann", "Bob"])
    names = await connection.fetch("SELECT name FROM clients.people WHERE name = ANY($1) ORDER BY id", ["Bob"])
    same([row["name"] for row in names], ["Bob"])


@check("the query by which it looks up types")
@with_connection
async def _(connection):
    types = await connection._introspect_types([1009, 1016, 23], timeout=10)
    found = {row["oid"]: (row["name"], row["kind"], row["elemtype"]) for row in types[0]}
    same(found[1009], ("_text", b"b", 25))
    same(found[1016], ("_int8", b"b", 20))
    same(found[23], ("int4", b"b", 0))


@check("set_type_codec looks a type up by name")
@with_connection
async def _(connection):
    await connection.set_type_codec("numeric", schema="pg_catalog", encoder=str, decoder=float)
    same(await connection.fetchval("SELECT 1.5::numeric"), 1.5)


@check("a pool resets what it lends")
def _():
    async def run():
        async with asyncpg.create_pool(min_size=1, max_size=1) as pool:
            for turn in range(3):
                async with pool.acquire() as connection:
                    same(await connection.fetchval("SHOW application_name"), "")
                    await connection.execute("SET application_name = 'lent'")
                    same(await connection.fetchval("SELECT $1::int", turn), turn)
    asyncio.run(run())


@check("transactions, prepared statements and their columns")
@with_connection
async def _(connection):
    async with connection.transaction():
        prepared = await connection.prepare("SELECT id, tags FROM clients.people WHERE score > $1")
        same([(column.name, column.type.name) for column in prepared.get_attributes()], [("id", "int8"), ("tags", "text[]")])
        same([of.name for of in prepared.get_parameters()], ["float8"])
        same(len(await prepared.fetch(2.0)), 1)


@check("execute() answers with the tag, errors with their class")
@with_connection
async def _(connection):
    await connection.execute("DROP TABLE IF EXISTS clients.asyncpg")
    same(await connection.execute("CREATE TABLE clients.asyncpg (a int)"), "CREATE TABLE")
    same(await connection.execute("INSERT INTO clients.asyncpg VALUES ($1), ($2)", 1, 2), "INSERT 0 2")
    await connection.executemany("INSERT INTO clients.asyncpg VALUES ($1)", [(3,), (4,)])
    same(await connection.fetchval("SELECT count(*) FROM clients.asyncpg"), 4)
    same(await connection.execute("DROP TABLE clients.asyncpg"), "DROP TABLE")
    try:
        await connection.fetch("SELECT * FROM nowhere")
        raise AssertionError("there is no such table")
    except asyncpg.UndefinedTableError:
        pass


done()
