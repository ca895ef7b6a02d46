"""dbt: a project with a view, a table, an incremental-free model chain, a test, and a second run over the first."""

import os
import subprocess
import sys
from pathlib import Path

from checks import check, done, same

FILES = {
    "dbt_project.yml": "name: shop\nversion: '1.0'\nprofile: shop\nmodels:\n  shop:\n    +materialized: table\n",
    "profiles.yml": """shop:
  target: it
  outputs:
    it: {type: postgres, host: "%(PGHOST)s", port: %(PGPORT)s, user: "%(PGUSER)s", password: "", dbname: "%(PGDATABASE)s", schema: dbt_shop, threads: 2}
""" % os.environ,
    "models/active.sql": "{{ config(materialized='view') }} SELECT id, name, spent FROM clients.people WHERE active",
    "models/totals.sql": "SELECT count(*) AS people, sum(spent) AS spent FROM {{ ref('active') }}",
    "models/schema.yml": "version: 2\nmodels:\n  - name: active\n    description: those who buy\n    columns:\n      - name: id\n        data_tests: [unique, not_null]\n",
}
for name, text in FILES.items():
    Path(name).parent.mkdir(exist_ok=True)
    Path(name).write_text(text)


# Modules of this folder are none of dbt's business.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


def dbt(*command):
    ran = subprocess.run([Path(sys.executable).parent / "dbt", "--no-use-colors", *command, "--profiles-dir", "."], text=True, capture_output=True,
                         env={**ENVIRONMENT, "DBT_SEND_ANONYMOUS_USAGE_STATS": "false"})
    assert ran.returncode == 0, ran.stdout[-1500:]
    return ran.stdout


@check("dbt debug connects")
def _():
    assert "All checks passed" in dbt("debug")


@check("dbt run makes a view and a table")
def _():
    assert "PASS=2" in dbt("run")
    found = subprocess.run(["psql", "-XAtc", "SELECT people, spent FROM dbt_shop.totals"], text=True, capture_output=True)
    same(found.stdout.strip(), "1|12.50")


@check("dbt run again replaces them")
def _():
    assert "PASS=2" in dbt("run")


@check("dbt test")
def _():
    assert "PASS=2" in dbt("test")


@check("dbt docs generate reads the catalog")
def _():
    dbt("docs", "generate")
    assert '"dbt_shop"' in Path("target/catalog.json").read_text()


done()
