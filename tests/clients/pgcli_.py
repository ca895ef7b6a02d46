"""pgcli: what it reads of the catalog to complete names, by its own code."""

import os

from pgcli.pgexecute import PGExecute

from checks import check, done, same

pg = PGExecute(database=os.environ["PGDATABASE"], user=os.environ["PGUSER"], host=os.environ["PGHOST"], port=os.environ["PGPORT"], password="", dsn="")


@check("schemas, tables, views and columns")
def _():
    assert {"clients", "public"} <= set(pg.schemata())
    assert ("clients", "people") in set(pg.tables())
    assert ("clients", "active_people") in set(pg.views())
    columns = {(column[2], column[3]) for column in pg.table_columns() if column[:2] == ("clients", "people")}
    assert {("id", "bigint"), ("spent", "numeric"), ("tags", "text[]")} <= columns, columns
    assert ("clients", "active_people", "id") in {column[:3] for column in pg.view_columns()}


@check("databases, search path, types, keys and functions")
def _():
    assert os.environ["PGDATABASE"] in pg.databases()
    assert "public" in pg.search_path()
    list(pg.datatypes())
    same(list(pg.foreignkeys()), [])
    assert len(list(pg.functions())) >= 0


@check("a statement, its status and its columns")
def _():
    title, rows, headers, status, sql, success, is_special = next(iter(pg.run("SELECT id, name FROM clients.people WHERE id = 1")))
    same((list(rows), headers, success), ([(1, "Ann")], ["id", "name"], True))


@check("the definition of a view")
def _():
    assert "active" in pg.view_definition("clients.active_people")


done()
