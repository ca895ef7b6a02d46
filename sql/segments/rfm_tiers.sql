-- RFM tiers with names.
--
-- Question  How do our customers divide into the groups that marketing knows by name, and what is each group worth?
-- Reads     orders
-- Result    one row a tier, the most valuable first. percent_of_revenue adds up to 100. Compare it with
--           percent_of_customers: Champions are far above their share; Hibernating, far below. The days and orders show
--           why a tier has its name: At Risk bought as often as the loyal, but have been away for long.
--
-- rfm() scores recency, frequency and monetary value from 1 to 5 by quintiles and looks the pair (recency, the mean of
-- the other two) up in the usual grid. It looks from the latest order in the data, not from today.

SELECT
    tier,
    count(*)                                                                    AS customers,
    CAST(100.0 * count(*) / sum(count(*)) OVER () AS numeric(5, 1))             AS percent_of_customers,
    CAST(round(median(recency)) AS int)                                         AS median_days_away,
    CAST(avg(frequency) AS numeric(10, 1))                                      AS mean_orders,
    CAST(avg(monetary_value) AS numeric(12, 2))                                 AS mean_spent,
    CAST(sum(monetary_value) AS numeric(14, 2))                                 AS revenue,
    CAST(100.0 * sum(monetary_value) / sum(sum(monetary_value)) OVER () AS numeric(5, 1)) AS percent_of_revenue
FROM rfm((SELECT customer_id, order_ts, amount FROM orders))
GROUP BY tier
ORDER BY revenue DESC;
