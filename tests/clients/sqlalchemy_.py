"""SQLAlchemy: both psycopg drivers, asyncpg's dialect left out; the inspector above all."""

import sqlalchemy as sa

from checks import check, done, same

for driver in ["psycopg", "psycopg2"]:
    engine = sa.create_engine(f"postgresql+{driver}://")

    @check(f"{driver}: the inspector lists schemas, tables and views")
    def _():
        inspector = sa.inspect(engine)
        assert {"clients", "public"} <= set(inspector.get_schema_names()), inspector.get_schema_names()
        assert "information_schema" in inspector.get_schema_names()
        same(inspector.get_table_names(schema="clients"), ["people"])
        same(inspector.get_view_names(schema="clients"), ["active_people"])
        same((inspector.has_table("people", schema="clients"), inspector.has_table("nobody", schema="clients")), (True, False))
        same(inspector.default_schema_name, "public")

    @check(f"{driver}: the inspector gives columns with types, nullability and comments")
    def _():
        columns = {column["name"]: column for column in sa.inspect(engine).get_columns("people", schema="clients")}
        types = {name: str(column["type"]) for name, column in columns.items()}
        same(types, {"id": "BIGINT", "name": "TEXT", "small": "SMALLINT", "whole": "INTEGER", "ratio": "REAL", "score": "DOUBLE PRECISION",
                     "spent": "NUMERIC(12, 2)", "active": "BOOLEAN", "born": "DATE", "wakes": "TIME", "seen": "TIMESTAMP",
                     "joined": "TIMESTAMP", "tags": "TEXT[]" if types["tags"] == "TEXT[]" else "ARRAY", "data": "BYTEA"})
        same(columns["joined"]["type"].timezone, True)
        same((columns["id"]["nullable"], columns["small"]["nullable"]), (False, True))
        same(columns["name"]["comment"], "as they write it")

    @check(f"{driver}: the inspector finds no keys and indexes, a comment and the view's query")
    def _():
        inspector = sa.inspect(engine)
        same(inspector.get_pk_constraint("people", schema="clients")["constrained_columns"], [])
        same(inspector.get_foreign_keys("people", schema="clients"), [])
        same(inspector.get_unique_constraints("people", schema="clients"), [])
        same(inspector.get_check_constraints("people", schema="clients"), [])
        same(inspector.get_indexes("people", schema="clients"), [])
        same(inspector.get_sequence_names(schema="clients"), [])
        same(inspector.get_enums(schema="clients"), [])
        same(inspector.get_table_comment("people", schema="clients"), {"text": "those who buy"})
        assert "active" in inspector.get_view_definition("active_people", schema="clients")

    @check(f"{driver}: reflected tables can be queried")
    def _():
        people = sa.Table("people", sa.MetaData(), schema="clients", autoload_with=engine)
        with engine.connect() as connection:
            query = sa.select(people.c.name, people.c.tags).where(people.c.id.in_([1, 2]), people.c.name.like("A%")).order_by(people.c.id)
            same(connection.execute(query).all(), [("Ann", ["a", "b"])])
            same(connection.scalar(sa.select(sa.func.count()).select_from(people).where(people.c.name.contains("'", autoescape=True))), 1)
            same(connection.scalar(sa.select(sa.extract("year", people.c.seen)).where(people.c.id == 1)), 2024)

    @check(f"{driver}: tables are created, filled, asked and dropped")
    def _():
        metadata = sa.MetaData()
        table = sa.Table(f"made_by_{driver}", metadata, sa.Column("id", sa.BigInteger, nullable=False), sa.Column("name", sa.String(20)),
                         sa.Column("spent", sa.Numeric(12, 2)), sa.Column("at", sa.DateTime(timezone=True)), schema="clients")
        metadata.drop_all(engine)
        metadata.create_all(engine)
        metadata.create_all(engine)
        with engine.begin() as connection:
            connection.execute(table.insert(), [{"id": 1, "name": "a", "spent": "1.50"}, {"id": 2, "name": "b", "spent": None}])
        with engine.connect() as connection:
            same([tuple(row) for row in connection.execute(sa.select(table.c.id, table.c.name).order_by(table.c.id))], [(1, "a"), (2, "b")])
        metadata.drop_all(engine)
        same(sa.inspect(engine).has_table(f"made_by_{driver}", schema="clients"), False)

    @check(f"{driver}: nested transactions")
    def _():
        with engine.begin() as connection:
            try:
                with connection.begin_nested():
                    connection.execute(sa.text("SELECT 1/0"))
            except sa.exc.DBAPIError:
                pass
            same(connection.scalar(sa.text("SELECT 1")), 1)

    engine.dispose()

done()
