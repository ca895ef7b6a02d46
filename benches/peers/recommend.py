#!/usr/bin/env python3
"""Recommenders at scale, beside implicit and numpy: the same Parquet file, the same settings, the same threads, one judge.

Starts a server of its own on a data directory that it deletes again; see README.md. Makes its own environment on the
first run.
"""
import os
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
from environment import enter_environment

THREADS = enter_environment()

import argparse
import importlib.metadata
import json
import shutil
import socket
import statistics
import subprocess
import tempfile
import time
from contextlib import contextmanager

import implicit
import numpy as np
import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import scipy.sparse as sp
from implicit.nearest_neighbours import CosineRecommender
from threadpoolctl import threadpool_limits

K = 10
FACTORS, ITERATIONS, L2 = 64, 15, 10.0
SIZES = {  # interactions: customers, products
    "100k": (5_000, 1_500), "1m": (40_000, 8_000), "10m": (250_000, 25_000), "50m": (1_000_000, 80_000),
    "2m": (100_000, 20_000),
    "5m": (200_000, 1_000_000),  # of many products, most of them rare
}


def main():
    args = argparse.ArgumentParser(description=__doc__)
    args.add_argument("--scale", default="1m", choices=SIZES, help="interactions to learn from")
    args.add_argument("--data", help="a folder with interactions_<scale>_train.parquet and _test.parquet; made unless given")
    args.add_argument("--cohort", default=HERE / "../../target/release/cohort", help="the program")
    args.add_argument("--job", action="append", choices=JOBS, help="only these")
    args.add_argument("--repeat", type=int, default=3, help="runs of each, one after the other; medians are printed")
    args.add_argument("--factors", type=int, default=FACTORS)
    args = args.parse_args()
    peers = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("implicit", "numpy", "scipy"))
    print(f"{peers}; {THREADS} threads each; load {os.getloadavg()[0]:.1f}; medians of {args.repeat}")
    with served(args, args.scale, "train", "test") as (server, files, _):
        data = Data(files)
        print(f"{data.rows} interactions, {data.matrix.shape[0]} customers, {data.matrix.shape[1]} products\n")
        for job in args.job or JOBS:
            JOBS[job](server, data, args)
    print(f"load at the end {os.getloadavg()[0]:.1f}")


@contextmanager
def served(args, scale, *parts):
    """A server with those parts of the interactions as its tables, their files, and a folder that goes with the server."""
    folder = Path(tempfile.mkdtemp(prefix="cohort-peers-"))
    try:
        if not args.data:
            make(folder, scale)
        files = {part: Path(args.data or folder) / f"interactions_{scale}_{part}.parquet" for part in parts}
        with Server(args.cohort, folder / "data", files) as server:
            yield server, files, folder
    finally:
        shutil.rmtree(folder)


