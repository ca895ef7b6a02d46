-- Online Retail, 6 of 6: would it have worked?
--
-- Question  Had the shop recommended on 1 September 2011, how many of the new products that customers bought until
--           December would have been in their ten?
-- Reads     interactions
-- Writes    model taste_in_august, which knows nothing from September on
-- Result    for each metric the model's value, its 95 % interval over customers, and the baseline: the ten products
--           that most customers had. A model is better where ci_low is above the baseline. Products that a customer
--           had before September do not count, neither as hit nor as miss: these are new discoveries only.
--           The first answer is over customers whom the shop knew in August, the second over everybody:
--           n_cold_users were new after August and get the popular products from both.
--           l2_reg was chosen on July and August (05_choose_options.sql), never on these rows.

CREATE OR REPLACE MODEL taste_in_august OPTIONS (model_type = 'matrix_factorization', l2_reg = 30, seed = 1, data_split_method = 'NO_SPLIT') AS
SELECT customer_id, product_id, count(*) AS rating
FROM interactions
WHERE event_type = 'purchase' AND event_ts < '2011-09-01'
GROUP BY customer_id, product_id;

-- Only customers whom the shop knew in August.
SELECT metric, k, CAST(value AS numeric(6, 4)) AS value, CAST(ci_low AS numeric(6, 4)) AS ci_low,
       CAST(ci_high AS numeric(6, 4)) AS ci_high, CAST(baseline AS numeric(6, 4)) AS baseline, n_users
FROM evaluate_ranking('taste_in_august', (
    SELECT customer_id, product_id FROM interactions
    WHERE event_type = 'purchase' AND event_ts >= '2011-09-01'
      AND customer_id IN (SELECT customer_id FROM interactions WHERE event_type = 'purchase' AND event_ts < '2011-09-01')))
WHERE metric IN ('ndcg', 'recall')
ORDER BY metric;

-- Everybody who bought.
SELECT metric, k, CAST(value AS numeric(6, 4)) AS value, CAST(ci_low AS numeric(6, 4)) AS ci_low,
       CAST(ci_high AS numeric(6, 4)) AS ci_high, CAST(baseline AS numeric(6, 4)) AS baseline, n_users, n_cold_users
FROM evaluate_ranking('taste_in_august', (
    SELECT customer_id, product_id FROM interactions WHERE event_type = 'purchase' AND event_ts >= '2011-09-01'))
ORDER BY metric;
