-- Online Retail, 5 of 6: how strongly should the model be held back?
--
-- Question  Which l2_reg suits this shop? Too little and the model learns single purchases by heart; too much and its
--           vectors shrink to nothing, and with them every difference between customers.
-- Reads     interactions before September 2011 only: the months after it are kept for 06_evaluate.sql, where they can still
--           surprise us. Learned before July, compared on July and August.
-- Writes    models taste_l2_3, taste_l2_10, taste_l2_30 and taste_l2_100; view july_and_august
-- Result    one row an option. Take the highest ndcg; where the intervals overlap as widely as those of 10 and 30 do, either
--           will serve. baseline is the list of the most popular products, the same for all.

CREATE OR REPLACE MODEL taste_l2_3 OPTIONS (model_type = 'matrix_factorization', l2_reg = 3, seed = 1, data_split_method = 'NO_SPLIT') AS
SELECT customer_id, product_id, count(*) AS rating
FROM interactions WHERE event_type = 'purchase' AND event_ts < '2011-07-01' GROUP BY customer_id, product_id;

CREATE OR REPLACE MODEL taste_l2_10 OPTIONS (model_type = 'matrix_factorization', l2_reg = 10, seed = 1, data_split_method = 'NO_SPLIT') AS
SELECT customer_id, product_id, count(*) AS rating
FROM interactions WHERE event_type = 'purchase' AND event_ts < '2011-07-01' GROUP BY customer_id, product_id;

CREATE OR REPLACE MODEL taste_l2_30 OPTIONS (model_type = 'matrix_factorization', l2_reg = 30, seed = 1, data_split_method = 'NO_SPLIT') AS
SELECT customer_id, product_id, count(*) AS rating
FROM interactions WHERE event_type = 'purchase' AND event_ts < '2011-07-01' GROUP BY customer_id, product_id;

CREATE OR REPLACE MODEL taste_l2_100 OPTIONS (model_type = 'matrix_factorization', l2_reg = 100, seed = 1, data_split_method = 'NO_SPLIT') AS
SELECT customer_id, product_id, count(*) AS rating
FROM interactions WHERE event_type = 'purchase' AND event_ts < '2011-07-01' GROUP BY customer_id, product_id;

CREATE OR REPLACE VIEW july_and_august AS
SELECT DISTINCT customer_id, product_id
FROM interactions
WHERE event_type = 'purchase' AND event_ts >= '2011-07-01' AND event_ts < '2011-09-01';

WITH compared AS (
    SELECT 3 AS l2_reg, e.* FROM evaluate_ranking('taste_l2_3', (SELECT customer_id, product_id FROM july_and_august)) e
    UNION ALL
    SELECT 10, e.* FROM evaluate_ranking('taste_l2_10', (SELECT customer_id, product_id FROM july_and_august)) e
    UNION ALL
    SELECT 30, e.* FROM evaluate_ranking('taste_l2_30', (SELECT customer_id, product_id FROM july_and_august)) e
    UNION ALL
    SELECT 100, e.* FROM evaluate_ranking('taste_l2_100', (SELECT customer_id, product_id FROM july_and_august)) e
)
SELECT metric, l2_reg, CAST(value AS numeric(6, 4)) AS value, CAST(ci_low AS numeric(6, 4)) AS ci_low,
       CAST(ci_high AS numeric(6, 4)) AS ci_high, CAST(baseline AS numeric(6, 4)) AS baseline, n_users
FROM compared
WHERE metric IN ('ndcg', 'recall')
ORDER BY metric, l2_reg;
