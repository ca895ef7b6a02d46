#!/usr/bin/env python3
"""Tables beside DuckDB: a CSV file into a table, a segmentation over orders, rows that change; and single-row inserts.

Starts a server of its own on a data directory that it deletes again; see README.md. Makes its own environment on the
first run.
"""
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
from environment import enter_environment

THREADS = enter_environment()

import argparse
import asyncio
import os
import shutil
import statistics
import subprocess
import tempfile
import time

import asyncpg
import duckdb

from recommend import Server

ORDERS = """
SELECT i AS order_id, (hash(i) % {customers})::BIGINT AS customer_id,
       TIMESTAMP '2024-01-01' + to_seconds((hash(i + 1) % 63072000)::BIGINT) AS order_ts,
       round(5 + (hash(i + 2) % 50000) / 100.0, 2) AS amount, 'channel ' || hash(i + 3) % 7 AS channel
FROM range({rows}) t(i)"""
RFM = """
WITH c AS (SELECT customer_id, max(order_ts) AS last_ts, count(*) AS f, sum(CAST(round(amount * 100) AS BIGINT)) AS m
           FROM orders GROUP BY customer_id),
s AS (SELECT customer_id, f, m, ntile(5) OVER (ORDER BY last_ts, customer_id) AS r_s,
             ntile(5) OVER (ORDER BY f, customer_id) AS f_s, ntile(5) OVER (ORDER BY m, customer_id) AS m_s FROM c)
SELECT CASE WHEN r_s >= 4 AND f_s >= 4 AND m_s >= 4 THEN 'champions' WHEN r_s >= 3 AND f_s >= 3 THEN 'loyal'
            WHEN r_s <= 2 AND f_s >= 4 THEN 'at risk' ELSE 'other' END AS segment,
       count(*) AS n, sum(m) AS m, sum(f) AS f
FROM s GROUP BY 1 ORDER BY 1"""
UPDATE = "UPDATE orders SET amount = amount + 1 WHERE order_id < {changed}"
DELETE = "DELETE FROM orders WHERE order_id >= {rows} - {changed}"
MERGE = """
MERGE INTO orders USING (SELECT order_id + {rows} - {changed} - {changed} / 2 AS order_id, customer_id, order_ts, amount, channel
                         FROM orders WHERE order_id < {changed}) AS s ON orders.order_id = s.order_id
WHEN MATCHED THEN UPDATE SET amount = s.amount
WHEN NOT MATCHED THEN INSERT (order_id, customer_id, order_ts, amount, channel)
    VALUES (s.order_id, s.customer_id, s.order_ts, s.amount, s.channel)"""


def main():
    args = argparse.ArgumentParser(description=__doc__)
    args.add_argument("--rows", type=int, default=10_000_000)
    args.add_argument("--changed", type=int, default=1_000_000, help="rows that UPDATE, DELETE and MERGE are about")
    args.add_argument("--cohort", default=HERE / "../../target/release/cohort", help="the program")
    args.add_argument("--repeat", type=int, default=3, help="runs of each, one after the other; medians are printed")
    args.add_argument("--seconds", type=float, default=5, help="how long the inserts of each number of clients go on")
    args = args.parse_args()
    print(f"duckdb {duckdb.__version__}; {THREADS} threads each; load {os.getloadavg()[0]:.1f}; medians of {args.repeat}\n")
    folder = Path(tempfile.mkdtemp(prefix="cohort-storage-"))
    try:
        run(args, folder)
    finally:
        shutil.rmtree(folder)
    print(f"\nload at the end {os.getloadavg()[0]:.1f}")


