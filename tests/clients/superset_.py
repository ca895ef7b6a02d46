"""Apache Superset without a browser: the requests that its pages send, to the application itself, with its metadata in SQLite."""

import json
import os
import sys
from pathlib import Path

Path("superset_config.py").write_text(f"""
SECRET_KEY = "not a secret, for nobody reaches it"
SQLALCHEMY_DATABASE_URI = "sqlite:///{Path.cwd() / 'superset.db'}"
WTF_CSRF_ENABLED = False
TALISMAN_ENABLED = False
RATELIMIT_ENABLED = False
FEATURE_FLAGS = {{}}
PREVENT_UNSAFE_DB_CONNECTIONS = False
""")
os.environ["SUPERSET_CONFIG_PATH"] = str(Path.cwd() / "superset_config.py")
os.environ["FLASK_APP"] = "superset"

import logging
import warnings

warnings.filterwarnings("ignore")
logging.disable(logging.WARNING)

import psycopg2
from superset.app import create_app

from checks import check, done, same

application = create_app()

import superset
from flask_migrate import upgrade
from superset.extensions import appbuilder

# As `superset db upgrade`, `fab create-admin` and `init` do. What a request remembers must not outlive it, so none is made in here.
with application.app_context():
    upgrade(directory=str(Path(superset.__file__).parent / "migrations"))
    appbuilder.add_permissions(update_perms=True)
    appbuilder.sm.sync_role_definitions()
    appbuilder.sm.add_user("admin", "Ad", "Min", "admin@example.org", appbuilder.sm.find_role("Admin"), password="admin")

client = application.test_client()
token = client.post("/api/v1/security/login", json={"username": "admin", "password": "admin", "provider": "db"}).json["access_token"]
HEADERS = {"Authorization": f"Bearer {token}"}
URI = "postgresql+psycopg2://{PGUSER}@{PGHOST}:{PGPORT}/{PGDATABASE}".format(**os.environ)


def asked(method, path, expected=(200, 201), **more):
    answer = client.open("/api/v1/" + path, method=method, headers=HEADERS, **more)
    assert answer.status_code in expected, f"{answer.status_code}: {answer.get_data(as_text=True)[:600]}"
    return answer.json


class Made:
    """Numbers of what was made so far."""


def chart(**query):
    """The rows of a chart."""
    query = {"columns": [], "metrics": [], "filters": [], "orderby": [], "row_limit": 1000, "time_range": "No filter", **query}
    body = {"datasource": {"id": Made.orders, "type": "table"}, "queries": [query], "result_format": "json", "result_type": "full", "force": True}
    return asked("POST", "chart/data", json=body)["result"][0]


def metric(column, aggregate, label):
    return {"expressionType": "SIMPLE", "column": {"column_name": column}, "aggregate": aggregate, "label": label}


@check("the connection is tested")
def _():
    asked("POST", "database/test_connection/", json={"sqlalchemy_uri": URI, "database_name": "cohort"})


@check("the database is added")
def _():
    Made.database = asked("POST", "database/", json={"sqlalchemy_uri": URI, "database_name": "cohort", "expose_in_sqllab": True, "allow_ctas": True, "allow_dml": True})["id"]


@check("its schemas are listed")
def _():
    found = asked("GET", f"database/{Made.database}/schemas/?q=(force:!t)")["result"]
    assert {"public", "clients"} <= set(found), found


@check("tables and views of a schema are listed")
def _():
    found = asked("GET", f"database/{Made.database}/tables/?q=(force:!t,schema_name:clients)")["result"]
    same({(table["value"], table["type"]) for table in found}, {("people", "table"), ("active_people", "view")})


@check("a table's columns, keys, indexes and comment are shown")
def _():
    found = asked("GET", f"database/{Made.database}/table_metadata/?name=people&schema=clients")
    types = {column["name"]: column["type"] for column in found["columns"]}
    same((types["id"], types["name"], types["spent"], types["seen"]), ("BIGINT", "TEXT", "NUMERIC", "TIMESTAMP"))
    same((found["comment"], found["indexes"]), ("those who buy", []))
    assert found["selectStar"].startswith("SELECT"), found


@check("a view's definition is shown")
def _():
    found = asked("GET", f"database/{Made.database}/table_metadata/?name=active_people&schema=clients")
    same([column["name"] for column in found["columns"]], ["id", "name"])


@check("SQL Lab runs a query")
def _():
    found = asked("POST", "sqllab/execute/", json={"database_id": Made.database, "sql": "SELECT id, name, spent, seen, tags FROM clients.people ORDER BY id", "schema": "clients", "runAsync": False, "queryLimit": 100})
    same([row["name"] for row in found["data"]], ["Ann", "Bob", "O'Neil"])
    same([column["type"] for column in found["columns"]][:2], ["BIGINT", "STRING"] if found["columns"][0]["type"] == "BIGINT" else ["LONGINTEGER", "STRING"])


@check("SQL Lab runs several statements, and the last one answers")
def _():
    found = asked("POST", "sqllab/execute/", json={"database_id": Made.database, "sql": "SET statement_timeout = 60000; SELECT count(*) FROM orders", "runAsync": False})
    assert found["data"][0]["count"] > 0, found


@check("SQL Lab says what is wrong with a query, and where")
def _():
    found = asked("POST", "sqllab/execute/", expected=(400, 422, 500), json={"database_id": Made.database, "sql": "SELECT nam FROM clients.people", "runAsync": False})
    error = found["errors"][0]
    same(error["error_type"], "COLUMN_DOES_NOT_EXIST_ERROR")
    found = asked("POST", "sqllab/execute/", expected=(400, 422, 500), json={"database_id": Made.database, "sql": "SELECT 1 FROM nowhere", "runAsync": False})
    assert 'relation "nowhere" does not exist' in found["errors"][0]["message"], found


