#!/usr/bin/env python3
"""Cohort beside implicit and scikit-learn: the same rows, the same settings, the same threads, one evaluation.

Needs a running `cohort serve --demo`; see README.md. Makes its own environment on the first run.
"""
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from environment import enter_environment

THREADS = enter_environment()

import argparse
import importlib.metadata
import statistics
import time

import implicit
import numpy as np
import psycopg
import scipy.sparse as sp
from sklearn.cluster import KMeans
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

K = 10


def main():
    args = argparse.ArgumentParser(description=__doc__)
    args.add_argument("--url", default="postgresql://cohort@127.0.0.1:5433/cohort")
    args.add_argument("--repeat", type=int, default=3, help="runs of each, one after the other; medians are printed")
    args = args.parse_args()
    peers = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("implicit", "scikit-learn", "numpy"))
    print(f"{peers}; {THREADS} threads each; load {os.getloadavg()[0]:.1f}; medians of {args.repeat}\n")
    with psycopg.connect(args.url, autocommit=True) as connection:
        for job in (recommendations, clusters, classes):
            job(Cohort(connection), args.repeat)
    print(f"load at the end {os.getloadavg()[0]:.1f}")


class Cohort:
    """The running server."""

    def __init__(self, connection):
        self.connection = connection

    def run(self, sql):
        self.connection.execute(sql)

    def columns(self, sql):
        rows = self.connection.execute(sql).fetchall()
        return [np.array(column) for column in zip(*rows)]

    def train(self, name, options, query):
        """Seconds of the statement as its user waits for them, and of the training in it."""
        started = time.perf_counter()
        self.run(f"CREATE OR REPLACE MODEL {name} OPTIONS ({options}) AS {query}")
        whole = time.perf_counter() - started
        sql = f"SELECT training_seconds - reading_seconds FROM ml.model_versions WHERE model_name = '{name}' ORDER BY version DESC LIMIT 1"
        return whole, float(self.columns(sql)[0][0])


