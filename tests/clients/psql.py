"""psql and its backslash commands."""

import os
import subprocess

from checks import check, done, same


def psql(command, *more):
    ran = subprocess.run(["psql", "-X", *more, "-c", command], text=True, capture_output=True)
    assert ran.returncode == 0 and "ERROR" not in ran.stderr, ran.stderr
    return ran.stdout


def rows(command):
    return [line.split("|") for line in psql(command, "-At").splitlines()]


@check(r"\dtv lists tables and views")
def _():
    same([row[:3] for row in rows(r"\dtv clients.*")], [["clients", "active_people", "view"], ["clients", "people", "table"]])


@check(r"\dt lists tables with schema, name, type and owner")
def _():
    same([row[:3] for row in rows(r"\dt clients.*")], [["clients", "people", "table"]])


@check(r"\dt+ shows size and comment")
def _():
    row = rows(r"\dt+ clients.people")[0]
    same(row[0:3] + row[-1:], ["clients", "people", "table", "those who buy"])
    assert row[-2].endswith(("bytes", "kB", "MB")), row


@check(r"\dv lists views")
def _():
    same([row[:3] for row in rows(r"\dv clients.*")], [["clients", "active_people", "view"]])


@check(r"\d TABLE shows columns, types and NOT NULL")
def _():
    text = psql(r"\d clients.people")
    assert text.splitlines()[0].strip() == 'Table "clients.people"', text
    shown = {line.split("|")[0].strip(): [part.strip() for part in line.split("|")[1:]]
             for line in text.splitlines() if line.count("|") == 4}
    expected = {"id": "bigint", "name": "text", "small": "smallint", "whole": "integer", "ratio": "real",
                "score": "double precision", "spent": "numeric(12,2)", "active": "boolean", "born": "date",
                "wakes": "time without time zone", "seen": "timestamp without time zone",
                "joined": "timestamp with time zone", "tags": "text[]", "data": "bytea"}
    same({name: shown[name][0] for name in expected}, expected)
    same((shown["id"][2], shown["small"][2]), ("not null", ""))


@check(r"\d+ TABLE shows comments on columns")
def _():
    assert "as they write it" in psql(r"\d+ clients.people")


@check(r"\d+ VIEW shows its definition")
def _():
    text = psql(r"\d+ clients.active_people")
    assert 'View "clients.active_people"' in text and "View definition:" in text and "active" in text, text


@check(r"\dn lists schemas")
def _():
    assert {"clients", "public"} <= {row[0] for row in rows(r"\dn")}


@check(r"\l lists databases")
def _():
    assert os.environ["PGDATABASE"] in {row[0] for row in rows(r"\l")}


for command in [r"\d", r"\du", r"\dp clients.*", r"\z clients.*", r"\dT", r"\dT+ pg_catalog.int4", r"\dx", r"\df", r"\df+ clients.*", r"\df pg_catalog.now",
                r"\dn+", r"\di", r"\ds", r"\dm", r"\dE", r"\dd", r"\dD", r"\dC", r"\do pg_catalog.=", r"\da pg_catalog.sum", r"\dg", r"\db", r"\dL", r"\dO",
                r"\ddp", r"\dy", r"\des", r"\dew", r"\det", r"\dRp", r"\dRs", r"\dS clients.*", r"\dP", r"\sv clients.active_people", r"\dconfig work_mem", r"\encoding", r"\conninfo"]:
    @check(f"{command} answers")
    def _():
        psql(command)


@check(r"\dT pg_catalog.int4 names the type")
def _():
    same(rows(r"\dT pg_catalog.int4")[0][:2], ["pg_catalog", "integer"])


@check("completion of names with the Tab key's queries")
def _():
    found = psql("SELECT c.relname, NULL::pg_catalog.text FROM pg_catalog.pg_class c WHERE c.relkind IN ('r', 'S', 'v', 'm', 'f', 'p') "
                 "AND (c.relname) LIKE 'peo%' AND pg_catalog.pg_table_is_visible(c.oid) LIMIT 1000", "-At")
    assert "people" not in found, "clients is not in the search path"
    found = psql("SELECT n.nspname, NULL::pg_catalog.text FROM pg_catalog.pg_namespace n WHERE (n.nspname) LIKE 'cli%' AND n.nspname NOT LIKE E'pg\\\\_%' LIMIT 1000", "-At")
    same(found.strip(), "clients|")


@check(r"\gdesc describes without running")
def _():
    ran = subprocess.run(["psql", "-XAt"], input="SELECT id, spent FROM clients.people \\gdesc\n", text=True, capture_output=True)
    same(ran.stdout.split(), ["id|bigint", "spent|numeric(12,2)"])


@check("several statements answer one by one")
def _():
    same(psql("SELECT 1; SELECT 2", "-At").split(), ["1", "2"])


@check("an unknown table has Postgres's words and the place of the error")
def _():
    ran = subprocess.run(["psql", "-XAt", "-v", "VERBOSITY=verbose", "-c", "SELECT * FROM nowhere"], text=True, capture_output=True)
    assert 'ERROR:  42P01: relation "nowhere" does not exist' in ran.stderr, ran.stderr
    assert "LINE 1: SELECT * FROM nowhere" in ran.stderr, ran.stderr


done()
