#!/usr/bin/env python3
"""Small queries while large ones run: how long one client waits for each kind, with and without two clients that group
three million rows all the while. A PostgreSQL has no part in it: the question is whether the small are served."""
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
from environment import enter_environment

THREADS = enter_environment()

import argparse
import os
import random
import tempfile
import threading
import time

import numpy as np
import psycopg

from recommend import Server

SMALL = {
    "SELECT 1": ("SELECT 1", lambda: None),
    "count(*)": ("SELECT count(*) FROM orders", lambda: None),
    "one order": ("SELECT * FROM orders WHERE order_id = %s", lambda: (random.randrange(3_000_000),)),
    "one customer": ("SELECT sum(price) FROM orders WHERE customer_id = %s", lambda: (random.randrange(200_000),)),
    "recommend": ("SELECT * FROM recommend('taste', %s, k => 10)", lambda: (random.randrange(2_000),)),
}
LARGE = "SELECT customer_id, day, count(*), sum(price), avg(quantity) FROM orders GROUP BY 1, 2 ORDER BY 4 DESC LIMIT 10"


def main():
    args = argparse.ArgumentParser(description=__doc__)
    args.add_argument("--cohort", default=HERE / "../../target/release/cohort", help="the program")
    args.add_argument("--seconds", type=float, default=10, help="for each kind of query")
    args.add_argument("--large", type=int, default=2, help="clients that run large queries")
    args = args.parse_args()
    with tempfile.TemporaryDirectory(prefix="cohort-peers-") as data, Server(args.cohort, data, {}) as server:
        server.timed("CREATE TABLE orders AS SELECT i AS order_id, i * 7919 % 200000 AS customer_id, (i % 365)::int AS day,"
                     " (i % 9973) / 100.0 AS price, (i % 5)::int AS quantity FROM generate_series(0, 2999999) AS t(i)")
        server.timed("CREATE MODEL taste OPTIONS (model_type = 'matrix_factorization', num_factors = 16) AS"
                     " SELECT DISTINCT customer_id % 2000 AS customer, order_id % 997 AS product FROM orders LIMIT 100000")
        print(f"{THREADS} threads; load {os.getloadavg()[0]:.1f}")
        print(f"{'':<14} {'alone p50':>10} {'p99':>8}   {'beside p50':>10} {'p99':>8} {'most ms':>8}")
        alone = {name: waits(server, name, args.seconds / 2) for name in SMALL}
        stop, done = threading.Event(), []
        large = [threading.Thread(target=run_large, args=(server, stop, done)) for _ in range(args.large)]
        for thread in large:
            thread.start()
        for name in SMALL:
            beside = waits(server, name, args.seconds)
            figures = [*np.percentile(alone[name], [50, 99]), *np.percentile(beside, [50, 99]), max(beside)]
            print("{:<14} {:>10.2f} {:>8.2f}   {:>10.2f} {:>8.2f} {:>8.2f}".format(name, *figures), flush=True)
        stop.set()
        for thread in large:
            thread.join()
        print(f"a large query took {np.median(done):.2f} s")


def connected(server):
    return psycopg.connect(f"postgresql://cohort@127.0.0.1:{server.port}/cohort", autocommit=True)


def waits(server, name, seconds):
    """Milliseconds, a query each."""
    sql, values = SMALL[name]
    found, end = [], time.perf_counter() + seconds
    with connected(server) as connection:
        while time.perf_counter() < end:
            started = time.perf_counter()
            connection.execute(sql, values(), prepare=True).fetchall()
            found.append((time.perf_counter() - started) * 1e3)
            time.sleep(0.002)
    return found[5:]


def run_large(server, stop, done):
    with connected(server) as connection:
        while not stop.is_set():
            started = time.perf_counter()
            connection.execute(LARGE).fetchall()
            done.append(time.perf_counter() - started)


if __name__ == "__main__":
    main()
