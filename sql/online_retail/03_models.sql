-- Online Retail, 3 of 6: what will customers like, and who will be back?
--
-- Question  Which products suit which customer? Who orders again within the next 30 days?
-- Reads     interactions, orders
-- Writes    models taste (matrix_factorization), bestsellers (popularity), returns_next_month (logistic_reg);
--           view customer_months
-- Result    evaluate('returns_next_month'): how the model does on the latest 30 days, none of which it learned from.
--           roc_auc is the chance that a customer who came back is ranked above one who did not: 0.5 is a coin.
--           accuracy stands next to baseline_accuracy, what one gets by always giving the commoner answer.

-- 1. Taste: one row for each customer and product, with the number of times it was bought. 05_choose_options.sql found l2_reg.
CREATE OR REPLACE MODEL taste OPTIONS (model_type = 'matrix_factorization', l2_reg = 30, seed = 1, data_split_method = 'NO_SPLIT') AS
SELECT customer_id, product_id, count(*) AS rating
FROM interactions
WHERE event_type = 'purchase'
GROUP BY customer_id, product_id;

-- 2. The list that everybody gets: what any recommender has to beat (06_evaluate.sql compares them).
CREATE OR REPLACE MODEL bestsellers OPTIONS (model_type = 'popularity', data_split_method = 'NO_SPLIT') AS
SELECT customer_id, product_id
FROM interactions
WHERE event_type = 'purchase'
GROUP BY customer_id, product_id;

-- 3. Every customer as the shop knew them on several days. Features come from before as_of only; the label is what
--    happened in the 30 days after it. The days are counted back from the end of the data, so that no label looks
--    beyond it; on the last day itself (months_back = 0) nobody knows yet, and the label is NULL.
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
    -- What happened then.
    CASE WHEN d.months_back > 0
         THEN max(CASE WHEN o.order_ts > d.as_of AND o.order_ts <= d.as_of + INTERVAL '30 days' THEN 1 ELSE 0 END) = 1
    END                                                                                                     AS returned
FROM days d
JOIN orders o ON o.order_ts <= d.as_of + INTERVAL '30 days'
GROUP BY d.months_back, d.as_of, o.customer_id
HAVING min(o.order_ts) <= d.as_of;

-- 4. Learned on the months 2 to 5 back, held out: the latest month whose outcome is known.
CREATE OR REPLACE MODEL returns_next_month
OPTIONS (model_type = 'logistic_reg', input_label_cols = 'returned', id_col = 'customer_id',
         data_split_method = 'CUSTOM', data_split_col = 'held_out') AS
SELECT customer_id, ln_days_since_last, ln_days_since_first, ln_orders, ln_orders_in_90_days, ln_spent, returned,
       months_back = 1 AS held_out
FROM customer_months
WHERE months_back BETWEEN 1 AND 5;

-- What moves the odds, and by how much for one standard deviation.
SELECT processed_input, CAST(weight AS numeric(6, 2)) AS weight
FROM weights('returns_next_month')
ORDER BY abs(weight) DESC;

-- 5. How good it is, on the month it has not seen.
SELECT n_rows AS customers, CAST(roc_auc AS numeric(5, 3)) AS roc_auc, CAST(pr_auc AS numeric(5, 3)) AS pr_auc,
       CAST(accuracy AS numeric(5, 3)) AS accuracy, CAST(baseline_accuracy AS numeric(5, 3)) AS baseline_accuracy,
       CAST(log_loss AS numeric(5, 3)) AS log_loss, CAST(baseline_log_loss AS numeric(5, 3)) AS baseline_log_loss
FROM evaluate('returns_next_month');
