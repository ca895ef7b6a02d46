-- Top recommendations by segment.
--
-- Question  What should each group of customers be shown, and how does it differ from what they bought most so far?
-- Reads     orders, interactions, products
-- Writes    model taste (matrix_factorization)
-- Result    for each RFM tier the five products recommended to most of its customers. percent_recommended: the share of the
--           tier's customers who have the product among their ten. percent_bought: the share who had it already (those
--           are never recommended it). A product with much of the first and little of the second is what to put on
--           that tier's page. Customers are sampled down to 500 a tier, by a hash of the key, to stay quick on large shops.

CREATE OR REPLACE MODEL taste OPTIONS (model_type = 'matrix_factorization', seed = 1, data_split_method = 'NO_SPLIT') AS
SELECT customer_id, product_id, count(*) AS rating
FROM interactions
WHERE event_type = 'purchase'
GROUP BY customer_id, product_id;

WITH tiers AS (
    SELECT customer_id, tier, row_number() OVER (PARTITION BY tier ORDER BY md5(CAST(customer_id AS text))) AS place
    FROM rfm((SELECT customer_id, order_ts, amount FROM orders))
),
sampled AS (
    SELECT customer_id, tier, count(*) OVER (PARTITION BY tier) AS customers
    FROM tiers
    WHERE place <= 500
),
shown AS (
    SELECT s.tier, r.product_id, count(*) AS times, max(s.customers) AS customers
    FROM recommend('taste', (SELECT customer_id FROM customers), k => 10) r
    JOIN sampled s ON s.customer_id = r.customer_id
    GROUP BY s.tier, r.product_id
),
bought AS (
    SELECT s.tier, i.product_id, count(DISTINCT i.customer_id) AS buyers
    FROM interactions i
    JOIN sampled s ON s.customer_id = i.customer_id
    WHERE i.event_type = 'purchase'
    GROUP BY s.tier, i.product_id
),
placed AS (
    SELECT *, row_number() OVER (PARTITION BY tier ORDER BY times DESC, product_id) AS place FROM shown
)
SELECT
    p.tier,
    p.place,
    n.name                                                                          AS product,
    CAST(100.0 * p.times / p.customers AS numeric(5, 1))                            AS percent_recommended,
    CAST(100.0 * coalesce(b.buyers, 0) / p.customers AS numeric(5, 1))              AS percent_bought,
    p.customers
FROM placed p
JOIN products n ON n.product_id = p.product_id
LEFT JOIN bought b ON b.tier = p.tier AND b.product_id = p.product_id
WHERE p.place <= 5
ORDER BY p.tier, p.place;
