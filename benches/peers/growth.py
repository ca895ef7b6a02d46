#!/usr/bin/env python3
"""How the time and the memory of matrix_factorization grow with the interactions: a server of its own for each size.

The exponent is that of time between one size and the next, log(time) over log(interactions): 1 is in proportion.
"""
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
from environment import enter_environment

THREADS = enter_environment()

import argparse
import math
import os
import statistics

from recommend import ITERATIONS, L2, SIZES, served


def main():
    args = argparse.ArgumentParser(description=__doc__)
    args.add_argument("--scale", action="append", choices=SIZES, help="1m, 10m and 50m unless given")
    args.add_argument("--data", help="a folder with interactions_<scale>_train.parquet; made unless given")
    args.add_argument("--cohort", default=HERE / "../../target/release/cohort", help="the program")
    args.add_argument("--factors", type=int, default=64)
    args.add_argument("--repeat", type=int, default=1, help="medians of so many trainings are printed")
    args = args.parse_args()
    print(f"{args.factors} factors, {ITERATIONS} iterations; {THREADS} threads; load {os.getloadavg()[0]:.1f}; medians of {args.repeat}")
    print(f"{'interactions':>12} {'customers':>10} {'products':>9} {'statement s':>12} {'training s':>11} {'exponent':>9} "
          f"{'peak MB':>8} {'of bound':>9}")
    before = None
    for scale in args.scale or ["1m", "10m", "50m"]:
        n, seconds, shown = measured(scale, args)
        exponent = math.log(seconds / before[1]) / math.log(n / before[0]) if before else float("nan")
        print(shown.format(exponent=exponent), flush=True)
        before = n, seconds


def measured(scale, args):
    with served(args, scale, "train") as (server, _, _):
        one = lambda sql: server.connection.execute(sql).fetchone()
        statements, trainings = [], []
        for _ in range(args.repeat):
            statements.append(server.train("mf", "matrix_factorization", num_factors=args.factors,
                                           max_iterations=ITERATIONS, l2_reg=L2, wals_alpha=1))
            trainings.append(one("SELECT training_seconds - reading_seconds FROM ml.model_versions ORDER BY version DESC LIMIT 1")[0])
        peak = server.peak_mb()
        n, customers, products = one("SELECT count(*), count(DISTINCT user_id), count(DISTINCT item_id) FROM train")
    # Two numbers for each interaction, from either side; the vectors.
    bound = 2.5 * (2 * 8 * n + 4 * args.factors * (customers + products)) / 1e6
    statement, training = statistics.median(statements), statistics.median(trainings)
    return n, statement, (f"{n:>12} {customers:>10} {products:>9} {statement:>12.2f} {training:>11.2f} {{exponent:>9.2f}} "
                          f"{peak:>8.0f} {peak / bound:>9.2f}")


if __name__ == "__main__":
    main()
