#!/usr/bin/env python3
"""Recommendations for one customer among a million products, asked by many clients at once over the wire.

Each client asks for the next customer as soon as it has the last one (pgbench, which PostgreSQL's packages bring).
Beside it stands one product of a vector with all products' vectors in numpy, by one client alone.
"""
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
from environment import enter_environment

THREADS = enter_environment()

import argparse
import os
import shutil
import subprocess
import time

import numpy as np

from recommend import L2, served

SCALE = "5m"
SCRIPT = "\\set customer random(0, 199999) * 7 + 1000\nSELECT item_id, score FROM recommend('mf', :customer, k => 10);\n"


def main():
    args = argparse.ArgumentParser(description=__doc__)
    args.add_argument("--data", help="a folder with interactions_5m_train.parquet; made unless given")
    args.add_argument("--cohort", default=HERE / "../../target/release/cohort", help="the program")
    args.add_argument("--pgbench", default=shutil.which("pgbench") or "/usr/lib/postgresql/15/bin/pgbench")
    args.add_argument("--clients", type=int, action="append", help="1, 8 and 64 unless given")
    args.add_argument("--seconds", type=int, default=10, help="for each number of clients")
    args.add_argument("--rate", type=float, help="requests a second in all; as fast as answers come unless given")
    args.add_argument("--factors", type=int, default=64)
    args.add_argument("--protocol", default="prepared", choices=("simple", "extended", "prepared"), help="as pgbench's -M")
    args = args.parse_args()
    with served(args, SCALE, "train") as (server, _, folder):
        server.train("mf", "matrix_factorization", num_factors=args.factors, max_iterations=5, l2_reg=L2, wals_alpha=1)
        products = server.connection.execute("SELECT count(DISTINCT item_id) FROM train").fetchone()[0]
        print(f"{products} products, {args.factors} factors; {THREADS} threads; load {os.getloadavg()[0]:.1f}")
        print(f"{'clients':>8} {'answers/s':>10} {'p50 ms':>8} {'p99 ms':>8} {'most ms':>8}")
        for clients in args.clients or [1, 8, 64]:
            print(asked(server, folder, clients, args), flush=True)
        print(f"peak memory of the server {server.peak_mb():.0f} MB")
    print(f"numpy, one client: {dot_product(products, args.factors) * 1e3:.1f} ms a customer")


def asked(server, folder, clients, args):
    (folder / "script.sql").write_text(SCRIPT)
    for old in folder.glob("log*"):
        old.unlink()
    rate = ["-R", str(args.rate)] if args.rate else []
    subprocess.run(
        [args.pgbench, "-n", "-M", args.protocol, "-c", str(clients), "-j", "1", "-T", str(args.seconds), "-l", "--log-prefix",
         str(folder / "log"), "-f", str(folder / "script.sql"), *rate, "-h", "127.0.0.1", "-p", str(server.port), "-U",
         "cohort", "cohort"],
        check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    waits = np.concatenate([np.loadtxt(log, usecols=2, ndmin=1) for log in folder.glob("log*")]) / 1e3
    p50, p99 = np.percentile(waits, [50, 99])
    return f"{clients:>8} {len(waits) / args.seconds:>10.0f} {p50:>8.2f} {p99:>8.2f} {waits.max():>8.2f}"


def dot_product(products, factors):
    rng = np.random.default_rng(1)
    vectors, customers = rng.standard_normal((products, factors), np.float32), rng.standard_normal((20, factors), np.float32)
    started = time.perf_counter()
    for customer in customers:
        scores = vectors @ customer
        np.argpartition(-scores, 10)[:10]
    return (time.perf_counter() - started) / len(customers)


if __name__ == "__main__":
    main()
