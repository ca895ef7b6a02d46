"""pandas: read_sql and to_sql through SQLAlchemy."""

import pandas as pd
import sqlalchemy as sa

from checks import check, done, same

engine = sa.create_engine("postgresql+psycopg://")


@check("read_sql gives columns with their types")
def _():
    frame = pd.read_sql("SELECT id, name, score, active, seen, joined FROM clients.people ORDER BY id", engine)
    same(len(frame), 3)
    same(str(frame["id"].dtype), "int64")
    same(str(frame["score"].dtype), "float64")
    assert str(frame["seen"].dtype).startswith("datetime64"), frame.dtypes
    same(frame["name"].tolist(), ["Ann", "Bob", "O'Neil"])


@check("read_sql_table finds the table")
def _():
    same(len(pd.read_sql_table("people", engine, schema="clients", columns=["id", "name"])), 3)


@check("read_sql with parameters and in chunks")
def _():
    chunks = list(pd.read_sql(sa.text("SELECT id FROM clients.people WHERE id > :id ORDER BY id"), engine, params={"id": 1}, chunksize=1))
    same([int(chunk["id"].iloc[0]) for chunk in chunks], [2, 3])


@check("to_sql writes, appends and replaces")
def _():
    frame = pd.DataFrame({"a": [1, 2, 3], "b": ["x", None, "z"], "c": [0.5, 1.5, None], "d": pd.to_datetime(["2024-01-01", "2024-01-02", None]), "e": [True, False, True]})
    for how, expected in [("replace", 3), ("append", 6), ("replace", 3)]:
        frame.to_sql("made_by_pandas", engine, schema="clients", if_exists=how, index=False)
        same(int(pd.read_sql("SELECT count(*) AS n FROM clients.made_by_pandas", engine)["n"].iloc[0]), expected)
    back = pd.read_sql("SELECT * FROM clients.made_by_pandas ORDER BY a", engine)
    same(back["c"].tolist()[:2], [0.5, 1.5])
    same(back["d"].iloc[1], pd.Timestamp("2024-01-02"))
    frame.to_sql("made_by_pandas", engine, schema="clients", if_exists="append", index=False, method="multi")
    with engine.begin() as connection:
        connection.execute(sa.text("DROP TABLE clients.made_by_pandas"))


done()
