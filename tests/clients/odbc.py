"""ODBC: psqlODBC through pyodbc, catalog functions and parameters."""

import os

import pyodbc

from checks import check, done, same

connection = pyodbc.connect(f"DRIVER={os.environ['ODBC_DRIVER']};SERVER={os.environ['PGHOST']};PORT={os.environ['PGPORT']};"
                            f"DATABASE={os.environ['PGDATABASE']};UID={os.environ['PGUSER']};", autocommit=True)


@check("rows and parameters")
def _():
    cursor = connection.cursor()
    row = cursor.execute("SELECT id, name, score, active, born FROM clients.people WHERE id = ? AND name = ?", 1, "Ann").fetchone()
    same((row.id, row.name, row.score, str(row.born)), (1, "Ann", 1.25, "1980-02-29"))


@check("SQLTables")
def _():
    found = {(row.table_schem, row.table_name, row.table_type) for row in connection.cursor().tables(schema="clients")}
    assert {("clients", "people", "TABLE"), ("clients", "active_people", "VIEW")} <= found, found


@check("SQLColumns")
def _():
    found = {row.column_name: row.type_name for row in connection.cursor().columns(schema="clients", table="people")}
    same((found["id"], found["name"], found["spent"]), ("int8", "text", "numeric"))


@check("SQLPrimaryKeys, SQLForeignKeys and SQLStatistics find nothing")
def _():
    same(connection.cursor().primaryKeys("people", schema="clients").fetchall(), [])
    same(connection.cursor().foreignKeys("people", schema="clients").fetchall(), [])
    assert len(connection.cursor().statistics("people", schema="clients").fetchall()) <= 1


@check("SQLGetTypeInfo, SQLProcedures")
def _():
    assert len(connection.cursor().getTypeInfo().fetchall()) > 5
    connection.cursor().procedures().fetchall()


done()