def run(args, folder):
    file = folder / "orders.csv"
    duckdb.execute(f"COPY ({ORDERS.format(rows=args.rows, customers=args.rows // 12)}) TO '{file}' (HEADER)")
    print(f"{args.rows} orders, {file.stat().st_size / 2**20:.0f} MiB of CSV")
    ours, theirs, peaks = [], [], []
    for n in range(args.repeat):
        data, database = folder / f"data{n}", folder / f"peer{n}.db"
        seconds, peak = imported(args.cohort, data, file)
        ours.append(seconds)
        peaks.append(peak)
        peer = connected(database)
        theirs.append(timed(lambda: peer.execute(f"CREATE TABLE orders AS SELECT * FROM read_csv('{file}')")))
        peer.close()
        if n + 1 < args.repeat:
            shutil.rmtree(data)
            database.unlink()
    report("CSV into a table", ours, theirs)
    print(f"{'':28}peak of the import {max(peaks) / 1024:.0f} MiB")
    peer = connected(database)
    with Server(args.cohort, data, {}) as server:
        same(server.connection.execute(RFM).fetchall(), peer.execute(RFM).fetchall())
        measure(args, "segments of all customers", server, peer, RFM)
        values = vars(args)
        for name, sql in (("UPDATE", UPDATE), ("MERGE", MERGE), ("DELETE", DELETE)):
            sql = sql.format(**values)
            ours = [server.timed(sql)]
            theirs = [timed(lambda: peer.execute(sql))]
            report(f"{name} of {args.changed} rows", ours, theirs)
        total = "SELECT count(*), sum(order_id), sum(CAST(round(amount * 100) AS BIGINT)) FROM orders"
        same(server.connection.execute(total).fetchall(), peer.execute(total).fetchall())
        print(f"{'':28}peak of the server {peak_of(server.process.pid) / 1024:.0f} MiB\n")
        for clients in (1, 8, 64):
            server.connection.execute("CREATE OR REPLACE TABLE inserted (client int, n int, note text)")
            done = asyncio.run(inserts(server.port, clients, args.seconds))
            (counted,) = server.connection.execute("SELECT count(*) FROM inserted").fetchone()
            assert counted == done, (counted, done)
            print(f"single-row INSERT, {clients:2} clients: {done / args.seconds:.0f} a second")


# What a process holds at its peak begins with what its parent held, so that a small one stands between.
MEASURE = """
import resource, subprocess, sys, time
started = time.perf_counter()
subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
print(time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"""


def imported(program, data, file):
    """Seconds, and the peak of memory in KiB."""
    command = [str(Path(program).resolve()), "import", "--data-dir", str(data), "orders", str(file)]
    seconds, peak = subprocess.check_output([sys.executable, "-c", MEASURE, *command], text=True).split()
    return float(seconds), int(peak)


def connected(database):
    return duckdb.connect(str(database), config={"threads": int(THREADS)})


def timed(work):
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def measure(args, name, server, peer, sql):
    ours, theirs = [], []
    for _ in range(args.repeat):
        ours.append(timed(lambda: server.connection.execute(sql).fetchall()))
        theirs.append(timed(lambda: peer.execute(sql).fetchall()))
    report(name, ours, theirs)


def report(name, ours, theirs):
    ours, theirs = statistics.median(ours), statistics.median(theirs)
    print(f"{name:28}{ours:8.2f} s   duckdb {theirs:8.2f} s   {theirs / ours:5.2f} x")


def same(ours, theirs):
    ours, theirs = ([tuple(str(value) for value in row) for row in rows] for rows in (ours, theirs))
    assert ours == theirs, (ours, theirs)


def peak_of(pid):
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])


async def inserts(port, clients, seconds):
    """So many clients insert one row after the other for so long; how many rows they were told are there."""
    until = time.perf_counter() + seconds

    async def client(number):
        connection = await asyncpg.connect(f"postgresql://cohort@127.0.0.1:{port}/cohort")
        done = 0
        while time.perf_counter() < until:
            await connection.execute("INSERT INTO inserted VALUES ($1, $2, $3)", number, done, "a row of its own")
            done += 1
        await connection.close()
        return done

    return sum(await asyncio.gather(*(client(number) for number in range(clients))))


if __name__ == "__main__":
    main()