@check("SQL Lab makes a table of a query")
def _():
    asked("POST", "sqllab/execute/", json={"database_id": Made.database, "sql": "SELECT name FROM clients.people", "schema": "clients", "select_as_cta": True, "ctas_method": "TABLE", "tmp_table_name": "made_by_superset", "runAsync": False})
    found = asked("POST", "sqllab/execute/", json={"database_id": Made.database, "sql": "SELECT count(*) AS n FROM clients.made_by_superset", "runAsync": False})
    same(found["data"], [{"n": 3}])
    asked("POST", "sqllab/execute/", json={"database_id": Made.database, "sql": "DROP TABLE clients.made_by_superset", "runAsync": False})


@check("a query is formatted")
def _():
    asked("POST", "sqllab/format_sql/", json={"sql": "select 1"})


@check("a dataset is made of a table, its times told from its numbers")
def _():
    Made.orders = asked("POST", "dataset/", json={"database": Made.database, "schema": "public", "table_name": "orders"})["id"]
    found = asked("GET", f"dataset/{Made.orders}")["result"]
    kinds = {column["column_name"]: (column["is_dttm"], column["type_generic"]) for column in found["columns"]}
    same(kinds["order_ts"], (True, 2))
    same(kinds["amount"][1], 0)


@check("a dataset is made of a query")
def _():
    Made.query = asked("POST", "dataset/", json={"database": Made.database, "schema": "public", "table_name": "by_customer", "sql": "SELECT customer_id, sum(amount) AS spent FROM orders GROUP BY customer_id"})["id"]
    found = asked("GET", f"dataset/{Made.query}")["result"]
    same([column["column_name"] for column in found["columns"]], ["customer_id", "spent"])


@check("a dataset is refreshed")
def _():
    asked("PUT", f"dataset/{Made.orders}/refresh")


@check("a chart of one number")
def _():
    found = chart(metrics=[metric("amount", "SUM", "spent"), metric("customer_id", "COUNT_DISTINCT", "customers")])
    row = found["data"][0]
    assert row["spent"] > 0 and row["customers"] > 0, found


@check("a chart by month, week and day")
def _():
    for grain in ["P1M", "P1W", "P1D", "P3M", "P1Y", "PT1H"]:
        found = chart(columns=[{"columnType": "BASE_AXIS", "sqlExpression": "order_ts", "label": "order_ts", "expressionType": "SQL", "timeGrain": grain}], metrics=[metric("amount", "SUM", "spent")], extras={"time_grain_sqla": grain})
        assert found["rowcount"] > 1, (grain, found.get("error"))


@check("a chart by groups, with filters, an order and a limit")
def _():
    found = chart(columns=["customer_id"], metrics=[metric("amount", "AVG", "mean")], orderby=[[metric("amount", "AVG", "mean"), False]], row_limit=5,
                  filters=[{"col": "amount", "op": ">", "val": 1}, {"col": "customer_id", "op": "IN", "val": list(range(1, 500))}, {"col": "order_ts", "op": "TEMPORAL_RANGE", "val": "2000-01-01 : 2100-01-01"}])
    means = [row["mean"] for row in found["data"]]
    assert len(means) == 5 and means == sorted(means, reverse=True), found


@check("a chart with the rest of its groups as one, and a share of the whole")
def _():
    found = chart(columns=["customer_id"], metrics=[metric("amount", "SUM", "spent")], series_columns=["customer_id"], series_limit=3, series_limit_metric=metric("amount", "SUM", "spent"), row_limit=50,
                  post_processing=[{"operation": "contribution", "options": {"orientation": "column", "columns": ["spent"], "rename_columns": ["share"]}}])
    assert abs(sum(row["share"] for row in found["data"]) - 1) < 1e-6, found


@check("a table of rows, and how many there are")
def _():
    found = chart(columns=["customer_id", "order_ts", "amount"], row_limit=20, orderby=[["order_ts", True]])
    same(found["rowcount"], 20)
    found = chart(columns=["customer_id", "amount"], is_rowcount=True)
    assert found["data"][0]["rowcount"] > 20, found


@check("a metric written in SQL")
def _():
    found = chart(metrics=[{"expressionType": "SQL", "sqlExpression": "percentile_cont(0.5) WITHIN GROUP (ORDER BY amount)", "label": "median"}])
    assert found["data"][0]["median"] > 0, found


@check("values for a filter of a dashboard")
def _():
    found = asked("GET", f"datasource/table/{Made.orders}/column/customer_id/values/")["result"]
    assert len(found) > 10, found


# SQL Lab does not commit what it does not know, CREATE MODEL among it. And a PostgreSQL has no models.
with psycopg2.connect("") as connection, connection.cursor() as cursor:
    cursor.execute("SELECT count(*) FROM pg_proc WHERE proname = 'recommend'")
    has_models = cursor.fetchone()[0] > 0
    if has_models:
        cursor.execute("CREATE OR REPLACE MODEL clients.taste OPTIONS (model_type = 'popularity') AS SELECT customer_id, product_id FROM interactions")

if has_models:
    @check("a model is asked in SQL Lab, and a dataset is made of its answers")
    def _():
        sql = "SELECT * FROM recommend('clients.taste', 1, k => 3)"
        same(len(asked("POST", "sqllab/execute/", json={"database_id": Made.database, "sql": sql, "runAsync": False})["data"]), 3)
        made = asked("POST", "dataset/", json={"database": Made.database, "schema": "public", "table_name": "shown", "sql": sql})["id"]
        same(len(asked("GET", f"dataset/{made}")["result"]["columns"]), 5)


done()
