"""Recorded queries of tools that cannot be run here: each must be answered, and some of the answers are known.

A file of `recorded/` holds the queries of one tool. After a query `-- has: TEXT` says that a line of its answer begins
with, or contains, that text, and `-- rows: N` how many there are.
"""

import re
import subprocess
from pathlib import Path

from checks import check, done

for file in sorted((Path(__file__).parent / "recorded").glob("*.sql")):
    # Comments in front are about the file.
    pieces = re.split(r";\n", file.read_text() + "\n")
    for at, piece in enumerate(pieces):
        following = pieces[at + 1] if at + 1 < len(pieces) else ""
        expected = re.findall(r"^-- (has|rows): (.*)$", following.split("\nS", 1)[0].split("\ns", 1)[0], re.M)
        sql = "\n".join(line for line in piece.splitlines() if not line.startswith("--")).strip()
        if not sql:
            continue

        @check(f"{file.stem}: {' '.join(sql.split())[:90]}")
        def _():
            ran = subprocess.run(["psql", "-XAt", "-c", sql], text=True, capture_output=True)
            assert ran.returncode == 0, ran.stderr
            lines = ran.stdout.splitlines()
            for kind, text in expected:
                if kind == "rows":
                    assert len(lines) == int(text), f"{len(lines)} rows"
                else:
                    assert any(text in line for line in lines), f"no line has {text!r}: {lines[:8]}"

done()
