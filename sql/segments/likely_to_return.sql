-- Likely to return next month.
--
-- Question  Which customers will order within the next 30 days, and how sure is that?
-- Reads     orders, customers
-- Writes    view customer_months, model returns_next_month
-- Result    first how good the model is on the latest 30 days, which it has not learned from: roc_auc is the chance that
--           a customer who came back is ranked above one who did not (0.5 is a coin), and log_loss must lie below
--           baseline_log_loss. Then the same month cut into tenths by the model's probability: what was predicted and
--           what came true should go together, and the first tenth should return far more often than the last.
--           Then the 50 likeliest for the month that has not begun.
--
-- Nothing leaks: a feature knows only what came before its day (as_of), a label only the 30 days after it, and the month that
-- the model is judged by lies wholly after the days it learned from. Trained on months 2 to 5 back, judged on month 1,
-- asked about month 0. All days are counted back from the latest order in the data.

CREATE OR REPLACE VIEW customer_months AS
WITH days AS (
    SELECT d.months_back, e.end_ts - d.back AS as_of
    FROM (SELECT max(order_ts) AS end_ts FROM orders) e
    CROSS JOIN (VALUES (0, INTERVAL '0 days'), (1, INTERVAL '30 days'), (2, INTERVAL '60 days'), (3, INTERVAL '90 days'),
                       (4, INTERVAL '120 days'), (5, INTERVAL '150 days')) AS d(months_back, back)
)
SELECT
    d.months_back,
    d.as_of,
    o.customer_id,
    -- What was known on the day, in logarithms: from 1 to 2 orders is a step as large as from 10 to 20.
    ln(1 + date_part('epoch', d.as_of - max(CASE WHEN o.order_ts <= d.as_of THEN o.order_ts END)) / 86400)  AS ln_days_since_last,
    ln(1 + date_part('epoch', d.as_of - min(o.order_ts)) / 86400)                                           AS ln_days_since_first,
    ln(count(CASE WHEN o.order_ts <= d.as_of THEN 1 END))                                                   AS ln_orders,
    ln(1 + count(CASE WHEN o.order_ts <= d.as_of AND o.order_ts > d.as_of - INTERVAL '90 days' THEN 1 END)) AS ln_orders_in_90_days,
    ln(CAST(sum(CASE WHEN o.order_ts <= d.as_of THEN o.amount END) AS double precision))                    AS ln_spent,
    -- What happened then; on the last day of the data nobody knows yet.
    CASE WHEN d.months_back > 0
         THEN max(CASE WHEN o.order_ts > d.as_of THEN 1 ELSE 0 END) = 1
    END                                                                                                     AS returned
FROM days d
JOIN orders o ON o.order_ts <= d.as_of + INTERVAL '30 days'
GROUP BY d.months_back, d.as_of, o.customer_id
HAVING min(o.order_ts) <= d.as_of;

CREATE OR REPLACE MODEL returns_next_month
OPTIONS (model_type = 'logistic_reg', input_label_cols = 'returned', id_col = 'customer_id',
         data_split_method = 'CUSTOM', data_split_col = 'held_out') AS
SELECT customer_id, ln_days_since_last, ln_days_since_first, ln_orders, ln_orders_in_90_days, ln_spent, returned,
       months_back = 1 AS held_out
FROM customer_months
WHERE months_back BETWEEN 1 AND 5;

SELECT n_rows AS customers, CAST(roc_auc AS numeric(5, 3)) AS roc_auc, CAST(pr_auc AS numeric(5, 3)) AS pr_auc,
       CAST(accuracy AS numeric(5, 3)) AS accuracy, CAST(baseline_accuracy AS numeric(5, 3)) AS baseline_accuracy,
       CAST(log_loss AS numeric(5, 3)) AS log_loss, CAST(baseline_log_loss AS numeric(5, 3)) AS baseline_log_loss
FROM evaluate('returns_next_month');

-- The month that was held out, in tenths.
WITH judged AS (
    SELECT returned,
           predict_proba('returns_next_month', ln_days_since_last, ln_days_since_first, ln_orders, ln_orders_in_90_days, ln_spent) AS probability
    FROM customer_months
    WHERE months_back = 1
),
tenths AS (
    SELECT *, ntile(10) OVER (ORDER BY probability DESC) AS tenth FROM judged
)
SELECT
    tenth,
    count(*)                                                                            AS customers,
    CAST(100 * avg(probability) AS numeric(5, 1))                                       AS percent_predicted,
    CAST(100.0 * count(CASE WHEN returned THEN 1 END) / count(*) AS numeric(5, 1))      AS percent_returned
FROM tenths
GROUP BY tenth
ORDER BY tenth;

-- The month to come.
WITH asked AS (
    SELECT customer_id, ln_days_since_last, ln_orders,
           predict_proba('returns_next_month', ln_days_since_last, ln_days_since_first, ln_orders, ln_orders_in_90_days, ln_spent) AS probability
    FROM customer_months
    WHERE months_back = 0
)
SELECT
    a.customer_id,
    c.country,
    CAST(round(exp(a.ln_orders)) AS int)                AS orders,
    CAST(round(exp(a.ln_days_since_last) - 1) AS int)   AS days_since_last_order,
    CAST(a.probability AS numeric(4, 3))                AS probability_of_return
FROM asked a
JOIN customers c ON c.customer_id = a.customer_id
ORDER BY a.probability DESC, a.customer_id
LIMIT 50;