def recommendations(cohort, repeat):
    """Customers' purchases, split by time; what they bought new after it is to be found."""
    # The last fifth of the purchases.
    cohort.run("""CREATE OR REPLACE TABLE peers_events AS
        SELECT customer_id, product_id, ntile(5) OVER (ORDER BY event_ts, interaction_id) AS fifth
        FROM interactions WHERE event_type = 'purchase'""")
    bought = "SELECT customer_id, product_id, count(*) AS rating FROM peers_events WHERE fifth <= 4 GROUP BY 1, 2"
    started = time.perf_counter()
    customers, products, ratings = cohort.columns(bought)
    load = time.perf_counter() - started
    later = cohort.columns("SELECT DISTINCT customer_id, product_id FROM peers_events WHERE fifth = 5")
    seen = set(zip(customers.tolist(), products.tolist()))
    known = set(customers.tolist())
    expected = {}
    for customer, product in zip(*(column.tolist() for column in later)):
        if customer in known and (customer, product) not in seen:
            expected.setdefault(customer, set()).add(product)
    asked = np.array(sorted(expected))

    def quality(lists):
        """nDCG with a binary gain and recall, at K; the ideal is over min(found to be, K)."""
        discounts = 1 / np.log2(np.arange(2, K + 2))
        ndcg, recall = [], []
        for customer in asked:
            wanted = expected[customer]
            hits = np.array([product in wanted for product in lists.get(customer, [])[:K]], bool)
            ndcg.append(discounts[: len(hits)][hits].sum() / discounts[: min(len(wanted), K)].sum())
            recall.append(hits.sum() / len(wanted))
        return np.mean(ndcg), np.mean(recall)

    options = "model_type = 'matrix_factorization', num_factors = 64, max_iterations = 15, l2_reg = 10, wals_alpha = 1, seed = 1"
    ours, theirs = [], []
    for _ in range(repeat):
        ours.append(cohort.train("peers_taste", options + ", data_split_method = 'NO_SPLIT'", bought))
        started = time.perf_counter()
        users, user = np.unique(customers, return_inverse=True)
        items, item = np.unique(products, return_inverse=True)
        # implicit takes confidences: 1 + alpha * rating.
        matrix = sp.csr_matrix((1 + ratings.astype(np.float32), (user, item)), shape=(len(users), len(items)))
        prepared = time.perf_counter()
        als = implicit.als.AlternatingLeastSquares(
            factors=64, iterations=15, regularization=10.0, alpha=1.0, random_state=1, num_threads=int(THREADS), use_gpu=False)
        als.fit(matrix, show_progress=False)
        done = time.perf_counter()
        theirs.append((done - started, done - prepared))

    started = time.perf_counter()
    rows = np.searchsorted(users, asked)
    ids, _ = als.recommend(rows, matrix[rows], N=K, filter_already_liked_items=True)
    their_predict = time.perf_counter() - started
    theirs_lists = {customer: items[row].tolist() for customer, row in zip(asked, ids)}

    cohort.run("CREATE OR REPLACE TABLE peers_asked AS SELECT DISTINCT customer_id FROM peers_events WHERE fifth = 5")
    started = time.perf_counter()
    answer = cohort.columns(
        f"SELECT rank, customer_id, product_id FROM recommend('peers_taste', (SELECT customer_id FROM peers_asked), k => {K})")
    our_predict = time.perf_counter() - started
    our_lists = {}
    for _, who, what in sorted(zip(*(column.tolist() for column in answer))):
        our_lists.setdefault(who, []).append(what)

    by_popularity = items[np.argsort(-np.asarray((matrix > 0).sum(0)).ravel(), kind="stable")].tolist()
    popular = {who: list(first(K, (what for what in by_popularity if (who, what) not in seen))) for who in asked.tolist()}

    print(f"matrix_factorization: {len(users)} customers, {len(items)} products, {matrix.nnz} entries, 64 factors, 15 iterations;"
          f" {len(asked)} customers asked")
    head("implicit ALS")
    seconds("train", ours, theirs, 1)
    seconds("prepare + train (statement)", ours, theirs, 0)
    print(f"  {'load by psycopg, s':<30} {'':>12} {load:>14.3f}")
    line("top 10, s", our_predict, their_predict, their_predict / our_predict)
    (our_ndcg, our_recall), (ndcg, recall), (least_ndcg, least_recall) = map(quality, (our_lists, theirs_lists, popular))
    line("ndcg@10", our_ndcg, ndcg, our_ndcg / ndcg)
    line("recall@10", our_recall, recall, our_recall / recall)
    print(f"  popularity: ndcg@10 {least_ndcg:.4f}, recall@10 {least_recall:.4f}\n")


def clusters(cohort, repeat):
    """Sessions as they look; inertia of the labels around their means, over standardised columns."""
    cohort.run("""CREATE OR REPLACE TABLE peers_sessions AS
        SELECT s.session_id, ln(CAST(1 + s.n_events AS double precision)) AS ln_events,
               ln(1 + date_part('epoch', s.ended_ts) - date_part('epoch', s.started_ts)) AS ln_seconds,
               date_part('hour', s.started_ts) AS hour, date_part('dow', s.started_ts) AS weekday,
               date_part('epoch', s.started_ts) / 86400 AS day
        FROM sessions s ORDER BY session_id""")
    query = "SELECT * FROM peers_sessions"
    data = np.column_stack(cohort.columns(query)[1:]).astype(float)
    x = StandardScaler().fit_transform(data)

    def inertia(labels):
        return sum(((x[labels == label] - x[labels == label].mean(0)) ** 2).sum() for label in np.unique(labels))

    options = "model_type = 'kmeans', num_clusters = 8, n_init = 4, max_iterations = 100, tolerance = 0.0001, id_col = 'session_id'"
    ours, theirs, our_inertia, inertias = [], [], [], []
    for seed in range(repeat):
        ours.append(cohort.train("peers_styles", f"{options}, seed = {seed}", query))
        labels = cohort.columns(f"SELECT session_id, centroid_id FROM predict('peers_styles', ({query})) ORDER BY session_id")[1]
        our_inertia.append(inertia(labels))
        started = time.perf_counter()
        scaled = StandardScaler().fit_transform(data)
        prepared = time.perf_counter()
        fitted = KMeans(8, n_init=4, max_iter=100, tol=1e-4, random_state=seed).fit(scaled)
        done = time.perf_counter()
        theirs.append((done - started, done - prepared))
        inertias.append(inertia(fitted.labels_))
    print(f"kmeans: {len(data)} rows x {data.shape[1]}, 8 clusters, the best of 4 starts")
    head("scikit-learn")
    seconds("train", ours, theirs, 1)
    seconds("prepare + train (statement)", ours, theirs, 0)
    least, best = statistics.median(our_inertia), statistics.median(inertias)
    line("inertia", least, best, least / best)
    print()


