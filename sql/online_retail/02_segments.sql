-- Online Retail, 2 of 6: who are the customers?
--
-- Question  Which customers are the best, which are leaving, and which buy alike?
-- Reads     orders, order_lines
-- Writes    customer_rfm   one row a customer: recency, frequency, monetary value, scores and tier
--           models tiers (rfm) and buying_styles (kmeans)
-- Result    tier by tier: how many customers, what they spent, and what share of the revenue that is. Champions are few
--           and carry most of it; At Risk and Can't Lose Them bought often or much, but long ago.

-- 1. Recency, frequency and monetary value at the end of the data, with the usual tiers.
CREATE OR REPLACE TABLE customer_rfm AS
SELECT * FROM rfm((SELECT customer_id, order_ts, amount FROM orders));

-- 2. The same rule, kept: the borders between the scores are stored, so that later customers are measured alike.
CREATE OR REPLACE MODEL tiers OPTIONS (model_type = 'rfm') AS
SELECT * FROM customer_rfm;

-- 3. Groups that nobody named beforehand, from how customers buy: how often, how much at once, how many different
--    products. Money and counts are skewed, so ln() first: doubling is then the same step for small and for large.
CREATE OR REPLACE MODEL buying_styles OPTIONS (model_type = 'kmeans', num_clusters = 4, id_col = 'customer_id', seed = 1) AS
SELECT
    o.customer_id,
    ln(1 + date_part('day', (SELECT max(order_ts) FROM orders) - max(o.order_ts)))  AS ln_recency_days,
    ln(count(DISTINCT o.order_id))                                                  AS ln_orders,
    ln(CAST(sum(l.quantity * l.unit_price) AS double precision))                    AS ln_spent,
    ln(CAST(sum(l.quantity) AS double precision) / count(*))                        AS ln_units_a_line
FROM orders o
JOIN order_lines l ON l.order_id = o.order_id
GROUP BY o.customer_id;

-- What the groups are: the middle of each, back in days, orders, pounds and units.
SELECT
    centroid_id                                                                                         AS style,
    max(n_rows)                                                                                         AS customers,
    CAST(max(CASE WHEN feature = 'ln_recency_days' THEN exp(value) - 1 END) AS numeric(10, 0))          AS days_since_last_order,
    CAST(max(CASE WHEN feature = 'ln_orders' THEN exp(value) END) AS numeric(10, 1))                    AS orders,
    CAST(max(CASE WHEN feature = 'ln_spent' THEN exp(value) END) AS numeric(12, 0))                     AS spent,
    CAST(max(CASE WHEN feature = 'ln_units_a_line' THEN exp(value) END) AS numeric(10, 1))              AS units_a_line
FROM centroids('buying_styles')
GROUP BY centroid_id
ORDER BY centroid_id;

-- 4. The tiers, with what they are worth.
SELECT
    segment('tiers', recency, frequency, monetary_value)                                                AS tier,
    count(*)                                                                                            AS customers,
    CAST(median(recency) AS numeric(10, 0))                                                             AS median_days_away,
    CAST(avg(frequency) AS numeric(10, 1))                                                              AS mean_orders,
    CAST(avg(monetary_value) AS numeric(12, 2))                                                         AS mean_spent,
    CAST(100.0 * sum(monetary_value) / sum(sum(monetary_value)) OVER () AS numeric(5, 1))               AS percent_of_revenue
FROM customer_rfm
GROUP BY 1
ORDER BY percent_of_revenue DESC, tier;
