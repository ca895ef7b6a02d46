#!/usr/bin/env python3
"""The wire beside PostgreSQL 15: the same rows to the same clients, one server after the other.

Starts both servers on directories that it deletes again; see README.md. Makes its own environment on the first run.
"""
import os
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
from environment import enter_environment

THREADS = enter_environment()

import argparse
import asyncio
import importlib.metadata
import io
import pwd
import shutil
import socket
import statistics
import struct
import subprocess
import tempfile
import time

import adbc_driver_postgresql.dbapi
import asyncpg
import numpy as np
import psycopg
import pyarrow as pa
import pyarrow.csv

QUERY = "SELECT * FROM wire"
COLUMNS = "id bigint, customer text, amount double precision, price numeric(12, 2), day date, at timestamp"


def main():
    args = argparse.ArgumentParser(description=__doc__)
    args.add_argument("--rows", type=int, default=1_000_000)
    args.add_argument("--cohort", default=HERE / "../../target/release/cohort", help="the program")
    args.add_argument("--postgres", default="/usr/lib/postgresql/15/bin", help="the folder of PostgreSQL's programs")
    args.add_argument("--job", action="append", choices=JOBS, help="only these")
    args.add_argument("--repeat", type=int, default=3, help="runs of each, one after the other; medians are printed")
    args = args.parse_args()
    clients = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("psycopg", "asyncpg", "adbc-driver-postgresql"))
    print(f"{clients}; {THREADS} threads; load {os.getloadavg()[0]:.1f}; {args.rows} rows of 6 columns; medians of {args.repeat}")
    folder = Path(tempfile.mkdtemp(prefix="cohort-wire-"))
    try:
        with Cohort(args.cohort, folder / "cohort") as ours, Postgres(Path(args.postgres), folder / "postgres") as theirs:
            file = rows_as_csv(args.rows)
            for server in (ours, theirs):
                server.fill(file)
            print(f"  {'':<24} {'Cohort':>12} {'PostgreSQL 15':>14} {'ratio':>8}")
            for name in args.job or JOBS:
                compare(name, JOBS[name], ours, theirs, args)
    finally:
        shutil.rmtree(folder)
    print(f"load at the end {os.getloadavg()[0]:.1f}")


def rows_as_csv(n):
    """Rows as a shop has them; one customer in fifty is unknown."""
    rng = np.random.default_rng(42)
    customers = [None if c % 50 == 0 else f"customer-{c}" for c in rng.integers(0, 100_000, n)]
    table = pa.table({
        "id": np.arange(n),
        "customer": customers,
        "amount": rng.gamma(2.0, 30.0, n),
        "price": [f"{cents / 100:.2f}" for cents in rng.integers(0, 10_000_000, n)],
        "day": pa.array(rng.integers(18_000, 20_000, n).astype(np.int32), pa.date32()),
        "at": pa.array(rng.integers(1_500_000_000_000_000, 1_700_000_000_000_000, n), pa.timestamp("us")),
    })
    out = io.BytesIO()
    pyarrow.csv.write_csv(table, out, pyarrow.csv.WriteOptions(include_header=False, quoting_style="none"))
    return out.getvalue()


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


class Server:
    """A server that clients reach by `url`."""

    def started(self, command, user):
        self.url = f"postgresql://{user}@127.0.0.1:{self.port}/{user}"
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while True:
            try:
                self.connection = psycopg.connect(self.url, autocommit=True)
                return self
            except psycopg.OperationalError:
                if self.process.poll() is not None:
                    raise
                time.sleep(0.05)

    def __exit__(self, *_):
        self.connection.close()
        self.process.terminate()
        self.process.wait()

    def fill(self, file):
        self.connection.execute(f"CREATE TABLE wire ({COLUMNS})")
        copy_in(self, "COPY wire FROM STDIN (FORMAT csv)", file)
        self.files = {options: b"".join(copy_out(self, f"COPY wire TO STDOUT {options}")) for options in FORMATS.values()}


class Cohort(Server):
    def __init__(self, program, data):
        self.program, self.data, self.port = str(Path(program).resolve()), str(data), free_port()

    def __enter__(self):
        return self.started([self.program, "serve", "--data-dir", self.data, "--threads", THREADS,
                             "--listen", f"127.0.0.1:{self.port}"], "cohort")


class Postgres(Server):
    """As it comes, without syncing: the disk is not what is measured."""

    def __init__(self, programs, data):
        self.programs, self.data, self.port = programs, data, free_port()

    def __enter__(self):
        # PostgreSQL does not run as root.
        as_user = []
        self.data.mkdir()
        if os.geteuid() == 0:
            user = pwd.getpwnam("postgres")
            self.data.parent.chmod(0o755)
            os.chown(self.data, user.pw_uid, user.pw_gid)
            as_user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
        subprocess.run([*as_user, self.programs / "initdb", "-D", self.data, "-U", "postgres", "--auth=trust", "--no-sync"],
                       check=True, stdout=subprocess.DEVNULL, cwd="/")
        return self.started([*as_user, self.programs / "postgres", "-D", self.data, "-p", str(self.port), "-k", "",
                             "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off", "-c", "shared_buffers=512MB",
                             "-c", "max_wal_size=4GB"], "postgres")


FORMATS = {"text": "", "csv": "(FORMAT csv)", "binary": "(FORMAT binary)"}


def copy_out(server, sql):
    with server.connection.cursor().copy(sql) as copy:
        return [bytes(piece) for piece in copy]