def classes(cohort, repeat):
    """Which payments are frauds, by time: learned from the first four fifths, asked of the last."""
    cohort.run("""CREATE OR REPLACE TABLE peers_payments AS
        SELECT p.payment_id, p.is_fraud, p.method, CAST(p.amount AS double precision) AS amount,
               ln(1 + CAST(p.amount AS double precision)) AS ln_amount, date_part('hour', p.paid_ts) AS hour,
               date_part('dow', p.paid_ts) AS weekday, ntile(5) OVER (ORDER BY p.paid_ts, p.payment_id) AS fifth
        FROM payments p""")
    names = "is_fraud, method, amount, ln_amount, hour, weekday"
    query = f"SELECT {names} FROM peers_payments WHERE fifth <= 4"
    asked = f"SELECT payment_id, {names} FROM peers_payments WHERE fifth = 5"

    def rows(columns):
        return columns[0].astype(bool), np.column_stack([column.astype(object) for column in columns[1:]])

    y, x = rows(cohort.columns(query))
    later, wanted = rows(cohort.columns(f"{asked} ORDER BY payment_id")[1:])
    options = """model_type = 'logistic_reg', input_label_cols = 'is_fraud', l2_reg = 1, max_iterations = 100,
                 data_split_method = 'NO_SPLIT'"""
    ours, theirs = [], []
    for _ in range(repeat):
        ours.append(cohort.train("peers_fraud", options, query))
        columns = make_column_transformer((OneHotEncoder(handle_unknown="ignore"), [0]), (StandardScaler(), [1, 2, 3, 4]))
        peer = make_pipeline(columns, LogisticRegression(C=1.0, max_iter=100, tol=1e-4))
        started = time.perf_counter()
        prepared = peer[:-1].fit_transform(x)
        ready = time.perf_counter()
        peer[-1].fit(prepared, y)
        done = time.perf_counter()
        theirs.append((done - started, done - ready))
    ours_says = cohort.columns(f"SELECT payment_id, predicted_is_fraud_prob FROM predict('peers_fraud', ({asked})) ORDER BY payment_id")[1]
    theirs_says = peer.predict_proba(wanted)[:, 1]
    print(f"logistic_reg: {len(y)} rows, 1 text and 4 number columns; {len(later)} rows asked, {later.sum()} of them frauds")
    head("scikit-learn")
    seconds("train", ours, theirs, 1)
    seconds("prepare + train (statement)", ours, theirs, 0)
    line("log-loss", log_loss(later, ours_says), log_loss(later, theirs_says), log_loss(later, ours_says) / log_loss(later, theirs_says))
    line("ROC AUC", roc_auc_score(later, ours_says), roc_auc_score(later, theirs_says), roc_auc_score(later, ours_says) / roc_auc_score(later, theirs_says))
    print()


def first(n, values):
    return (value for _, value in zip(range(n), values))


def head(peer):
    print(f"  {'':<30} {'Cohort':>12} {peer:>14} {'ratio':>10}")


def seconds(what, ours, theirs, part):
    """A ratio of 2 is twice as fast as the peer."""
    ours, theirs = (statistics.median(run[part] for run in runs) for runs in (ours, theirs))
    line(f"{what}, s", ours, theirs, theirs / ours, " x as fast")


def line(what, ours, theirs, ratio, unit=""):
    print(f"  {what:<30} {ours:>12.4f} {theirs:>14.4f} {ratio:>10.4f}{unit}")


main()
