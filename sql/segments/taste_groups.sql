-- Taste groups.
--
-- Question  Which customers like the same things, whatever they spend, and what are those things?
-- Reads     interactions, products
-- Writes    models taste_vectors (matrix_factorization) and taste_groups (kmeans); view customer_directions
-- Result    for each group its size and the five products by which it differs most from everybody else. lift says
--           how many times likelier a customer of the group bought the product than a customer overall; only
--           products that at least a tenth of the group bought are listed. If the names in a group belong together, the
--           group is real: nothing here knows about names or categories, only about who bought what.
--
-- A factor model turns each customer into eight numbers (embed), so that customers with like baskets lie close together.
-- The numbers are brought to length 1: then taste decides, not how much somebody buys.

CREATE OR REPLACE MODEL taste_vectors
OPTIONS (model_type = 'matrix_factorization', num_factors = 8, seed = 1, data_split_method = 'NO_SPLIT') AS
SELECT customer_id, product_id, count(*) AS rating
FROM interactions
WHERE event_type = 'purchase'
GROUP BY customer_id, product_id;

-- Customers with five products or more: a taste cannot be read from one purchase.
CREATE OR REPLACE VIEW customer_directions AS
WITH vectors AS (
    SELECT customer_id, embed('taste_vectors', customer_id) AS v
    FROM interactions
    WHERE event_type = 'purchase'
    GROUP BY customer_id
    HAVING count(DISTINCT product_id) >= 5
),
lengths AS (
    SELECT customer_id, v,
           sqrt(power(v[1], 2) + power(v[2], 2) + power(v[3], 2) + power(v[4], 2)
              + power(v[5], 2) + power(v[6], 2) + power(v[7], 2) + power(v[8], 2)) AS length
    FROM vectors
)
SELECT customer_id,
       v[1] / length AS d1, v[2] / length AS d2, v[3] / length AS d3, v[4] / length AS d4,
       v[5] / length AS d5, v[6] / length AS d6, v[7] / length AS d7, v[8] / length AS d8
FROM lengths
WHERE length > 0;

CREATE OR REPLACE MODEL taste_groups OPTIONS (model_type = 'kmeans', num_clusters = 6, n_init = 10, id_col = 'customer_id', seed = 1) AS
SELECT * FROM customer_directions;

WITH grouped AS (
    SELECT customer_id, segment('taste_groups', d1, d2, d3, d4, d5, d6, d7, d8) AS taste_group
    FROM customer_directions
),
sized AS (
    SELECT customer_id, taste_group,
           count(*) OVER (PARTITION BY taste_group) AS in_group, count(*) OVER () AS in_all
    FROM grouped
),
bought AS (
    SELECT DISTINCT customer_id, product_id FROM interactions WHERE event_type = 'purchase'
),
counted AS (
    SELECT s.taste_group, b.product_id, max(s.in_group) AS in_group, max(s.in_all) AS in_all, count(*) AS buyers
    FROM sized s
    JOIN bought b ON b.customer_id = s.customer_id
    GROUP BY s.taste_group, b.product_id
),
compared AS (
    SELECT taste_group, product_id, in_group,
           1.0 * buyers / in_group                                                              AS share_in_group,
           1.0 * sum(buyers) OVER (PARTITION BY product_id) / in_all                            AS share_overall
    FROM counted
),
placed AS (
    SELECT *, row_number() OVER (PARTITION BY taste_group ORDER BY share_in_group / share_overall DESC, product_id) AS place
    FROM compared
    WHERE share_in_group >= 0.1
)
SELECT
    t.taste_group,
    t.in_group                                                              AS customers,
    t.place,
    p.name                                                                  AS product,
    CAST(100 * t.share_in_group AS numeric(5, 1))                           AS percent_of_group,
    CAST(t.share_in_group / t.share_overall AS numeric(6, 1))               AS lift
FROM placed t
JOIN products p ON p.product_id = t.product_id
WHERE t.place <= 5
ORDER BY t.in_group DESC, t.taste_group, t.place;
