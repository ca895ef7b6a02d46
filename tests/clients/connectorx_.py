"""connectorx: data frames by its three protocols, and queries in parts."""

import os

import connectorx as cx

from checks import check, done, same

URI = "postgresql://{PGUSER}@{PGHOST}:{PGPORT}/{PGDATABASE}".format(**os.environ)


@check("a query becomes a data frame, by each protocol")
def _():
    for protocol in ["binary", "csv", "cursor"]:
        frame = cx.read_sql(URI, "SELECT id, name, small, whole, ratio, score, spent, active, born, seen FROM clients.people ORDER BY id", protocol=protocol)
        same(frame["name"].tolist(), ["Ann", "Bob", "O'Neil"])
        same(frame["score"].tolist()[:2], [1.25, 2.25])
        assert str(frame["seen"].dtype).startswith("datetime64"), frame.dtypes
        assert frame["score"].isna()[2], frame


@check("a query becomes an Arrow table")
def _():
    found = cx.read_sql(URI, "SELECT id, name, joined, data FROM clients.people ORDER BY id", return_type="arrow")
    same(found.num_rows, 3)
    same(found["id"].to_pylist(), [1, 2, 3])


@check("a query is split by a column, and its parts are read at once")
def _():
    frame = cx.read_sql(URI, "SELECT customer_id, amount FROM orders", partition_on="customer_id", partition_num=4)
    count = cx.read_sql(URI, "SELECT count(*) AS n FROM orders")
    same(len(frame), int(count["n"][0]))


@check("several queries at once are one data frame")
def _():
    same(len(cx.read_sql(URI, ["SELECT id FROM clients.people WHERE id < 3", "SELECT id FROM clients.people WHERE id = 3"])), 3)


@check("a query that finds nothing is an empty data frame")
def _():
    frame = cx.read_sql(URI, "SELECT id, name FROM clients.people WHERE id > 100")
    same((len(frame), list(frame.columns)), (0, ["id", "name"]))


@check("a mistake is said")
def _():
    try:
        cx.read_sql(URI, "SELECT nam FROM clients.people")
    except Exception as error:
        assert 'column "nam" does not exist' in str(error), error
    else:
        raise AssertionError("nothing failed")


done()