def copy_in(server, sql, file):
    with server.connection.cursor().copy(sql) as copy:
        for at in range(0, len(file), 1 << 16):
            copy.write(file[at:at + (1 << 16)])


def drained(binary):
    """A client that throws away what it reads, so that nothing but the server takes time."""
    def message(letter, body):
        return letter + struct.pack("!i", len(body) + 4) + body

    def run(server, rows):
        where = psycopg.conninfo.conninfo_to_dict(server.url)
        with socket.create_connection((where["host"], int(where["port"]))) as client:
            login = struct.pack("!i", 196608) + f"user\0{where['user']}\0database\0{where['dbname']}\0\0".encode()
            client.sendall(struct.pack("!i", len(login) + 4) + login)
            buffer, end = bytearray(1 << 20), b"Z\0\0\0\x05I"

            def until_ready():
                tail = b""
                while not tail.endswith(end):
                    n = client.recv_into(buffer)
                    assert n, "the server left"
                    tail = (tail + bytes(buffer[max(0, n - 6):n]))[-6:]

            until_ready()
            started = time.perf_counter()
            bind = b"\0\0" + struct.pack("!hhhh", 0, 0, 1, int(binary))
            client.sendall(message(b"P", b"\0" + QUERY.encode() + b"\0\0\0") + message(b"B", bind) + message(b"E", b"\0\0\0\0\0") + message(b"S", b""))
            until_ready()
            return time.perf_counter() - started
    return run


def psycopg_rows(binary):
    def run(server, rows):
        # Until all rows are with the client; turning them into Python's objects is not the server's work.
        cursor = server.connection.cursor(binary=binary)
        cursor.execute(QUERY)
        assert cursor.rowcount == rows
    return run


def psql(server, rows):
    subprocess.run(["psql", server.url, "-X", "-A", "-t", "-o", "/dev/null", "-c", QUERY], check=True)


def out_as(options):
    def run(server, rows):
        with server.connection.cursor().copy(f"COPY wire TO STDOUT {options}") as copy:
            assert sum(1 for _ in copy) >= rows
    return run


def psql_out_as(options):
    def run(server, rows):
        subprocess.run(["psql", server.url, "-X", "-o", "/dev/null", "-c", f"COPY wire TO STDOUT {options}"], check=True)
    return run


def in_as(options):
    def run(server, rows):
        server.connection.execute("DROP TABLE IF EXISTS copied")
        server.connection.execute(f"CREATE TABLE copied ({COLUMNS})")
        started = time.perf_counter()
        copy_in(server, f"COPY copied FROM STDIN {options}", server.files[options])
        return time.perf_counter() - started
    return run


def with_asyncpg(server, rows):
    async def fetch():
        connection = await asyncpg.connect(server.url)
        started = time.perf_counter()
        assert len(await connection.fetch(QUERY)) == rows
        seconds = time.perf_counter() - started
        await connection.close()
        return seconds
    return asyncio.run(fetch())


def with_adbc(server, rows):
    with adbc_driver_postgresql.dbapi.connect(server.url) as connection, connection.cursor() as cursor:
        started = time.perf_counter()
        cursor.execute(QUERY)
        assert cursor.fetch_arrow_table().num_rows == rows
        return time.perf_counter() - started


def pgbench(server, _):
    """Transactions a second of `SELECT 1`, prepared, by eight clients."""
    with tempfile.NamedTemporaryFile("w", suffix=".sql") as script:
        script.write("SELECT 1;\n")
        script.flush()
        told = subprocess.run(["pgbench", server.url, "-n", "-M", "prepared", "-c", "8", "-j", "2", "-T", "3", "-f", script.name],
                              check=True, capture_output=True, text=True).stdout
    return float(told.split("tps = ")[1].split()[0])


# What a run gives: seconds, as returned or as it took; for pgbench transactions a second.
JOBS = {
    "drained text": drained(False),
    "drained binary": drained(True),
    "psycopg text": psycopg_rows(False),
    "psycopg binary": psycopg_rows(True),
    "psql": psql,
    "asyncpg": with_asyncpg,
    "adbc": with_adbc,
    "psycopg copy text": out_as(FORMATS["text"]),
    "psycopg copy csv": out_as(FORMATS["csv"]),
    "psycopg copy binary": out_as(FORMATS["binary"]),
    "psql copy text": psql_out_as(FORMATS["text"]),
    "psql copy csv": psql_out_as(FORMATS["csv"]),
    "psql copy binary": psql_out_as(FORMATS["binary"]),
    "copy in text": in_as(FORMATS["text"]),
    "copy in csv": in_as(FORMATS["csv"]),
    "copy in binary": in_as(FORMATS["binary"]),
    "pgbench SELECT 1": pgbench,
}


def compare(name, job, ours, theirs, args):
    """Runs of both, one after the other."""
    def timed(server):
        started = time.perf_counter()
        seconds = job(server, args.rows)
        return time.perf_counter() - started if seconds is None else seconds

    try:
        runs = [(timed(ours), timed(theirs)) for _ in range(args.repeat)]
    except Exception as error:
        print(f"  {name:<24} failed: {str(error).splitlines()[0]}", flush=True)
        return
    mine, other = (statistics.median(part) for part in zip(*runs))
    if job is pgbench:
        print(f"  {name:<24} {mine:>8.0f} tps {other:>10.0f} tps {mine / other:>8.2f}", flush=True)
    else:
        print(f"  {name:<24} {mine:>11.2f}s {other:>13.2f}s {other / mine:>8.2f}", flush=True)


if __name__ == "__main__":
    main()