def make(folder, scale):
    """Customers of 40 tastes over products of a Zipf popularity; a tenth of what they took is kept to be found."""
    rng = np.random.default_rng(42)
    n_users, n_items = SIZES[scale]
    n = int(scale[:-1]) * {"k": 1_000, "m": 1_000_000}[scale[-1]]
    tastes = 40
    popularity = rng.permutation((20.0 + np.arange(n_items)) ** -1.0)
    liking = rng.dirichlet(np.full(tastes, 0.1), n_items).T * popularity
    liking = np.cumsum(liking / liking.sum(1, keepdims=True), 1)
    theta = np.cumsum(rng.dirichlet(np.full(tastes, 0.1), n_users), 1)
    activity = rng.lognormal(0, 1, n_users)
    pairs = np.empty(0, np.int64)
    while len(pairs) < n * 10 // 9:
        user = rng.choice(n_users, n, p=activity / activity.sum())
        taste = (theta[user] < rng.random((n, 1))).sum(1).clip(max=tastes - 1)
        item = np.empty(n, np.int64)
        draws = rng.random(n)
        for one in range(tastes):
            of = taste == one
            item[of] = np.searchsorted(liking[one], draws[of]).clip(max=n_items - 1)
        pairs = np.unique(np.concatenate([pairs, user * n_items + item]))
    pairs = rng.permutation(pairs)[: n * 10 // 9]
    user, item = pairs // n_items, pairs % n_items
    table = pa.table({
        "user_id": user * 7 + 1000, "item_id": item * 3 + 10,
        "rating": rng.geometric(0.5, len(pairs)).astype(np.float32),
        "ts": pa.array(np.sort(rng.integers(0, 365 * 86_400, len(pairs))) * 1_000_000, pa.timestamp("us")),
    })
    held = rng.random(len(pairs)) < 0.1
    for part, rows in (("train", ~held), ("test", held)):
        pq.write_table(table.filter(pa.array(rows)), folder / f"interactions_{scale}_{part}.parquet")


class Server:
    """`cohort serve` over a directory that these files were imported into, as tables of these names."""

    def __init__(self, program, data, files):
        self.program, self.data = str(Path(program).resolve()), str(data)
        for part, file in files.items():
            subprocess.run([self.program, "import", "--data-dir", self.data, part, str(file)], check=True,
                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def __enter__(self):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = self.port = free.getsockname()[1]
        self.process = subprocess.Popen(
            [self.program, "serve", "--data-dir", self.data, "--threads", THREADS, "--listen", f"127.0.0.1:{port}"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while True:
            try:
                self.connection = psycopg.connect(f"postgresql://cohort@127.0.0.1:{port}/cohort", autocommit=True)
                return self
            except psycopg.OperationalError:
                if self.process.poll() is not None:
                    raise
                time.sleep(0.05)

    def __exit__(self, *_):
        self.connection.close()
        self.process.terminate()
        self.process.wait()

    def timed(self, sql):
        started = time.perf_counter()
        self.connection.execute(sql)
        return time.perf_counter() - started

    def train(self, name, model_type, **options):
        options = {"model_type": model_type, "data_split_method": "NO_SPLIT", "seed": 1, **options}
        listed = ", ".join(f"{key} = {json.dumps(value) if not isinstance(value, str) else repr(value)}" for key, value in options.items())
        return self.timed(f"CREATE OR REPLACE MODEL {name} OPTIONS ({listed}) AS SELECT user_id, item_id, rating FROM train")

    def training_seconds(self, name, repeat):
        """From the rows read to the model, in memory and as it is stored; the median of the last versions."""
        last = (f"SELECT median(seconds) FROM (SELECT training_seconds - reading_seconds AS seconds FROM ml.model_versions"
                f" WHERE model_name = '{name}' ORDER BY version DESC LIMIT {repeat}) AS last")
        return self.connection.execute(last).fetchone()[0]

    def lists(self, table):
        """Ranked products of each customer, from a table of recommendations."""
        with self.connection.cursor(binary=True) as cursor:
            rows = cursor.execute(f"SELECT user_id, item_id, rank FROM {table}").fetchall()
        lists = {}
        for user, item, rank in rows:
            lists.setdefault(user, [None] * K)[rank - 1] = item
        return lists

    def peak_mb(self):
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) / 1024


class Data:
    """The same rows as a peer takes them."""

    def __init__(self, files):
        self.file = files["train"]
        self.matrix, self.users, self.items, self.rows = self.read()
        test = pq.read_table(files["test"], columns=["user_id", "item_id"])
        self.wanted = {}
        for user, item in zip(test["user_id"].to_pylist(), test["item_id"].to_pylist()):
            self.wanted.setdefault(user, set()).add(item)
        known = set(self.users.tolist())
        self.asked = sorted(user for user in self.wanted if user in known)[:20_000]

    def read(self):
        table = pq.read_table(self.file, columns=["user_id", "item_id", "rating"])
        users, user = np.unique(table["user_id"].to_numpy(), return_inverse=True)
        items, item = np.unique(table["item_id"].to_numpy(), return_inverse=True)
        ratings = table["rating"].to_numpy().astype(np.float32)
        return sp.csr_matrix((ratings, (user, item)), shape=(len(users), len(items))), users, items, len(ratings)

    def ndcg(self, lists):
        """Binary gain; the ideal is over min(found to be, K)."""
        discounts = 1 / np.log2(np.arange(2, K + 2))
        values = []
        for user in self.asked:
            hits = np.array([item in self.wanted[user] for item in lists.get(user, [])[:K]], bool)
            values.append(discounts[: len(hits)][hits].sum() / discounts[: min(len(self.wanted[user]), K)].sum())
        return float(np.mean(values))

    def lists(self, ids):
        rows = {user: row for row, user in enumerate(self.users.tolist())}
        return {user: self.items[ids[rows[user]]].tolist() for user in self.asked}


def alternating(repeat, ours, theirs):
    """Runs of both, one after the other; the medians, and what the last one of theirs gave."""
    mine, other, last = [], [], None
    for _ in range(repeat):
        mine.append(ours())
        seconds, last = theirs()
        other.append(seconds)
    return statistics.median(mine), tuple(statistics.median(part) for part in zip(*other)), last


def judged(server, data, model, ids):
    """Both rankings, judged alike."""
    server.timed(f"CREATE OR REPLACE TABLE recs AS SELECT * FROM recommend('{model}', k => {K})")
    ours, theirs = data.ndcg(server.lists("recs")), data.ndcg(data.lists(ids))
    line(f"ndcg@{K}", ours, theirs, ours / theirs)
    print()


def fit_peer(data, make_model, weigh=lambda matrix: matrix):
    """Seconds from the file, seconds of `fit` alone, and the model with its matrix."""
    started = time.perf_counter()
    matrix = data.read()[0]
    ready = time.perf_counter()
    model = make_model()
    model.fit(weigh(matrix), show_progress=False)
    done = time.perf_counter()
    return (done - started, done - ready), (model, matrix)


def als(server, data, args):
    def make_model():
        return implicit.als.AlternatingLeastSquares(
            factors=args.factors, iterations=ITERATIONS, regularization=L2, alpha=1.0, random_state=1, num_threads=int(THREADS), use_gpu=False)

    def weigh(matrix):
        # implicit takes confidences: 1 + alpha * rating.
        confidences = matrix.copy()
        confidences.data += 1
        return confidences

    mine, (whole, fit), (model, matrix) = alternating(
        args.repeat,
        lambda: server.train("mf", "matrix_factorization", num_factors=args.factors, max_iterations=ITERATIONS, l2_reg=L2, wals_alpha=1),
        lambda: fit_peer(data, make_model, weigh))
    head(f"matrix_factorization, {args.factors} factors, {ITERATIONS} iterations", "implicit ALS")
    training = server.training_seconds("mf", args.repeat)
    line("training against fit, s", training, fit, fit / training, " x as fast")
    line("statement against fit, s", mine, fit, fit / mine, " x as fast")
    line("file to model, s", mine, whole, whole / mine, " x as fast")
    print(f"  peak memory of the server so far {server.peak_mb():.0f} MB")

    everyone = np.arange(matrix.shape[0])
    factors, vectors = np.asarray(model.user_factors), np.asarray(model.item_factors)

    @threadpool_limits.wrap(limits=int(THREADS))
    def numpy_top():
        started = time.perf_counter()
        for at in range(0, len(everyone), 1024):
            scores = factors[at : at + 1024] @ vectors.T
            block = matrix[at : at + 1024]
            scores[np.repeat(np.arange(block.shape[0]), np.diff(block.indptr)), block.indices] = -np.inf
            best = np.argpartition(-scores, K, 1)[:, :K]
            np.take_along_axis(best, np.argsort(-np.take_along_axis(scores, best, 1), 1), 1)
        return time.perf_counter() - started

    def implicit_top():
        started = time.perf_counter()
        ids, _ = model.recommend(everyone, matrix, N=K, filter_already_liked_items=True)
        return (time.perf_counter() - started, numpy_top()), ids

    top = f"SELECT count(*), sum(score) FROM recommend('mf', k => {K})"
    mine, (theirs, numpy), ids = alternating(args.repeat, lambda: server.timed(top), implicit_top)
    head(f"top {K} of all customers, seen excluded, in SQL", "implicit")
    line("seconds", mine, theirs, theirs / mine, " x as fast")
    line("numpy GEMM + argpartition, s", mine, numpy, numpy / mine, " x as fast")
    judged(server, data, "mf", ids)


def item_knn(server, data, args):
    neighbours = 20
    mine, (whole, fit), (model, matrix) = alternating(
        args.repeat,
        lambda: server.train("knn", "item_knn", similarity="cosine", num_neighbors=neighbours),
        lambda: fit_peer(data, lambda: CosineRecommender(K=neighbours, num_threads=int(THREADS))))
    head("item_knn, cosine, 20 neighbours", "implicit")
    line("statement against fit, s", mine, fit, fit / mine, " x as fast")
    line("file to model, s", mine, whole, whole / mine, " x as fast")
    ids, _ = model.recommend(np.arange(matrix.shape[0]), matrix, N=K, filter_already_liked_items=True)
    judged(server, data, "knn", ids)


def bpr(server, data, args):
    settings = dict(learning_rate=0.05, regularization=0.005, iterations=60)

    def make_model():
        return implicit.bpr.BayesianPersonalizedRanking(
            factors=args.factors, random_state=1, num_threads=int(THREADS), use_gpu=False, **settings)

    mine, (whole, fit), (model, matrix) = alternating(
        args.repeat,
        lambda: server.train("pairs", "bpr", num_factors=args.factors, learn_rate=settings["learning_rate"],
                             l2_reg=settings["regularization"], max_iterations=settings["iterations"]),
        lambda: fit_peer(data, make_model))
    head(f"bpr, {args.factors} factors, {settings['iterations']} iterations", "implicit")
    line("statement against fit, s", mine, fit, fit / mine, " x as fast")
    line("file to model, s", mine, whole, whole / mine, " x as fast")
    ids, _ = model.recommend(np.arange(matrix.shape[0]), matrix, N=K, filter_already_liked_items=True)
    judged(server, data, "pairs", ids)


def ease(server, data, args):
    l2 = 500.0

    @threadpool_limits.wrap(limits=int(THREADS))
    def numpy_ease():
        started = time.perf_counter()
        x = data.read()[0]
        x.data[:] = 1
        ready = time.perf_counter()
        gram = (x.T @ x).toarray().astype(np.float64)
        gram[np.diag_indices_from(gram)] += l2
        inverse = np.linalg.inv(gram)
        weights = inverse / -np.diag(inverse)
        np.fill_diagonal(weights, 0)
        done = time.perf_counter()
        return (done - started, done - ready), (x, weights)

    mine, (whole, fit), (x, weights) = alternating(args.repeat, lambda: server.train("slim", "ease", l2_reg=l2), numpy_ease)
    head(f"ease, {x.shape[1]} products", "numpy")
    line("statement against inverse, s", mine, fit, fit / mine, " x as fast")
    line("file to model, s", mine, whole, whole / mine, " x as fast")
    ids = np.empty((x.shape[0], K), np.int64)
    for at in range(0, x.shape[0], 1024):
        block = x[at : at + 1024]
        scores = np.asarray(block @ weights)
        scores[np.repeat(np.arange(block.shape[0]), np.diff(block.indptr)), block.indices] = -np.inf
        ids[at : at + 1024] = np.argsort(-scores, 1, kind="stable")[:, :K]
    judged(server, data, "slim", ids)


def whole_job(server, data, args):
    """From a table with text keys to a table of recommendations for everybody."""
    import pandas as pd

    server.timed("CREATE OR REPLACE TABLE texts AS SELECT 'customer-' || user_id AS customer, 'sku-' || item_id AS sku, rating FROM train")
    folder = Path(tempfile.mkdtemp(prefix="cohort-peers-"))
    table = pq.read_table(data.file, columns=["user_id", "item_id", "rating"]).to_pandas()
    table = pd.DataFrame({"customer": "customer-" + table.user_id.astype(str), "sku": "sku-" + table.item_id.astype(str), "rating": table.rating})
    table.to_parquet(folder / "texts.parquet")

    def ours():
        seconds = server.timed(
            f"CREATE OR REPLACE MODEL job OPTIONS (model_type = 'matrix_factorization', num_factors = {args.factors}, max_iterations = {ITERATIONS},"
            f" l2_reg = {L2}, wals_alpha = 1, seed = 1, data_split_method = 'NO_SPLIT') AS SELECT customer, sku, rating FROM texts")
        return seconds + server.timed(f"CREATE OR REPLACE TABLE shown AS SELECT * FROM recommend('job', k => {K})")

    def theirs():
        started = time.perf_counter()
        rows = pd.read_parquet(folder / "texts.parquet")
        user, users = pd.factorize(rows.customer)
        item, items = pd.factorize(rows.sku)
        matrix = sp.csr_matrix((1 + rows.rating.to_numpy(), (user, item)), shape=(len(users), len(items)))
        model = implicit.als.AlternatingLeastSquares(
            factors=args.factors, iterations=ITERATIONS, regularization=L2, alpha=1.0, random_state=1, num_threads=int(THREADS), use_gpu=False)
        model.fit(matrix, show_progress=False)
        ids, scores = model.recommend(np.arange(len(users)), matrix, N=K, filter_already_liked_items=True)
        shown = pd.DataFrame({"customer": np.repeat(users, K), "sku": np.asarray(items)[ids.ravel()], "score": scores.ravel()})
        shown.to_parquet(folder / "shown.parquet")
        return (time.perf_counter() - started,), None

    mine, (theirs,), _ = alternating(args.repeat, ours, theirs)
    shutil.rmtree(folder)
    head("table with text keys to a table of recommendations for all", "pandas+implicit")
    line("seconds", mine, theirs, theirs / mine, " x as fast")
    print()


def head(what, peer):
    print(f"{what}\n  {'':<30} {'Cohort':>12} {peer:>16} {'ratio':>10}")


def line(what, ours, theirs, ratio, unit=""):
    print(f"  {what:<30} {ours:>12.4f} {theirs:>16.4f} {ratio:>10.4f}{unit}", flush=True)


JOBS = {"als": als, "item_knn": item_knn, "bpr": bpr, "ease": ease, "whole_job": whole_job}

if __name__ == "__main__":
    main()
