"""pgbench with a SELECT of its own, in all three modes of the protocol."""

import re
import subprocess

from checks import check, done

SCRIPT = "\\set id random(1, 3)\nSELECT name FROM clients.people WHERE id = :id;\n"

for mode in ["simple", "extended", "prepared"]:
    @check(f"100 transactions, four clients, {mode}")
    def _():
        with open("select.sql", "w") as script:
            script.write(SCRIPT)
        ran = subprocess.run(["pgbench", "-n", "-f", "select.sql", "-M", mode, "-c", "4", "-j", "2", "-t", "25"],
                             text=True, capture_output=True)
        assert ran.returncode == 0, ran.stderr
        assert re.search(r"processed: 100/100", ran.stdout), ran.stdout

done()
